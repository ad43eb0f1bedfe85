// Chooses actions from Q-values: epsilon-greedy, with a ladder of epsilons over
// all environments of all actors (Horgan et al. 2018).

#ifndef QFLEET_ACTOR_EXPLORER_H_
#define QFLEET_ACTOR_EXPLORER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "common/random.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// base^(1 + i / (N - 1) * exponent); i = 0 for N = 1.
double LadderEpsilon(double base, double exponent, int64_t i, int64_t n);

// The first of the largest.
int ArgMax(absl::Span<const float> values);

// Thread-compatible.
class Explorer {
 public:
  // One epsilon for each row of Q-values.
  Explorer(std::vector<double> epsilons, uint64_t seed)
      : epsilons_(std::move(epsilons)), random_(seed) {}

  // The explorer of actor number `actor`: its part of the ladder.
  static Explorer Ladder(const v1::ActorsConfig& config, int actor,
                         uint64_t seed);

  // q: [N, actions] -> actions [N].
  void Act(absl::Span<const float> q, int num_actions, absl::Span<int> actions);

  // The generator's state; Load says whether it was one.
  std::string Save() const { return random_.Save(); }
  bool Load(const std::string& state) { return random_.Load(state); }

 private:
  std::vector<double> epsilons_;
  Random random_;
};

}  // namespace qfleet

#endif  // QFLEET_ACTOR_EXPLORER_H_
