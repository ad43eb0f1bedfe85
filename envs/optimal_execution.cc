#include "envs/optimal_execution.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace qfleet {
namespace {

EnvironmentSpec MakeSpec(const v1::OptimalExecutionConfig& config) {
  EnvironmentSpec spec;
  spec.observation.set_name("observation");
  spec.observation.set_dtype(v1::FLOAT32);
  spec.observation.add_shape(2);
  spec.num_actions = config.shares() + 1;
  spec.has_action_mask = true;
  return spec;
}

}  // namespace

OptimalExecution::OptimalExecution(const v1::OptimalExecutionConfig& config)
    : config_(config),
      spec_(MakeSpec(config)),
      state_{.period = 0, .left = config.shares()} {}

void OptimalExecution::Reset(absl::Span<char> observation) {
  state_ = {.period = 0, .left = config_.shares()};
  Observe(observation);
}

StepResult OptimalExecution::Step(int action, absl::Span<char> observation) {
  const bool last = state_.period == config_.periods() - 1;
  const int shares = last ? state_.left : std::min(action, state_.left);
  const double cost = Cost(config_, state_.period, state_.left, shares);
  ++state_.period;
  state_.left -= shares;
  Observe(observation);
  return StepResult{.reward = static_cast<float>(-cost), .terminated = last};
}

void OptimalExecution::ActionMask(absl::Span<uint8_t> mask) const {
  const bool all = state_.period >= config_.periods() - 1;
  for (int shares = 0; shares < spec_.num_actions; ++shares) {
    mask[shares] = all ? shares == state_.left : shares <= state_.left;
  }
}

std::unique_ptr<Environment> OptimalExecution::Clone() const {
  return std::make_unique<OptimalExecution>(*this);
}

absl::StatusOr<std::string> OptimalExecution::Save() const {
  std::string state(sizeof(state_), '\0');
  std::memcpy(state.data(), &state_, sizeof(state_));
  return state;
}

absl::Status OptimalExecution::Load(absl::string_view state) {
  const absl::Status refused =
      absl::InvalidArgumentError("not the state of an OptimalExecution");
  State loaded;
  if (state.size() != sizeof(loaded)) return refused;
  std::memcpy(&loaded, state.data(), sizeof(loaded));
  const bool ended = loaded.period == config_.periods();
  if (loaded.period < 0 || loaded.period > config_.periods() ||
      loaded.left < 0 || loaded.left > (ended ? 0 : config_.shares())) {
    return refused;
  }
  state_ = loaded;
  return absl::OkStatus();
}

OptimalExecution::Schedule OptimalExecution::Optimum(
    const v1::OptimalExecutionConfig& config) {
  const int periods = config.periods();
  const int all = config.shares();
  // The least cost from a period on, by shares left. After the last period
  // nothing may be left.
  std::vector<double> after(all + 1, std::numeric_limits<double>::infinity());
  after[0] = 0;
  std::vector<std::vector<int>> best(periods, std::vector<int>(all + 1));
  for (int period = periods - 1; period >= 0; --period) {
    std::vector<double> now(all + 1, std::numeric_limits<double>::infinity());
    for (int left = 0; left <= all; ++left) {
      for (int shares = 0; shares <= left; ++shares) {
        const double cost =
            Cost(config, period, left, shares) + after[left - shares];
        if (cost >= now[left]) continue;
        now[left] = cost;
        best[period][left] = shares;
      }
    }
    after = std::move(now);
  }
  Schedule schedule{.shares = {}, .cost = after[all]};
  int left = all;
  for (int period = 0; period < periods; ++period) {
    schedule.shares.push_back(best[period][left]);
    left -= best[period][left];
  }
  return schedule;
}

double OptimalExecution::Impact(const v1::OptimalExecutionConfig& config,
                                int period) {
  if (config.periods() == 1) return config.first_impact();
  const double share = static_cast<double>(period) / (config.periods() - 1);
  return config.first_impact() +
         share * (config.last_impact() - config.first_impact());
}

double OptimalExecution::Cost(const v1::OptimalExecutionConfig& config,
                              int period, int left, int shares) {
  const double v = shares;
  const double sold = config.shares() - left;
  return Impact(config, period) * v * v + config.permanent_impact() * v * sold;
}

void OptimalExecution::Observe(absl::Span<char> observation) const {
  const float values[2] = {
      static_cast<float>(state_.period) / static_cast<float>(config_.periods()),
      static_cast<float>(state_.left) / static_cast<float>(config_.shares())};
  std::memcpy(observation.data(), values, sizeof(values));
}

}  // namespace qfleet
