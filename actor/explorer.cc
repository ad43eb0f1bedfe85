#include "actor/explorer.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace qfleet {

double LadderEpsilon(double base, double exponent, int64_t i, int64_t n) {
  const double position =
      n > 1 ? static_cast<double>(i) / static_cast<double>(n - 1) : 0;
  return std::pow(base, 1 + position * exponent);
}

int ArgMax(absl::Span<const float> values) {
  return static_cast<int>(std::max_element(values.begin(), values.end()) -
                          values.begin());
}

Explorer Explorer::Ladder(const v1::ActorsConfig& config, int actor,
                          uint64_t seed) {
  const int64_t n = int64_t{config.count()} * config.environments();
  std::vector<double> epsilons;
  for (int j = 0; j < config.environments(); ++j) {
    // Neighbours on the ladder go to different actors, so that each process
    // has the whole range.
    const int64_t i = int64_t{j} * config.count() + actor;
    epsilons.push_back(
        LadderEpsilon(config.epsilon_base(), config.epsilon_exponent(), i, n));
  }
  return Explorer(std::move(epsilons), seed);
}

void Explorer::Act(absl::Span<const float> q, int num_actions,
                   absl::Span<int> actions) {
  for (size_t i = 0; i < actions.size(); ++i) {
    // Both numbers are drawn in any case: the sequence does not depend on q.
    const bool explore = random_.Uniform() < epsilons_[i];
    const int random_action = static_cast<int>(random_.Below(num_actions));
    actions[i] = explore ? random_action
                         : ArgMax(q.subspan(i * num_actions, num_actions));
  }
}

}  // namespace qfleet
