#include "envs/acrobot.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

namespace qfleet {
namespace {

using State = std::array<double, 4>;

constexpr double kPi = std::numbers::pi;
constexpr double kTau = 0.2;  // s between two steps
constexpr double kMaxVelocity1 = 4 * kPi;
constexpr double kMaxVelocity2 = 9 * kPi;
// Both links: 1 kg, 1 m, the centre of mass in the middle, moment of inertia 1.
constexpr double kMass = 1;
constexpr double kLength = 1;
constexpr double kCentre = 0.5;
constexpr double kInertia = 1;
constexpr double kGravity = 9.8;

// The equations of motion (Sutton and Barto). Sums and products are in the
// order that gives Gymnasium's roundings.
State Derivative(const State& state, double torque) {
  const auto& [theta1, theta2, velocity1, velocity2] = state;
  const double cosine2 = std::cos(theta2);
  const double sine2 = std::sin(theta2);
  const double coupling = kMass * kLength * kCentre;
  const double d1 = kMass * kCentre * kCentre +
                    kMass * (kLength * kLength + kCentre * kCentre +
                             2 * kLength * kCentre * cosine2) +
                    kInertia + kInertia;
  const double d2 =
      kMass * (kCentre * kCentre + kLength * kCentre * cosine2) + kInertia;
  const double phi2 =
      kMass * kCentre * kGravity * std::cos(theta1 + theta2 - kPi / 2);
  const double phi1 = -coupling * (velocity2 * velocity2) * sine2 -
                      2 * coupling * velocity2 * velocity1 * sine2 +
                      (kMass * kCentre + kMass * kLength) * kGravity *
                          std::cos(theta1 - kPi / 2) +
                      phi2;
  const double acceleration2 =
      (torque + d2 / d1 * phi1 - coupling * (velocity1 * velocity1) * sine2 -
       phi2) /
      (kMass * kCentre * kCentre + kInertia - d2 * d2 / d1);
  const double acceleration1 = -(d2 * acceleration2 + phi1) / d1;
  return {velocity1, velocity2, acceleration1, acceleration2};
}

State Moved(const State& state, double time, const State& derivative) {
  State moved;
  for (int i = 0; i < 4; ++i) moved[i] = state[i] + time * derivative[i];
  return moved;
}

// One step of the classical Runge-Kutta method of order 4.
State RungeKutta(const State& state, double torque) {
  const State k1 = Derivative(state, torque);
  const State k2 = Derivative(Moved(state, kTau / 2, k1), torque);
  const State k3 = Derivative(Moved(state, kTau / 2, k2), torque);
  const State k4 = Derivative(Moved(state, kTau, k3), torque);
  State sum;
  for (int i = 0; i < 4; ++i) sum[i] = k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i];
  return Moved(state, kTau / 6, sum);
}

// An angle in [-pi, pi].
double Wrapped(double angle) {
  while (angle > kPi) angle -= 2 * kPi;
  while (angle < -kPi) angle += 2 * kPi;
  return angle;
}

}  // namespace

const EnvironmentSpec& Acrobot::spec() const {
  static const EnvironmentSpec* const spec = [] {
    auto* result = new EnvironmentSpec;
    result->observation.set_name("observation");
    result->observation.set_dtype(v1::FLOAT32);
    result->observation.add_shape(6);
    result->num_actions = 3;
    return result;
  }();
  return *spec;
}

void Acrobot::Seed(uint64_t seed) { random_ = Random(seed); }

void Acrobot::Reset(absl::Span<char> observation) {
  for (double& value : state_) {
    value = static_cast<float>(random_.Uniform(-0.1, 0.1));
  }
  steps_ = 0;
  Observe(observation);
}

StepResult Acrobot::Step(int action, absl::Span<char> observation) {
  state_ = RungeKutta(state_, action - 1);
  auto& [theta1, theta2, velocity1, velocity2] = state_;
  theta1 = Wrapped(theta1);
  theta2 = Wrapped(theta2);
  velocity1 = std::clamp(velocity1, -kMaxVelocity1, kMaxVelocity1);
  velocity2 = std::clamp(velocity2, -kMaxVelocity2, kMaxVelocity2);
  ++steps_;
  Observe(observation);
  const bool above = -std::cos(theta1) - std::cos(theta2 + theta1) > 1;
  return StepResult{.reward = above ? 0.0F : -1.0F,
                    .terminated = above,
                    .truncated = steps_ >= kMaxSteps};
}

std::unique_ptr<Environment> Acrobot::Clone() const {
  return std::make_unique<Acrobot>(*this);
}

absl::StatusOr<std::string> Acrobot::Save() const {
  std::string state(sizeof(state_) + sizeof(steps_), '\0');
  std::memcpy(state.data(), state_.data(), sizeof(state_));
  std::memcpy(state.data() + sizeof(state_), &steps_, sizeof(steps_));
  return state + random_.Save();
}

absl::Status Acrobot::Load(absl::string_view state) {
  const absl::Status refused =
      absl::InvalidArgumentError("not the state of an Acrobot");
  constexpr size_t kFixed = sizeof(state_) + sizeof(steps_);
  if (state.size() < kFixed) return refused;
  State links;
  int steps;
  std::memcpy(links.data(), state.data(), sizeof(links));
  std::memcpy(&steps, state.data() + sizeof(links), sizeof(steps));
  const State bounds = {kPi, kPi, kMaxVelocity1, kMaxVelocity2};
  for (int i = 0; i < 4; ++i) {
    if (!(std::abs(links[i]) <= bounds[i]))
      return refused;  // Not a number too.
  }
  if (steps < 0 || steps > kMaxSteps ||
      !random_.Load(std::string(state.substr(kFixed)))) {
    return refused;
  }
  state_ = links;
  steps_ = steps;
  return absl::OkStatus();
}

void Acrobot::SetState(const std::array<double, 4>& state) {
  state_ = state;
  steps_ = 0;
}

void Acrobot::Observe(absl::Span<char> observation) const {
  const auto& [theta1, theta2, velocity1, velocity2] = state_;
  const std::array<double, 6> values = {std::cos(theta1), std::sin(theta1),
                                        std::cos(theta2), std::sin(theta2),
                                        velocity1,        velocity2};
  std::array<float, 6> row;
  for (int i = 0; i < 6; ++i) row[i] = static_cast<float>(values[i]);
  std::memcpy(observation.data(), row.data(), sizeof(row));
}

}  // namespace qfleet
