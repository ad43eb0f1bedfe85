#include "actor/evaluator.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "actor/explorer.h"
#include "common/status_macros.h"
#include "envs/registry.h"

namespace qfleet {
namespace {

v1::Evaluation Summarise(std::vector<double> returns,
                         const std::vector<int64_t>& lengths) {
  const size_t n = returns.size();
  std::sort(returns.begin(), returns.end());
  v1::Evaluation result;
  result.set_episodes(static_cast<uint32_t>(n));
  result.set_mean_return(std::accumulate(returns.begin(), returns.end(), 0.0) /
                         n);
  result.set_median_return((returns[(n - 1) / 2] + returns[n / 2]) / 2);
  result.set_min_return(returns.front());
  result.set_max_return(returns.back());
  result.set_mean_length(std::accumulate(lengths.begin(), lengths.end(), 0.0) /
                         n);
  return result;
}

// Returns the values [n, actions], valid until the policy's next.
absl::Span<const float> ChooseGreedily(Policy& policy,
                                       const VectorEnvironment& environments,
                                       std::vector<int>& actions) {
  const int n = static_cast<int>(actions.size());
  absl::Span<const float> q = policy.QValues(environments.stacks(), n);
  for (int i = 0; i < n; ++i) {
    actions[i] = ArgMax(q.subspan(static_cast<size_t>(i) * policy.num_actions(),
                                  policy.num_actions()),
                        environments.action_mask(i));
  }
  return q;
}

void Compare(const VectorEnvironment& environments,
             const std::vector<int>& actions, const std::vector<bool>& ended,
             Comparison& comparison) {
  std::vector<int> greedy(actions.size());
  const absl::Span<const float> q =
      ChooseGreedily(*comparison.reference, environments, greedy);
  const size_t columns = comparison.reference->num_actions();
  for (size_t i = 0; i < actions.size(); ++i) {
    if (ended[i]) continue;
    ++comparison.states;
    if (greedy[i] == actions[i]) ++comparison.agreed;
    const double best = q[i * columns + greedy[i]];
    comparison.value += std::abs(best);
    comparison.lost_value += best - q[i * columns + actions[i]];
  }
}

}  // namespace

void VisitedStates::Visit(const char* observation) {
  ++visited_;
  if (rows() < most_) {
    rows_.append(observation, row_bytes_);
    return;
  }
  const uint64_t place = random_.Below(visited_);
  if (place >= static_cast<uint64_t>(most_)) return;
  rows_.replace(place * row_bytes_, row_bytes_, observation, row_bytes_);
}

absl::StatusOr<v1::Evaluation> Evaluate(const v1::Config& config,
                                        Policy& policy,
                                        const std::function<bool()>& cancelled,
                                        Comparison* comparison,
                                        VisitedStates* visited) {
  const int n = config.evaluation().episodes();
  QFLEET_ASSIGN_OR_RETURN(
      std::unique_ptr<VectorEnvironment> environments,
      MakeVectorEnvironment(config.environment(),
                            {.count = n, .seed = config.evaluation().seed()}));
  std::vector<double> returns(n);
  std::vector<int64_t> lengths(n);
  std::vector<bool> ended(n);
  std::vector<int> actions(n);
  int running = n;
  // The batch stays whole while some run on (ended ones play on, uncounted):
  // its size must not change a policy's arithmetic.
  while (running > 0) {
    if (cancelled()) return absl::CancelledError("evaluation: cancelled");
    ChooseGreedily(policy, *environments, actions);
    if (comparison != nullptr) {
      Compare(*environments, actions, ended, *comparison);
    }
    for (int i = 0; visited != nullptr && i < n; ++i) {
      const StridedRows rows = environments->stacks();
      if (!ended[i]) visited->Visit(rows.data + i * rows.stride);
    }
    QFLEET_RETURN_IF_ERROR(environments->Step(actions));
    for (int i = 0; i < n; ++i) {
      if (ended[i]) continue;
      const StepResult& result = environments->results()[i];
      if (result.lost) {  // Another one is played in its place.
        returns[i] = 0;
        lengths[i] = 0;
        continue;
      }
      returns[i] += result.reward;
      ++lengths[i];
      if (result.terminated || result.truncated ||
          lengths[i] >= config.evaluation().max_episode_steps()) {
        ended[i] = true;
        --running;
      }
    }
  }
  v1::Evaluation evaluation = Summarise(std::move(returns), lengths);
  evaluation.set_policy_version(policy.version());
  return evaluation;
}

}  // namespace qfleet
