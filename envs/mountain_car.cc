#include "envs/mountain_car.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace qfleet {
namespace {

constexpr double kMinPosition = -1.2;
constexpr double kMaxPosition = 0.6;
constexpr double kMaxSpeed = 0.07;
constexpr double kGoal = 0.5;
constexpr double kForce = 0.001;
constexpr double kGravity = 0.0025;

}  // namespace

const EnvironmentSpec& MountainCar::spec() const {
  static const EnvironmentSpec* const spec = [] {
    auto* result = new EnvironmentSpec;
    result->observation.set_name("observation");
    result->observation.set_dtype(v1::FLOAT32);
    result->observation.add_shape(2);
    result->num_actions = 3;
    return result;
  }();
  return *spec;
}

void MountainCar::Seed(uint64_t seed) { random_ = Random(seed); }

void MountainCar::Reset(absl::Span<char> observation) {
  state_ = {random_.Uniform(-0.6, -0.4), 0};
  steps_ = 0;
  Observe(observation);
}

StepResult MountainCar::Step(int action, absl::Span<char> observation) {
  auto& [position, velocity] = state_;
  velocity += (action - 1) * kForce - std::cos(3 * position) * kGravity;
  velocity = std::clamp(velocity, -kMaxSpeed, kMaxSpeed);
  position = std::clamp(position + velocity, kMinPosition, kMaxPosition);
  if (position == kMinPosition && velocity < 0) velocity = 0;
  ++steps_;
  Observe(observation);
  return StepResult{.reward = -1,
                    .terminated = position >= kGoal && velocity >= 0,
                    .truncated = steps_ >= kMaxSteps};
}

std::unique_ptr<Environment> MountainCar::Clone() const {
  return std::make_unique<MountainCar>(*this);
}

absl::StatusOr<std::string> MountainCar::Save() const {
  std::string state(sizeof(state_) + sizeof(steps_), '\0');
  std::memcpy(state.data(), state_.data(), sizeof(state_));
  std::memcpy(state.data() + sizeof(state_), &steps_, sizeof(steps_));
  return state + random_.Save();
}

absl::Status MountainCar::Load(absl::string_view state) {
  const absl::Status refused =
      absl::InvalidArgumentError("not the state of a MountainCar");
  constexpr size_t kFixed = sizeof(state_) + sizeof(steps_);
  if (state.size() < kFixed) return refused;
  std::array<double, 2> car;
  int steps;
  std::memcpy(car.data(), state.data(), sizeof(car));
  std::memcpy(&steps, state.data() + sizeof(car), sizeof(steps));
  const auto& [position, velocity] = car;
  // So that no number is refused too.
  const bool within = position >= kMinPosition && position <= kMaxPosition &&
                      std::abs(velocity) <= kMaxSpeed;
  if (!within || steps < 0 || steps > kMaxSteps ||
      !random_.Load(std::string(state.substr(kFixed)))) {
    return refused;
  }
  state_ = car;
  steps_ = steps;
  return absl::OkStatus();
}

void MountainCar::SetState(const std::array<double, 2>& state) {
  state_ = state;
  steps_ = 0;
}

void MountainCar::Observe(absl::Span<char> observation) const {
  const float values[2] = {static_cast<float>(state_[0]),
                           static_cast<float>(state_[1])};
  std::memcpy(observation.data(), values, sizeof(values));
}

}  // namespace qfleet
