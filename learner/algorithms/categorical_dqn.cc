#include "learner/algorithms/categorical_dqn.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "learner/losses.h"

namespace qfleet {

CategoricalDqn::Loss CategoricalDqn::ComputeLoss(const Batch& batch) {
  const at::Tensor& support = network().support();  // [N]
  at::Tensor target;                                // [B, N]
  {
    c10::NoGradGuard no_gradient;
    const at::Tensor next = Target(batch["next_observation"]);  // [B, A, N]
    const at::Tensor best = ValueOf(next, ChooseNext(batch, next));
    target = ProjectCategorical(batch["return"], batch["discount"],
                                best.softmax(1), support);
  }
  const at::Tensor output = Online(batch["observation"]);  // [B, A, N]
  const at::Tensor logits =
      ValueOf(output, batch["action"].to(at::kLong));  // [B, N]
  const at::Tensor loss =
      WeightedMean(CrossEntropy(logits, target), batch.weights());
  c10::NoGradGuard no_gradient;
  return {.loss = loss,
          .td = (target - logits.softmax(1)).matmul(support),
          .values = network().Values(output)};
}

}  // namespace qfleet
