// Chooses actions from Q-values: epsilon-greedy, with a ladder of epsilons over
// all environments of all actors (Horgan et al. 2018), to which each epsilon
// may come down from 1 first (Mnih et al. 2015). Never an illegal action.

#ifndef QFLEET_ACTOR_EXPLORER_H_
#define QFLEET_ACTOR_EXPLORER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "common/random.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// base^(1 + i / (N - 1) * exponent); i = 0 for N = 1.
double LadderEpsilon(double base, double exponent, int64_t i, int64_t n);

// The first of the largest of the legal ones: `mask` is 1 for a legal action,
// else 0; empty: all are legal. At least one must be.
int ArgMax(absl::Span<const float> values, absl::Span<const uint8_t> mask = {});

// Thread-compatible.
class Explorer {
 public:
  // One epsilon for each environment, reached linearly from 1 over
  // `decay_steps` actions of all of them together (0: at once).
  Explorer(std::vector<double> epsilons, uint64_t seed, double decay_steps = 0)
      : epsilons_(std::move(epsilons)),
        decay_steps_(decay_steps),
        random_(seed) {}

  // The explorer of actor number `actor`: its part of the ladder, and its share
  // of the decay's steps.
  static Explorer Ladder(const v1::ActorsConfig& config, int actor,
                         uint64_t seed);

  // q: [N, actions] -> actions [N], of the environments from number `first` on.
  // `masks`: [N, actions] as ArgMax's; empty: all actions are legal.
  void Act(int first, absl::Span<const float> q, int num_actions,
           absl::Span<const uint8_t> masks, absl::Span<int> actions);

  // The generator's state; Load says whether it was one.
  std::string Save() const { return random_.Save(); }
  bool Load(const std::string& state) { return random_.Load(state); }

  // Actions taken so far, from which the decay of epsilon goes on.
  void set_steps(uint64_t steps) { steps_ = steps; }

 private:
  // Uniform over the legal ones, with one draw.
  int RandomAction(int num_actions, absl::Span<const uint8_t> mask);
  // Of environment i, now.
  double Epsilon(int i) const;

  std::vector<double> epsilons_;
  double decay_steps_;
  uint64_t steps_ = 0;  // Actions so far.
  Random random_;
};

}  // namespace qfleet

#endif  // QFLEET_ACTOR_EXPLORER_H_
