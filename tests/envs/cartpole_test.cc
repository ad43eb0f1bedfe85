#include "envs/cartpole.h"

#include <array>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace qfleet {
namespace {

std::array<float, 4> Values(absl::Span<const char> row) {
  std::array<float, 4> values;
  std::memcpy(values.data(), row.data(), sizeof(values));
  return values;
}

class CartPoleTest : public testing::Test {
 protected:
  StepResult Step(int action) {
    return environment_.Step(action, absl::MakeSpan(row_));
  }

  CartPole environment_;
  std::array<char, 16> row_ = {};
};

TEST_F(CartPoleTest, FollowsGymnasiumsTrajectories) {
  std::ifstream file(QFLEET_SOURCE_DIR "/tests/golden/cartpole.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  ASSERT_GE(golden.size(), 5u);
  for (const auto& trajectory : golden) {
    environment_.Seed(1);
    environment_.Reset(absl::MakeSpan(row_));
    environment_.SetState(trajectory["start"]);
    for (const auto& expected : trajectory["steps"]) {
      const StepResult result = Step(expected["action"]);
      const std::array<float, 4> observation = Values(row_);
      for (int i = 0; i < 4; ++i) {
        EXPECT_NEAR(observation[i], expected["observation"][i].get<float>(),
                    1e-6);
      }
      EXPECT_EQ(result.reward, expected["reward"].get<float>());
      EXPECT_EQ(result.terminated, expected["terminated"].get<bool>());
      EXPECT_FALSE(result.truncated);
    }
  }
}

TEST_F(CartPoleTest, StartsWithinTheBoundsAndDiffersBySeed) {
  environment_.Seed(5);
  environment_.Reset(absl::MakeSpan(row_));
  const std::array<float, 4> first = Values(row_);
  EXPECT_THAT(first, testing::Each(testing::AllOf(testing::Ge(-0.05f),
                                                  testing::Le(0.05f))));
  environment_.Reset(absl::MakeSpan(row_));
  EXPECT_NE(Values(row_), first);
  environment_.Seed(5);
  environment_.Reset(absl::MakeSpan(row_));
  EXPECT_EQ(Values(row_), first);
  environment_.Seed(6);
  environment_.Reset(absl::MakeSpan(row_));
  EXPECT_NE(Values(row_), first);
}

// A controller that looks at angle and angular velocity keeps the pole up.
TEST_F(CartPoleTest, IsTruncatedAfter500StepsAndNotTerminated) {
  environment_.Seed(3);
  environment_.Reset(absl::MakeSpan(row_));
  for (int step = 1; step <= CartPole::kMaxSteps; ++step) {
    const std::array<float, 4> o = Values(row_);
    const int action = o[2] + 0.5 * o[3] + 0.02 * o[0] + 0.05 * o[1] > 0;
    const StepResult result = Step(action);
    ASSERT_FALSE(result.terminated) << "at step " << step;
    ASSERT_EQ(result.truncated, step == CartPole::kMaxSteps);
  }
}

TEST_F(CartPoleTest, ACloneGoesItsOwnWayFromTheSameState) {
  environment_.Seed(9);
  environment_.Reset(absl::MakeSpan(row_));
  std::unique_ptr<Environment> clone = environment_.Clone();
  std::array<char, 16> clone_row;
  environment_.Step(1, absl::MakeSpan(row_));
  clone->Step(1, absl::MakeSpan(clone_row));
  EXPECT_EQ(Values(row_), Values(clone_row));
  environment_.Reset(absl::MakeSpan(row_));
  clone->Reset(absl::MakeSpan(clone_row));
  EXPECT_EQ(Values(row_), Values(clone_row));
}

}  // namespace
}  // namespace qfleet
