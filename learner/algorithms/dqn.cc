#include "learner/algorithms/dqn.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "learner/losses.h"

namespace qfleet {

Dqn::Loss Dqn::ComputeLoss(const Batch& batch) {
  at::Tensor target;  // [B]
  {
    c10::NoGradGuard no_gradient;
    const at::Tensor next = Target(batch["next_observation"]);  // [B, A]
    target = ValueTarget(batch, ValueOf(next, ChooseNext(batch, next)));
  }
  const at::Tensor q = Online(batch["observation"]);  // [B, A]
  const at::Tensor td =
      target - ValueOf(q, batch["action"].to(at::kLong));  // [B]
  return {.loss = WeightedMean(Huber(td, huber_delta_), batch.weights()),
          .td = td,
          .values = q};
}

}  // namespace qfleet
