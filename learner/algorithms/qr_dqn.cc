#include "learner/algorithms/qr_dqn.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "learner/losses.h"

namespace qfleet {

QrDqn::Loss QrDqn::ComputeLoss(const Batch& batch) {
  at::Tensor target;  // [B, N]
  {
    c10::NoGradGuard no_gradient;
    const at::Tensor next = Target(batch["next_observation"]);  // [B, A, N]
    target = ValueTarget(batch, ValueOf(next, ChooseNext(batch, next)));
  }
  const at::Tensor output = Online(batch["observation"]);  // [B, A, N]
  const at::Tensor quantiles =
      ValueOf(output, batch["action"].to(at::kLong));  // [B, N]
  const at::Tensor losses =
      QuantileHuber(quantiles, target, config().qr_dqn().huber_delta());
  const at::Tensor loss = WeightedMean(losses, batch.weights());
  c10::NoGradGuard no_gradient;
  return {.loss = loss,
          .td = (target - quantiles).mean(1),
          .values = network().Values(output)};
}

}  // namespace qfleet
