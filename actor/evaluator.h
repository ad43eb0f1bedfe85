// Greedy evaluation: the only return that is reported as the agent's.

#ifndef QFLEET_ACTOR_EVALUATOR_H_
#define QFLEET_ACTOR_EVALUATOR_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "actor/policy.h"
#include "common/random.h"
#include "envs/frames.h"
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

// Some of the states that a policy visited: of all of them any is as likely to
// be here as any other (reservoir sampling, Vitter 1985).
class VisitedStates {
 public:
  // Up to `most` observations of `row_bytes` bytes.
  VisitedStates(int most, size_t row_bytes, uint64_t seed)
      : most_(most), row_bytes_(row_bytes), random_(seed) {}

  void Visit(const char* observation);

  int rows() const { return static_cast<int>(rows_.size() / row_bytes_); }
  StridedRows observations() const { return {rows_.data(), row_bytes_}; }

 private:
  const int most_;
  const size_t row_bytes_;
  Random random_;
  uint64_t visited_ = 0;
  std::string rows_;
};

// Runs config.evaluation().episodes() greedy episodes side by side, one an
// environment, seeded by the config: the same policy gives the same returns.
// `cancelled`, asked once a step, ends it with CANCELLED. `comparison`
// and `visited`, if there is one, take the states of the episodes, final ones
// left out.
absl::StatusOr<v1::Evaluation> Evaluate(
    const v1::Config& config, Policy& policy,
    const std::function<bool()>& cancelled = [] { return false; },
    Comparison* comparison = nullptr, VisitedStates* visited = nullptr);

}  // namespace qfleet

#endif  // QFLEET_ACTOR_EVALUATOR_H_
