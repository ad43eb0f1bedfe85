// Acrobot and MountainCar beside Gymnasium's own (tests/golden/
// make_gymnasium_golden.py). What each built-in environment promises is in
// environment_test.cc.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "common/table_spec.h"
#include "envs/acrobot.h"
#include "envs/mountain_car.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace qfleet {
namespace {

struct AcrobotCase {
  using Class = Acrobot;
  static constexpr char kFile[] = "acrobot.json";
  static constexpr int kState = 4;
};

struct MountainCarCase {
  using Class = MountainCar;
  static constexpr char kFile[] = "mountain_car.json";
  static constexpr int kState = 2;
};

template <typename Case>
class GymnasiumTest : public testing::Test {
 protected:
  static nlohmann::json Golden() {
    std::ifstream file(std::string(QFLEET_SOURCE_DIR "/tests/golden/") +
                       Case::kFile);
    return nlohmann::json::parse(file);
  }

  GymnasiumTest()
      : row_(RowBytes(environment_.spec().observation) / sizeof(float)) {
    environment_.Seed(1);
    Reset();
  }

  std::vector<float> Reset() {
    environment_.Reset(Bytes());
    return row_;
  }

  void SetState(const nlohmann::json& state) {
    environment_.SetState(state.get<std::array<double, Case::kState>>());
  }

  // The step `expected`. The same libm gives the same bits; others may differ
  // in a rounding.
  void ExpectStep(const nlohmann::json& expected) {
    const StepResult result = environment_.Step(expected["action"], Bytes());
    ASSERT_EQ(row_.size(), expected["observation"].size());
    for (size_t i = 0; i < row_.size(); ++i) {
      EXPECT_FLOAT_EQ(row_[i], expected["observation"][i].get<float>())
          << "number " << i;
    }
    EXPECT_EQ(result.reward, expected["reward"].get<float>());
    EXPECT_EQ(result.terminated, expected["terminated"].get<bool>());
    EXPECT_EQ(result.truncated, expected["truncated"].get<bool>());
  }

  absl::Span<char> Bytes() {
    return absl::MakeSpan(reinterpret_cast<char*>(row_.data()),
                          row_.size() * sizeof(float));
  }

  typename Case::Class environment_;
  std::vector<float> row_;
};

using Cases = testing::Types<AcrobotCase, MountainCarCase>;

class CaseName {
 public:
  template <typename Case>
  static std::string GetName(int /*number*/) {
    return std::is_same_v<Case, AcrobotCase> ? "Acrobot" : "MountainCar";
  }
};

TYPED_TEST_SUITE(GymnasiumTest, Cases, CaseName);

TYPED_TEST(GymnasiumTest, FollowsWholeEpisodesToTheirEnds) {
  const nlohmann::json golden = this->Golden();
  int terminated = 0;
  int truncated = 0;
  for (const auto& trajectory : golden["trajectories"]) {
    this->SetState(trajectory["start"]);
    for (const auto& step : trajectory["steps"]) {
      this->ExpectStep(step);
      if (this->HasFailure()) return;
    }
    terminated += trajectory["steps"].back()["terminated"].template get<bool>();
    truncated += trajectory["steps"].back()["truncated"].template get<bool>();
  }
  EXPECT_GE(terminated, 1);
  EXPECT_GE(truncated, 1);
}

TYPED_TEST(GymnasiumTest, StepsAlikeFromAllOverTheStates) {
  const nlohmann::json golden = this->Golden();
  ASSERT_GE(golden["steps"].size(), 100u);
  for (const auto& step : golden["steps"]) {
    this->SetState(step["state"]);
    this->ExpectStep(step);
    if (this->HasFailure()) return;
  }
}

TYPED_TEST(GymnasiumTest, RefusesAStateThatCannotBe) {
  const std::string state = *this->environment_.Save();
  for (double number : {1e3, -1e3, std::numeric_limits<double>::quiet_NaN(),
                        std::numeric_limits<double>::infinity()}) {
    for (int i = 0; i < TypeParam::kState; ++i) {
      std::string bad = state;
      std::memcpy(&bad[i * sizeof(double)], &number, sizeof(number));
      EXPECT_TRUE(absl::IsInvalidArgument(this->environment_.Load(bad)));
    }
  }
  for (int steps : {-1, TypeParam::Class::kMaxSteps + 1}) {
    std::string bad = state;
    std::memcpy(&bad[TypeParam::kState * sizeof(double)], &steps,
                sizeof(steps));
    EXPECT_TRUE(absl::IsInvalidArgument(this->environment_.Load(bad)));
  }
  EXPECT_EQ(*this->environment_.Save(), state);
}

TEST(AcrobotTest, StartsNearlyAtRestHangingDown) {
  Acrobot environment;
  environment.Seed(3);
  std::array<float, 6> row;
  float largest = 0;
  for (int episode = 0; episode < 200; ++episode) {
    environment.Reset({reinterpret_cast<char*>(row.data()), sizeof(row)});
    EXPECT_GE(row[0], 0.995F);
    EXPECT_GE(row[2], 0.995F);
    for (int i : {1, 3, 4, 5}) {
      EXPECT_LE(std::abs(row[i]), 0.1F);
      largest = std::max(largest, std::abs(row[i]));
    }
  }
  EXPECT_GE(largest, 0.09F);
}

TEST(MountainCarTest, StartsAtRestInTheValley) {
  MountainCar environment;
  environment.Seed(3);
  std::array<float, 2> row;
  float least = 0;
  float most = -1;
  for (int episode = 0; episode < 200; ++episode) {
    environment.Reset({reinterpret_cast<char*>(row.data()), sizeof(row)});
    EXPECT_EQ(row[1], 0);
    least = std::min(least, row[0]);
    most = std::max(most, row[0]);
  }
  EXPECT_GE(least, -0.6F);
  EXPECT_LE(least, -0.59F);
  EXPECT_GE(most, -0.41F);
  EXPECT_LE(most, -0.4F);
}

}  // namespace
}  // namespace qfleet
