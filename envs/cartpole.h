// CartPole-v1: balance a pole on a cart (Barto, Sutton and Anderson 1983), with
// Gymnasium's dynamics and constants.
//
// observation  float32[4]: cart position, cart velocity, pole angle (rad), pole
//              angular velocity
// actions      0: push left, 1: push right (10 N)
// reward       1 for every step, the one that ends the episode included
// terminated   |position| > 2.4 or |angle| > 12 degrees
// truncated    after 500 steps
// optimum      a return of 500

#ifndef QFLEET_ENVS_CARTPOLE_H_
#define QFLEET_ENVS_CARTPOLE_H_

#include <array>
#include <memory>

#include "absl/types/span.h"
#include "common/random.h"
#include "envs/environment.h"

namespace qfleet {

class CartPole : public Environment {
 public:
  static constexpr int kMaxSteps = 500;

  const EnvironmentSpec& spec() const override;
  void Seed(uint64_t seed) override;
  void Reset(absl::Span<char> observation) override;
  StepResult Step(int action, absl::Span<char> observation) override;
  std::unique_ptr<Environment> Clone() const override;
  absl::StatusOr<std::string> Save() const override;
  absl::Status Load(absl::string_view state) override;

  // Places the cart: position, velocity, angle, angular velocity. For tests.
  void SetState(const std::array<double, 4>& state);

 private:
  void Observe(absl::Span<char> observation) const;

  Random random_{0};
  // Double precision, as Gymnasium integrates.
  std::array<double, 4> state_ = {};
  int steps_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_CARTPOLE_H_
