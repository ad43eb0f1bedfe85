#include "learner/algorithms/qr_dqn.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "learner/losses.h"

namespace qfleet {

QrDqn::Loss QrDqn::ComputeLoss(const Batch& batch) {
  const at::Tensor next = Target(batch);  // [B, A, N]
  const OnlineOutputs online = Online(batch);
  const at::Tensor target = ValueTarget(
      batch, ValueOf(next, ChooseNext(batch, next, online)));  // [B, N]
  const at::Tensor quantiles =
      ValueOf(online.now, batch["action"].to(at::kLong));  // [B, N]
  const at::Tensor losses =
      QuantileHuber(quantiles, target, config().qr_dqn().huber_delta());
  const at::Tensor loss = WeightedMean(losses, batch.weights());
  c10::NoGradGuard no_gradient;
  return {.loss = loss,
          .td = (target - quantiles).mean(1),
          .values = network().Values(online.now)};
}

}  // namespace qfleet
