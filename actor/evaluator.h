// Greedy evaluation: the only return that is reported as the agent's.

#ifndef QFLEET_ACTOR_EVALUATOR_H_
#define QFLEET_ACTOR_EVALUATOR_H_

#include <functional>

#include "absl/status/statusor.h"
#include "actor/policy.h"
#include "qfleet/v1/config.pb.h"
#include "qfleet/v1/weights.pb.h"

namespace qfleet {

// Runs config.evaluation().episodes() greedy episodes side by side, one an
// environment, seeded by the config: the same policy gives the same returns.
// `cancelled`, asked once a step, ends it with CANCELLED.
absl::StatusOr<v1::Evaluation> Evaluate(
    const v1::Config& config, Policy& policy,
    const std::function<bool()>& cancelled = [] { return false; });

}  // namespace qfleet

#endif  // QFLEET_ACTOR_EVALUATOR_H_
