// MountainCar-v0: drive an underpowered car out of a valley (Moore 1990; Sutton
// and Barto 2018, example 10.1), with Gymnasium's dynamics and constants.
//
// observation  float32[2]: position in [-1.2, 0.6], velocity in [-0.07, 0.07]
// actions      0: push left, 1: do not push, 2: push right
// reward       -1 for every step, the one that ends the episode included
// terminated   position >= 0.5 (with velocity >= 0, which it then has)
// truncated    after 200 steps
// optimum      a mean return of about -98 (83 to 104 steps, by the start): a
//              search over a fine grid of states. Gymnasium takes -110 for
//              solved
//
// An episode starts at rest, at a position uniform in [-0.6, -0.4]. The wall at
// -1.2 stops the car.

#ifndef QFLEET_ENVS_MOUNTAIN_CAR_H_
#define QFLEET_ENVS_MOUNTAIN_CAR_H_

#include <array>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "common/random.h"
#include "envs/environment.h"

namespace qfleet {

class MountainCar : public Environment {
 public:
  static constexpr int kMaxSteps = 200;

  const EnvironmentSpec& spec() const override;
  void Seed(uint64_t seed) override;
  void Reset(absl::Span<char> observation) override;
  StepResult Step(int action, absl::Span<char> observation) override;
  std::unique_ptr<Environment> Clone() const override;
  absl::StatusOr<std::string> Save() const override;
  absl::Status Load(absl::string_view state) override;

  // Places the car: position, velocity. For tests.
  void SetState(const std::array<double, 2>& state);

 private:
  void Observe(absl::Span<char> observation) const;

  Random random_{0};
  // Double precision, as Gymnasium integrates.
  std::array<double, 2> state_ = {};
  int steps_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_MOUNTAIN_CAR_H_
