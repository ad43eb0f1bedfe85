// Greedy evaluation: the only return that is reported as the agent's.

#ifndef QFLEET_ACTOR_EVALUATOR_H_
#define QFLEET_ACTOR_EVALUATOR_H_

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "actor/policy.h"
#include "qfleet/v1/config.pb.h"
#include "qfleet/v1/weights.pb.h"

namespace qfleet {

// How often another policy would do the same in the same states.
struct Comparison {
  Policy* reference;
  uint64_t states = 0;
  uint64_t agreed = 0;  // Greedy actions are the same.
  // By the reference's own values, summed over the states: of its greedy
  // action, magnitude; and by how much the action that was taken is worth less.
  double value = 0;
  double lost_value = 0;
};

// Runs config.evaluation().episodes() greedy episodes side by side, one an
// environment, seeded by the config: the same policy gives the same returns.
// `cancelled`, asked once a step, ends it with CANCELLED. `comparison`, if
// there is one, counts the states of the episodes, final ones left out.
absl::StatusOr<v1::Evaluation> Evaluate(
    const v1::Config& config, Policy& policy,
    const std::function<bool()>& cancelled = [] { return false; },
    Comparison* comparison = nullptr);

}  // namespace qfleet

#endif  // QFLEET_ACTOR_EVALUATOR_H_
