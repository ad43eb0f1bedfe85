#include "actor/explorer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

TEST(LadderEpsilonTest, GoesFromTheBaseToItsPower) {
  EXPECT_DOUBLE_EQ(LadderEpsilon(0.4, 7, 0, 8), 0.4);
  EXPECT_DOUBLE_EQ(LadderEpsilon(0.4, 7, 1, 8), 0.4 * 0.4);
  EXPECT_DOUBLE_EQ(LadderEpsilon(0.4, 7, 7, 8), std::pow(0.4, 8));
}

TEST(LadderEpsilonTest, OneEnvironmentIsGuarded) {
  EXPECT_DOUBLE_EQ(LadderEpsilon(0.4, 7, 0, 1), 0.4);
}

TEST(ExplorerTest, ActsGreedilyExceptForEpsilonOfTheSteps) {
  constexpr int kActions = 4;
  constexpr int kSteps = 40000;
  Explorer explorer({0.0, 0.3, 1.0}, /*seed=*/5);
  // Row i's best action is i.
  const std::vector<float> q = {9, 0, 0, 0, 0, 9, 0, 0, 0, 0, 9, 0};
  std::vector<int> actions(3);
  std::vector<int> greedy(3);
  for (int step = 0; step < kSteps; ++step) {
    explorer.Act(/*first=*/0, q, kActions, /*masks=*/{}, absl::MakeSpan(actions));
    for (int i = 0; i < 3; ++i) {
      ASSERT_GE(actions[i], 0);
      ASSERT_LT(actions[i], kActions);
      greedy[i] += actions[i] == i;
    }
  }
  // Exploring takes the greedy action 1 time in 4. Five standard deviations.
  EXPECT_EQ(greedy[0], kSteps);
  EXPECT_NEAR(greedy[1] / double{kSteps}, 1 - 0.3 * 3 / 4, 0.011);
  EXPECT_NEAR(greedy[2] / double{kSteps}, 0.25, 0.011);
}

TEST(ExplorerTest, TheActorsTogetherHaveTheWholeLadder) {
  v1::ActorsConfig config;
  config.set_count(2);
  config.set_environments(1);
  // Of two rungs, 0.4 and 0.4^8, each actor has one.
  const std::vector<float> q = {1, 0};
  std::vector<int> explored;
  for (int actor = 0; actor < 2; ++actor) {
    Explorer explorer = Explorer::Ladder(config, actor, /*seed=*/1);
    int count = 0;
    std::vector<int> action(1);
    for (int step = 0; step < 10000; ++step) {
      explorer.Act(/*first=*/0, q, 2, /*masks=*/{}, absl::MakeSpan(action));
      count += action[0];
    }
    explored.push_back(count);
  }
  EXPECT_NEAR(explored[0] / 10000.0, 0.2, 0.02);
  EXPECT_LT(explored[1], 20);
}

// Five standard deviations throughout.
TEST(ExplorerTest, ExploresUniformlyOverTheLegalActionsOnly) {
  constexpr int kActions = 4;
  constexpr int kSteps = 40000;
  Explorer explorer({1.0, 1.0, 0.5}, /*seed=*/6);
  // The illegal actions have the largest values.
  const std::vector<float> q = {0, 9, 1, 9, 9, 9, 0, 9, 9, 2, 9, 1};
  const std::vector<uint8_t> masks = {1, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 1};
  std::vector<int> actions(3);
  std::vector<std::vector<int>> counts(3, std::vector<int>(kActions));
  for (int step = 0; step < kSteps; ++step) {
    explorer.Act(/*first=*/0, q, kActions, masks, absl::MakeSpan(actions));
    for (int i = 0; i < 3; ++i) ++counts[i][actions[i]];
  }
  for (int i = 0; i < 3; ++i) {
    for (int a = 0; a < kActions; ++a) {
      if (masks[i * kActions + a] == 0) {
        EXPECT_EQ(counts[i][a], 0);
      }
    }
  }
  EXPECT_NEAR(counts[0][0] / double{kSteps}, 0.5, 0.0125);
  EXPECT_EQ(counts[1][2], kSteps);
  EXPECT_NEAR(counts[2][1] / double{kSteps}, 0.75, 0.011);
}

TEST(ExplorerTest, TheDrawsDoNotDependOnTheValues) {
  constexpr int kActions = 3;
  Explorer first({0.5, 0.5}, /*seed=*/8);
  Explorer second({0.5, 0.5}, /*seed=*/8);
  const std::vector<uint8_t> masks = {1, 1, 0, 1, 1, 1};
  const std::vector<float> low = {2, 1, 3, 2, 1, 0};
  const std::vector<float> high = {1, 2, 3, 0, 1, 2};
  std::vector<int> a(2);
  std::vector<int> b(2);
  int explored = 0;
  for (int step = 0; step < 1000; ++step) {
    first.Act(/*first=*/0, low, kActions, masks, absl::MakeSpan(a));
    second.Act(/*first=*/0, high, kActions, masks, absl::MakeSpan(b));
    for (int i = 0; i < 2; ++i) {
      const bool greedy = a[i] == 0 && b[i] == (i == 0 ? 1 : 2);
      if (!greedy) {
        ASSERT_EQ(a[i], b[i]) << "the two have explored otherwise";
        ++explored;
      }
    }
  }
  EXPECT_NEAR(explored, 1000, 112);
}

// What epsilon is shows in how many of many rows do not act greedily.
class EpsilonDecayTest : public testing::Test {
 protected:
  static constexpr int kRows = 1000;
  static constexpr int kActions = 1000;

  // The share of rows that act randomly in the next round.
  static double Explored(Explorer& explorer) {
    std::vector<float> q(kRows * kActions);
    for (int i = 0; i < kRows; ++i) q[i * kActions] = 1;
    std::vector<int> actions(kRows);
    explorer.Act(/*first=*/0, q, kActions, /*masks=*/{}, absl::MakeSpan(actions));
    return static_cast<double>(
               std::count_if(actions.begin(), actions.end(),
                             [](int action) { return action != 0; })) /
           kRows;
  }
};

TEST_F(EpsilonDecayTest, ComesDownLinearlyFrom1ToTheLadder) {
  Explorer explorer(std::vector<double>(kRows, 0.2), /*seed=*/2,
                    /*decay_steps=*/4 * kRows);
  EXPECT_GT(Explored(explorer), 0.99);
  EXPECT_NEAR(Explored(explorer), 0.8, 0.07);
  EXPECT_NEAR(Explored(explorer), 0.6, 0.08);
  EXPECT_NEAR(Explored(explorer), 0.4, 0.08);
  for (int round = 0; round < 5; ++round) {
    EXPECT_NEAR(Explored(explorer), 0.2, 0.07);
  }
}

TEST_F(EpsilonDecayTest, CountsTheStepsOfTheWholeCluster) {
  v1::ActorsConfig config;
  config.set_count(10);
  config.set_environments(kRows);
  config.set_epsilon_base(0.2);
  config.set_epsilon_exponent(0);
  // A round of all ten actors.
  config.set_epsilon_decay_steps(10 * kRows);
  Explorer explorer = Explorer::Ladder(config, /*actor=*/3, /*seed=*/2);
  EXPECT_GT(Explored(explorer), 0.99);
  EXPECT_NEAR(Explored(explorer), 0.2, 0.07);
}

TEST(ArgMaxTest, TakesTheFirstOfEqualValues) {
  EXPECT_EQ(ArgMax({1, 3, 3, 2}), 1);
}

TEST(ArgMaxTest, TakesALegalOneWhateverTheValues) {
  EXPECT_EQ(ArgMax({1, 3, 3, 2}, {1, 0, 1, 1}), 2);
  EXPECT_EQ(ArgMax({1, 3, 3, 2}, {1, 0, 0, 0}), 0);
  EXPECT_EQ(ArgMax({NAN, NAN, NAN}, {0, 0, 1}), 2);
  EXPECT_EQ(ArgMax({5, -INFINITY, 5}, {0, 1, 0}), 1);
}

}  // namespace
}  // namespace qfleet
