#include "learner/algorithms/iterated_dqn.h"

#include <ATen/ATen.h>

#include "learner/losses.h"

namespace qfleet {

// Copy i of the online networks is Q_{i+1}, copy i of the targets Qbar_i: the
// one fits the other's image.
IteratedDqn::Loss IteratedDqn::ComputeLoss(const Batch& batch) {
  const at::Tensor actions = batch["action"].to(at::kLong);
  Loss all;
  for (int i = 0; i < network().copies(); ++i) {
    const at::Tensor next = Target(batch, i);  // [B, A]
    const OnlineOutputs online = Online(batch, i);
    const at::Tensor target =
        ValueTarget(batch, ValueOf(next, ChooseNext(batch, next, online)));
    const at::Tensor td = target - ValueOf(online.now, actions);  // [B]
    const at::Tensor loss = WeightedMean(
        Huber(td, config().i_dqn().huber_delta()), batch.weights());
    if (i == 0) {
      all = {.loss = loss, .td = td, .values = online.now};
    } else {
      all.loss = all.loss + loss;
    }
  }
  return all;
}

IteratedDqn::Moves IteratedDqn::MovesAfter(int64_t updates) const {
  if (updates % config().target_period() == 0) {
    return {.follow = config().target_tau(), .shift = 1};
  }
  if (updates % config().i_dqn().sync_period() == 0) return {.chain = 1};
  return {};
}

}  // namespace qfleet
