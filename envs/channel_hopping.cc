#include "envs/channel_hopping.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

namespace qfleet {
namespace {

using Config = v1::ChannelHoppingConfig;

EnvironmentSpec MakeSpec(const Config& config) {
  EnvironmentSpec spec;
  spec.observation.set_name("observation");
  spec.observation.set_dtype(v1::FLOAT32);
  spec.observation.add_shape(2 * config.channels());
  spec.num_actions = config.channels();
  return spec;
}

}  // namespace

ChannelHopping::ChannelHopping(const Config& config)
    : config_(config), spec_(MakeSpec(config)) {}

void ChannelHopping::Reset(absl::Span<char> observation) {
  state_.channel = static_cast<int32_t>(random_.Below(config_.channels()));
  state_.jammed = static_cast<int32_t>(random_.Below(config_.channels()));
  state_.steps = 0;
  Observe(observation);
}

StepResult ChannelHopping::Step(int action, absl::Span<char> observation) {
  state_.jammed = config_.jammer() == Config::SWEEP
                      ? (state_.jammed + 1) % config_.channels()
                      : static_cast<int32_t>(random_.Below(config_.channels()));
  double reward = action == state_.jammed ? 0 : 1;
  if (action != state_.channel) reward -= config_.switching_cost();
  state_.channel = action;
  ++state_.steps;
  Observe(observation);
  return StepResult{.reward = static_cast<float>(reward),
                    .truncated = state_.steps >= config_.steps()};
}

std::unique_ptr<Environment> ChannelHopping::Clone() const {
  return std::make_unique<ChannelHopping>(*this);
}

absl::StatusOr<std::string> ChannelHopping::Save() const {
  std::string state(sizeof(state_), '\0');
  std::memcpy(state.data(), &state_, sizeof(state_));
  return state + random_.Save();
}

absl::Status ChannelHopping::Load(absl::string_view state) {
  const absl::Status refused =
      absl::InvalidArgumentError("not the state of a ChannelHopping");
  State loaded;
  if (state.size() < sizeof(loaded)) return refused;
  std::memcpy(&loaded, state.data(), sizeof(loaded));
  const auto is_channel = [this](int32_t channel) {
    return channel >= 0 && channel < config_.channels();
  };
  if (!is_channel(loaded.channel) || !is_channel(loaded.jammed) ||
      loaded.steps < 0 || loaded.steps > config_.steps() ||
      !random_.Load(std::string(state.substr(sizeof(loaded))))) {
    return refused;
  }
  state_ = loaded;
  return absl::OkStatus();
}

double ChannelHopping::OptimalReturn(const Config& config) {
  const int channels = config.channels();
  const double cost = config.switching_cost();
  if (config.jammer() == Config::RANDOM) {
    // Every channel is as good as any other: staying saves the cost.
    return static_cast<double>(config.steps()) * (channels - 1) / channels;
  }
  // values[d]: with so many steps left and the agent's channel d beyond the one
  // that was jammed last. The sweep moves on by one in each step, so that who
  // stays is d - 1 beyond it next; 0 is to be jammed.
  std::vector<double> values(channels);
  const auto reached = [&](int distance) {
    return (distance == 0 ? 0 : 1) + values[distance];
  };
  for (int left = 0; left < config.steps(); ++left) {
    double hop = reached(0);
    for (int d = 1; d < channels; ++d) hop = std::max(hop, reached(d));
    std::vector<double> before(channels);
    for (int d = 0; d < channels; ++d) {
      before[d] = std::max(reached((d + channels - 1) % channels), hop - cost);
    }
    values = before;
  }
  return std::accumulate(values.begin(), values.end(), 0.0) / channels;
}

void ChannelHopping::Observe(absl::Span<char> observation) const {
  std::fill(observation.begin(), observation.end(), '\0');
  const float one = 1;
  for (int place : {state_.channel, config_.channels() + state_.jammed}) {
    std::memcpy(observation.data() + place * sizeof(one), &one, sizeof(one));
  }
}

}  // namespace qfleet
