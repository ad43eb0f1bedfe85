#include "learner/algorithms/dqn.h"

#include <ATen/ATen.h>

#include "learner/losses.h"

namespace qfleet {

Dqn::Loss Dqn::ComputeLoss(const Batch& batch) {
  const at::Tensor next = Target(batch);  // [B, A]
  const OnlineOutputs online = Online(batch);
  const at::Tensor target =
      ValueTarget(batch, ValueOf(next, ChooseNext(batch, next, online)));  // [B]
  const at::Tensor td =
      target - ValueOf(online.now, batch["action"].to(at::kLong));  // [B]
  return {.loss = WeightedMean(Huber(td, huber_delta_), batch.weights()),
          .td = td,
          .values = online.now};
}

}  // namespace qfleet
