#include "envs/grid_world.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <vector>

#include "common/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using testing::ElementsAre;

enum Action { kUp, kRight, kDown, kLeft };

// Cells:  0  1  2  3 (goal)
//         4  #  6  7 (pit)
//         8  9 10 11
class GridWorldTest : public testing::Test {
 protected:
  void SetUp() override {
    environment_.Seed(1);
    environment_.Reset(Row());
  }

  StepResult Step(int action) { return environment_.Step(action, Row()); }

  int Cell() const {
    EXPECT_EQ(std::count(cells_.begin(), cells_.end(), 0.0F), 11);
    return static_cast<int>(std::find(cells_.begin(), cells_.end(), 1.0F) -
                            cells_.begin());
  }

  std::array<uint8_t, 4> Mask(int cell) {
    environment_.SetCell(cell);
    std::array<uint8_t, 4> mask;
    environment_.ActionMask(absl::MakeSpan(mask));
    return mask;
  }

  // Where each of many steps led.
  std::map<int, int> Count(int cell, int action, int steps) {
    std::map<int, int> counts;
    for (int i = 0; i < steps; ++i) {
      environment_.SetCell(cell);
      Step(action);
      ++counts[Cell()];
    }
    return counts;
  }

  GridWorld environment_;

 private:
  absl::Span<char> Row() {
    return absl::MakeSpan(reinterpret_cast<char*>(cells_.data()),
                          sizeof(cells_));
  }

  std::array<float, GridWorld::kCells> cells_ = {};
};

TEST_F(GridWorldTest, StartsInTheLowerLeft) { EXPECT_EQ(Cell(), 8); }

TEST_F(GridWorldTest, MovesIntoWallsAndOffTheBoardAreIllegal) {
  // Up, right, down, left.
  EXPECT_THAT(Mask(0), ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(Mask(1), ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(Mask(2), ElementsAre(0, 1, 1, 1));
  EXPECT_THAT(Mask(4), ElementsAre(1, 0, 1, 0));
  EXPECT_THAT(Mask(6), ElementsAre(1, 1, 1, 0));
  EXPECT_THAT(Mask(8), ElementsAre(1, 1, 0, 0));
  EXPECT_THAT(Mask(9), ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(Mask(10), ElementsAre(1, 1, 0, 1));
  EXPECT_THAT(Mask(11), ElementsAre(1, 0, 0, 1));
}

// Five standard deviations.
TEST_F(GridWorldTest, SlipsToEitherSideOneTimeInTen) {
  constexpr int kSteps = 10000;
  std::map<int, int> counts = Count(10, kUp, kSteps);
  EXPECT_EQ(counts.size(), 3u);
  EXPECT_NEAR(counts[6], 0.8 * kSteps, 200);
  EXPECT_NEAR(counts[9], 0.1 * kSteps, 150);
  EXPECT_NEAR(counts[11], 0.1 * kSteps, 150);
}

TEST_F(GridWorldTest, AWallOnTheSideStopsASlip) {
  constexpr int kSteps = 10000;
  std::map<int, int> counts = Count(1, kRight, kSteps);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_NEAR(counts[2], 0.8 * kSteps, 200);
  EXPECT_NEAR(counts[1], 0.2 * kSteps, 200);
}

TEST_F(GridWorldTest, AnIllegalMoveIsStoppedByTheWall) {
  constexpr int kSteps = 10000;
  std::map<int, int> counts = Count(8, kLeft, kSteps);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_NEAR(counts[8], 0.9 * kSteps, 150);
  EXPECT_NEAR(counts[4], 0.1 * kSteps, 150);
}

TEST_F(GridWorldTest, TheGoalAndThePitEndTheEpisode) {
  std::map<int, StepResult> results;
  for (int i = 0; i < 100; ++i) {
    environment_.SetCell(6);
    const StepResult result = Step(kRight);
    results[Cell()] = result;
  }
  EXPECT_FLOAT_EQ(results.at(7).reward, -1.04F);
  EXPECT_TRUE(results.at(7).terminated);
  EXPECT_FLOAT_EQ(results.at(2).reward, -0.04F);
  EXPECT_FALSE(results.at(2).terminated);
  do {
    environment_.SetCell(2);
    results[3] = Step(kRight);
  } while (Cell() != 3);
  EXPECT_FLOAT_EQ(results[3].reward, 0.96F);
  EXPECT_TRUE(results[3].terminated);
  EXPECT_FALSE(results[3].truncated);
}

TEST_F(GridWorldTest, IsTruncatedAfter30StepsAndNotTerminated) {
  // Whatever slips, this never leaves the first column.
  for (int step = 1; step <= 30; ++step) {
    const StepResult result = Step(kLeft);
    ASSERT_FALSE(result.terminated);
    ASSERT_EQ(result.truncated, step == 30);
  }
}

TEST_F(GridWorldTest, OutcomesAreWhatStepDoes) {
  constexpr int kSteps = 4000;
  for (int cell = 0; cell < GridWorld::kCells; ++cell) {
    if (GridWorld::IsWall(cell) || GridWorld::IsTerminal(cell)) continue;
    for (int action = 0; action < GridWorld::kActions; ++action) {
      std::map<int, int> counts = Count(cell, action, kSteps);
      std::map<int, double> expected;
      for (const GridWorld::Outcome& outcome :
           GridWorld::Outcomes(cell, action)) {
        expected[outcome.cell] += outcome.probability;
      }
      EXPECT_EQ(counts.size(), expected.size());
      for (const auto& [next, probability] : expected) {
        EXPECT_NEAR(counts[next] / double{kSteps}, probability, 0.032);
      }
    }
  }
}

// Russell and Norvig print these for gamma 1.
TEST_F(GridWorldTest, TheOptimalValuesAreTheBooks) {
  const GridWorld::Values values = GridWorld::OptimalValues(1);
  const std::map<int, double> book = {{0, 0.812}, {1, 0.868},  {2, 0.918},
                                      {4, 0.762}, {6, 0.660},  {8, 0.705},
                                      {9, 0.655}, {10, 0.611}, {11, 0.388}};
  for (const auto& [cell, value] : book) {
    EXPECT_NEAR(values[cell], value, 0.0006) << "cell " << cell;
  }
}

TEST_F(GridWorldTest, ABestPolicysReturnsAreTheValues) {
  // The limit of steps costs next to nothing.
  constexpr int kEpisodes = 4000;
  const GridWorld::Values values = GridWorld::OptimalValues(1);
  std::vector<double> returns;
  for (int episode = 0; episode < kEpisodes; ++episode) {
    environment_.SetCell(8);
    double sum = 0;
    StepResult result;
    int cell = 8;
    while (!result.terminated && !result.truncated) {
      int best = -1;
      double best_value = 0;
      for (int action = 0; action < 4; ++action) {
        if (!GridWorld::IsLegal(cell, action)) continue;
        const double value = GridWorld::ActionValue(values, 1, cell, action);
        if (best >= 0 && value <= best_value) continue;
        best = action;
        best_value = value;
      }
      result = Step(best);
      cell = Cell();
      sum += result.reward;
    }
    returns.push_back(sum);
  }
  double mean = 0;
  for (double value : returns) mean += value / kEpisodes;
  double variance = 0;
  for (double value : returns) {
    variance += (value - mean) * (value - mean) / kEpisodes;
  }
  EXPECT_NEAR(mean, values[8], 5 * std::sqrt(variance / kEpisodes));
}

}  // namespace
}  // namespace qfleet
