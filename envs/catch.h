// Catch-v0: move a paddle under a falling ball, as in DeepMind's bsuite
// (Osband et al. 2020, environments/catch.py; first in Mnih et al. 2014).
//
// The ball starts in a random column of the top row and falls one row a step.
// The paddle starts in the middle of the bottom row; a step moves the paddle
// first and then the ball.
//
// observation  float32[10, 5]: the board, 1 where the ball or the paddle is,
//              else 0
// actions      0: left, 1: stay, 2: right; the board's edges stop the paddle
// reward       1 if the ball meets the paddle in the bottom row, -1 if it does
//              not, 0 before
// terminated   when the ball is in the bottom row: after 9 steps
// truncated    never
// optimum      a return of 1

#ifndef QFLEET_ENVS_CATCH_H_
#define QFLEET_ENVS_CATCH_H_

#include <memory>
#include <string>

#include "absl/types/span.h"
#include "common/random.h"
#include "envs/environment.h"

namespace qfleet {

class Catch : public Environment {
 public:
  static constexpr int kRows = 10;
  static constexpr int kColumns = 5;
  enum Action { kLeft = 0, kStay = 1, kRight = 2 };

  const EnvironmentSpec& spec() const override;
  void Seed(uint64_t seed) override;
  void Reset(absl::Span<char> observation) override;
  StepResult Step(int action, absl::Span<char> observation) override;
  std::unique_ptr<Environment> Clone() const override;
  absl::StatusOr<std::string> Save() const override;
  absl::Status Load(absl::string_view state) override;

 private:
  // What Save writes before the random sequence.
  struct Board {
    int32_t ball_row = 0;
    int32_t ball_column = 0;
    int32_t paddle_column = kColumns / 2;
  };

  void Observe(absl::Span<char> observation) const;

  Random random_{0};
  Board board_;
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_CATCH_H_
