// Acrobot-v1: swing the free end of two linked rods above a line by a torque at
// the joint between them (Sutton 1996; Sutton and Barto 1998, section 11.3),
// with Gymnasium's dynamics ("book") and constants.
//
// observation  float32[6]: cosine and sine of the upper link's angle (0 when it
//              hangs down), the same of the lower link's relative to the upper
//              one, then their angular velocities (rad/s)
// actions      0: torque -1, 1: none, 2: torque 1 (N m)
// reward       -1 for every step, 0 for the one that terminates
// terminated   the free end is above the line: -cos a - cos(a + b) > 1
// truncated    after 500 steps
// optimum      not known in closed form; Gymnasium takes a mean return of -100
//              for solved
//
// An episode starts with both angles and velocities uniform in [-0.1, 0.1],
// rounded to float32 as Gymnasium's.

#ifndef QFLEET_ENVS_ACROBOT_H_
#define QFLEET_ENVS_ACROBOT_H_

#include <array>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "common/random.h"
#include "envs/environment.h"

namespace qfleet {

class Acrobot : public Environment {
 public:
  static constexpr int kMaxSteps = 500;

  const EnvironmentSpec& spec() const override;
  void Seed(uint64_t seed) override;
  void Reset(absl::Span<char> observation) override;
  StepResult Step(int action, absl::Span<char> observation) override;
  std::unique_ptr<Environment> Clone() const override;
  absl::StatusOr<std::string> Save() const override;
  absl::Status Load(absl::string_view state) override;

  // Places the links: both angles, both angular velocities. For tests.
  void SetState(const std::array<double, 4>& state);

 private:
  void Observe(absl::Span<char> observation) const;

  Random random_{0};
  // Double precision, as Gymnasium integrates.
  std::array<double, 4> state_ = {};
  int steps_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_ACROBOT_H_
