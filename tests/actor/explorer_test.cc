#include "actor/explorer.h"

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
    explorer.Act(q, kActions, absl::MakeSpan(actions));
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
      explorer.Act(q, 2, absl::MakeSpan(action));
      count += action[0];
    }
    explored.push_back(count);
  }
  EXPECT_NEAR(explored[0] / 10000.0, 0.2, 0.02);
  EXPECT_LT(explored[1], 20);
}

TEST(ArgMaxTest, TakesTheFirstOfEqualValues) {
  EXPECT_EQ(ArgMax({1, 3, 3, 2}), 1);
}

}  // namespace
}  // namespace qfleet
