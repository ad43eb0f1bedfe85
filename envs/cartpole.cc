#include "envs/cartpole.h"

#include <cmath>
#include <cstring>
#include <numbers>

namespace qfleet {
namespace {

constexpr double kGravity = 9.8;
constexpr double kCartMass = 1.0;
constexpr double kPoleMass = 0.1;
constexpr double kTotalMass = kCartMass + kPoleMass;
constexpr double kHalfLength = 0.5;  // Of the pole, m.
constexpr double kPoleMassLength = kPoleMass * kHalfLength;
constexpr double kForce = 10.0;  // N
constexpr double kTau = 0.02;    // s between two steps
constexpr double kMaxAngle = 12 * 2 * std::numbers::pi / 360;
constexpr double kMaxPosition = 2.4;

}  // namespace

const EnvironmentSpec& CartPole::spec() const {
  static const EnvironmentSpec* const spec = [] {
    auto* result = new EnvironmentSpec;
    result->observation.set_name("observation");
    result->observation.set_dtype(v1::FLOAT32);
    result->observation.add_shape(4);
    result->num_actions = 2;
    return result;
  }();
  return *spec;
}

void CartPole::Seed(uint64_t seed) { random_ = Random(seed); }

void CartPole::Reset(absl::Span<char> observation) {
  for (double& value : state_) value = random_.Uniform(-0.05, 0.05);
  steps_ = 0;
  Observe(observation);
}

StepResult CartPole::Step(int action, absl::Span<char> observation) {
  auto& [x, x_dot, theta, theta_dot] = state_;
  const double force = action == 1 ? kForce : -kForce;
  const double cosine = std::cos(theta);
  const double sine = std::sin(theta);
  const double temp =
      (force + kPoleMassLength * theta_dot * theta_dot * sine) / kTotalMass;
  const double theta_acceleration =
      (kGravity * sine - cosine * temp) /
      (kHalfLength * (4.0 / 3.0 - kPoleMass * cosine * cosine / kTotalMass));
  const double x_acceleration =
      temp - kPoleMassLength * theta_acceleration * cosine / kTotalMass;
  // Euler's method, positions first.
  x += kTau * x_dot;
  x_dot += kTau * x_acceleration;
  theta += kTau * theta_dot;
  theta_dot += kTau * theta_acceleration;
  ++steps_;
  Observe(observation);
  return StepResult{
      .reward = 1,
      .terminated = std::abs(x) > kMaxPosition || std::abs(theta) > kMaxAngle,
      .truncated = steps_ >= kMaxSteps};
}

std::unique_ptr<Environment> CartPole::Clone() const {
  return std::make_unique<CartPole>(*this);
}

absl::StatusOr<std::string> CartPole::Save() const {
  std::string state(sizeof(state_) + sizeof(steps_), '\0');
  std::memcpy(state.data(), state_.data(), sizeof(state_));
  std::memcpy(state.data() + sizeof(state_), &steps_, sizeof(steps_));
  return state + random_.Save();
}

absl::Status CartPole::Load(absl::string_view state) {
  constexpr size_t kFixed = sizeof(state_) + sizeof(steps_);
  if (state.size() < kFixed ||
      !random_.Load(std::string(state.substr(kFixed)))) {
    return absl::InvalidArgumentError("not the state of a CartPole");
  }
  std::memcpy(state_.data(), state.data(), sizeof(state_));
  std::memcpy(&steps_, state.data() + sizeof(state_), sizeof(steps_));
  return absl::OkStatus();
}

void CartPole::SetState(const std::array<double, 4>& state) {
  state_ = state;
  steps_ = 0;
}

void CartPole::Observe(absl::Span<char> observation) const {
  float values[4];
  for (int i = 0; i < 4; ++i) values[i] = static_cast<float>(state_[i]);
  std::memcpy(observation.data(), values, sizeof(values));
}

}  // namespace qfleet
