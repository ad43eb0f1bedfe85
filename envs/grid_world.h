// GridWorld-v0: the 4x3 world of Russell and Norvig (Artificial Intelligence: A
// Modern Approach, chapter on sequential decision problems), whose values are
// in the book, with action masks. For tests of what is learned.
//
//   . . . G     G: the goal    S: the start    #: a wall
//   . # . P     P: the pit
//   S . . .
//
// A move goes where it should with probability 0.8 and to either side of that
// direction with 0.1 each. Who is carried into a wall or off the board stays.
//
// observation  float32[12]: 1 at the agent's cell, else 0, row by row from the
//              top
// actions      0: up, 1: right, 2: down, 3: left; illegal where a wall or the
//              board's edge is that way (taken all the same, it is like being
//              carried there)
// reward       -0.04 for every step, and beside it 1 for reaching the goal, -1
//              for the pit
// terminated   at the goal and in the pit
// truncated    after 30 steps; the observation does not show them, so that a
//              cell's value is that of the world without this limit
// optimum      an expected return of 0.705 without the limit, which is seldom
//              met: a best policy takes about 7 steps

#ifndef QFLEET_ENVS_GRID_WORLD_H_
#define QFLEET_ENVS_GRID_WORLD_H_

#include <array>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "common/random.h"
#include "envs/environment.h"

namespace qfleet {

class GridWorld : public Environment {
 public:
  static constexpr int kRows = 3;
  static constexpr int kColumns = 4;
  // A cell's number is row * kColumns + column.
  static constexpr int kCells = kRows * kColumns;
  static constexpr int kActions = 4;
  static constexpr int kMaxSteps = 30;
  static constexpr int kStart = 8;

  const EnvironmentSpec& spec() const override;
  void Seed(uint64_t seed) override;
  void Reset(absl::Span<char> observation) override;
  StepResult Step(int action, absl::Span<char> observation) override;
  void ActionMask(absl::Span<uint8_t> mask) const override;
  std::unique_ptr<Environment> Clone() const override;
  absl::StatusOr<std::string> Save() const override;
  absl::Status Load(absl::string_view state) override;

  // Places the agent at the start of its 30 steps. For tests.
  void SetCell(int cell);

  // The world as a Markov decision process, which Step follows too.
  struct Outcome {
    double probability = 0;
    int cell = 0;
    double reward = 0;
  };
  using Values = std::array<double, kCells>;

  static bool IsWall(int cell);
  static bool IsTerminal(int cell);  // The goal, the pit.
  static bool IsLegal(int cell, int action);

  // Where `action` leads from `cell`, which is no wall and not terminal: as
  // intended, to its left, to its right. The probabilities sum to 1.
  static std::array<Outcome, 3> Outcomes(int cell, int action);

  // The expected discounted return of `action` at `cell` if `values` are those
  // of the cells.
  static double ActionValue(const Values& values, double gamma, int cell,
                            int action);

  // The cells' values under a best policy, by value iteration to within
  // rounding; 0 for walls and terminal cells.
  static Values OptimalValues(double gamma);

 private:
  // What Save writes before the random sequence.
  struct State {
    int32_t cell = kStart;
    int32_t steps = 0;
  };

  void Observe(absl::Span<char> observation) const;

  Random random_{0};
  State state_;
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_GRID_WORLD_H_
