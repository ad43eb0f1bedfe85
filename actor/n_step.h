// n-step returns of one environment's transitions.
//
// An item spans steps [first, last] of one episode, k = last - first of them:
//   return   = r_0 + gamma r_1 + ... + gamma^(k-1) r_(k-1)
//   discount = gamma^k, or 0 where the span ends terminated
// and is made when the value of its last observation is known, because its
// initial priority is the actor's own TD error (Horgan et al. 2018):
//   |return + discount * max_a Q(last) - Q(first, action)|
// with Q-values that were computed to act: no further forward pass. Rewards may
// be clipped first. With value rescaling (common/value_rescaling.h) the
// Q-values are rescaled ones, and so is the error:
//   |h(return + discount * h^-1(max_a Q(last))) - Q(first, action)|
//
// k = n in the midst of an episode. At its end items of n, n-1, ..., 1 steps
// are made, of every transition that is left: with discount 0 if terminated,
// bootstrapping from the final observation if truncated.

#ifndef QFLEET_ACTOR_N_STEP_H_
#define QFLEET_ACTOR_N_STEP_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "qfleet/v1/checkpoint.pb.h"

namespace qfleet {

struct NStepItem {
  uint64_t first = 0;  // Step indices in the stream.
  uint64_t last = 0;
  int32_t action = 0;
  float return_ = 0;  // The n-step sum.
  float discount = 0;
  float priority = 0;
};

// Thread-compatible. In the order of an episode: OnObservation(s_0),
// OnAction(s_0), OnObservation(s_1), ..., then OnTerminated or OnTruncated.
class NStep {
 public:
  // Clips each reward to +- `reward_clip`; 0: not.
  NStep(int n, double gamma, double reward_clip = 0,
        bool value_rescaling = false)
      : n_(n),
        gamma_(gamma),
        reward_clip_(reward_clip),
        value_rescaling_(value_rescaling) {}

  // The value of step `index`'s observation is known: appends to `items` the
  // item that ends here, if there is one.
  void OnObservation(uint64_t index, float max_q,
                     std::vector<NStepItem>& items);

  // At step `index` an action of value `q` was taken and gave a reward.
  void OnAction(uint64_t index, int action, float q, float reward);

  // The episode ended with the final observation at step `index`.
  void OnTerminated(uint64_t index, std::vector<NStepItem>& items);
  void OnTruncated(uint64_t index, float max_q, std::vector<NStepItem>& items);

  // The transitions that are waiting, for checkpoints.
  void Save(v1::ActorState::Stream& stream) const;
  void Load(const v1::ActorState::Stream& stream);

 private:
  struct Transition {
    uint64_t index;
    int32_t action;
    float q;
    float reward;
  };

  // The item from the oldest transition to `last`.
  NStepItem Make(uint64_t last, bool terminated, float max_q) const;

  const int n_;
  const double gamma_;
  const double reward_clip_;
  const bool value_rescaling_;
  std::deque<Transition> transitions_;  // Not yet the first of an item.
};

}  // namespace qfleet

#endif  // QFLEET_ACTOR_N_STEP_H_
