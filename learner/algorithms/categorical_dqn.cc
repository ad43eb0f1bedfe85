#include "learner/algorithms/categorical_dqn.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "learner/losses.h"

namespace qfleet {

CategoricalDqn::Loss CategoricalDqn::ComputeLoss(const Batch& batch) {
  const at::Tensor& support = network().support();  // [N]
  const at::Tensor next = Target(batch);            // [B, A, N]
  const OnlineOutputs online = Online(batch);
  const at::Tensor best = ValueOf(next, ChooseNext(batch, next, online));
  const at::Tensor target =
      ProjectCategorical(batch["return"], batch["discount"], best.softmax(1),
                         support);  // [B, N]
  const at::Tensor logits =
      ValueOf(online.now, batch["action"].to(at::kLong));  // [B, N]
  const at::Tensor loss =
      WeightedMean(CrossEntropy(logits, target), batch.weights());
  c10::NoGradGuard no_gradient;
  return {.loss = loss,
          .td = (target - logits.softmax(1)).matmul(support),
          .values = network().Values(online.now)};
}

}  // namespace qfleet
