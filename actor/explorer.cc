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

int ArgMax(absl::Span<const float> values, absl::Span<const uint8_t> mask) {
  int best = -1;
  for (int i = 0; i < static_cast<int>(values.size()); ++i) {
    if (!mask.empty() && mask[i] == 0) continue;
    if (best < 0 || values[i] > values[best]) best = i;
  }
  return best;
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
  return Explorer(
      std::move(epsilons), seed,
      static_cast<double>(config.epsilon_decay_steps()) / config.count());
}

void Explorer::Act(int first, absl::Span<const float> q, int num_actions,
                   absl::Span<const uint8_t> masks, absl::Span<int> actions) {
  for (size_t i = 0; i < actions.size(); ++i) {
    absl::Span<const uint8_t> mask;
    if (!masks.empty()) mask = masks.subspan(i * num_actions, num_actions);
    // Both numbers are drawn in any case: the sequence does not depend on q.
    const bool explore = random_.Uniform() < Epsilon(first + static_cast<int>(i));
    const int random_action = RandomAction(num_actions, mask);
    actions[i] = explore
                     ? random_action
                     : ArgMax(q.subspan(i * num_actions, num_actions), mask);
  }
  steps_ += actions.size();
}

int Explorer::RandomAction(int num_actions, absl::Span<const uint8_t> mask) {
  if (mask.empty()) return static_cast<int>(random_.Below(num_actions));
  // The k-th of the legal ones.
  auto k = random_.Below(mask.size() - std::count(mask.begin(), mask.end(), 0));
  int action = 0;
  while (mask[action] == 0 || k-- > 0) ++action;
  return action;
}

double Explorer::Epsilon(int i) const {
  const auto steps = static_cast<double>(steps_);
  if (steps >= decay_steps_) return epsilons_[i];
  return 1 + (epsilons_[i] - 1) * steps / decay_steps_;
}

}  // namespace qfleet
