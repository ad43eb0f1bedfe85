#include "envs/channel_hopping.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "common/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using Config = v1::ChannelHoppingConfig;

class ChannelHoppingTest : public testing::Test {
 protected:
  static Config MakeConfig(Config::Jammer jammer, int channels, int steps,
                           double cost) {
    Config config;
    config.set_jammer(jammer);
    config.set_channels(channels);
    config.set_steps(steps);
    config.set_switching_cost(cost);
    return config;
  }

  void Make(const Config& config) {
    environment_ = std::make_unique<ChannelHopping>(config);
    environment_->Seed(1);
    row_.resize(2 * config.channels());
    environment_->Reset(Row());
  }

  absl::Span<char> Row() {
    return {reinterpret_cast<char*>(row_.data()), row_.size() * sizeof(float)};
  }

  // The one channel that half of the observation shows.
  int Shown(bool jammed) const {
    const size_t channels = row_.size() / 2;
    const auto begin = row_.begin() + (jammed ? channels : 0);
    EXPECT_EQ(std::count(begin, begin + channels, 0.0F), channels - 1);
    const auto one = std::find(begin, begin + channels, 1.0F);
    EXPECT_NE(one, begin + channels);
    return static_cast<int>(one - begin);
  }
  int channel() const { return Shown(false); }
  int jammed() const { return Shown(true); }

  // The largest return from here on, by trying everything.
  double Best(const Environment& environment) {
    double best = -std::numeric_limits<double>::infinity();
    for (int action = 0; action < environment.spec().num_actions; ++action) {
      std::unique_ptr<Environment> next = environment.Clone();
      const StepResult result = next->Step(action, Row());
      best =
          std::max(best, result.reward + (result.truncated ? 0 : Best(*next)));
    }
    return best;
  }

  std::unique_ptr<ChannelHopping> environment_;
  std::vector<float> row_;
};

TEST_F(ChannelHoppingTest, ASweepTakesOneChannelAfterAnother) {
  Make(MakeConfig(Config::SWEEP, 5, 100, 0));
  int last = jammed();
  for (int step = 0; step < 20; ++step) {
    environment_->Step(0, Row());
    EXPECT_EQ(jammed(), (last + 1) % 5);
    last = jammed();
  }
}

TEST_F(ChannelHoppingTest, ARandomJammerTakesEachChannelEquallyOften) {
  Make(MakeConfig(Config::RANDOM, 5, 100000, 0));
  std::array<int, 5> counts = {};
  std::array<int, 5> after_zero = {};
  int last = 1;
  for (int step = 0; step < 50000; ++step) {
    environment_->Step(0, Row());
    ++counts[jammed()];
    if (last == 0) ++after_zero[jammed()];
    last = jammed();
  }
  // Five standard deviations.
  EXPECT_THAT(counts, testing::Each(testing::AllOf(testing::Ge(9550),
                                                   testing::Le(10450))));
  EXPECT_THAT(after_zero, testing::Each(testing::AllOf(testing::Ge(1800),
                                                       testing::Le(2200))));
}

TEST_F(ChannelHoppingTest, RewardsWhatIsNotJammedLessTheCostOfAChange) {
  Make(MakeConfig(Config::SWEEP, 4, 1000, 0.25));
  Random random(2);
  std::set<float> rewards;
  for (int step = 1; step <= 1000; ++step) {
    const int before = channel();
    const int action = static_cast<int>(random.Below(4));
    const StepResult result = environment_->Step(action, Row());
    EXPECT_EQ(channel(), action);
    EXPECT_EQ(result.reward, (action == jammed() ? 0.0F : 1.0F) -
                                 (action == before ? 0.0F : 0.25F));
    EXPECT_FALSE(result.terminated);
    EXPECT_EQ(result.truncated, step == 1000);
    rewards.insert(result.reward);
  }
  EXPECT_EQ(rewards.size(), 4u) << "each of the four cases";
}

TEST_F(ChannelHoppingTest, StartsAnywhere) {
  Make(MakeConfig(Config::SWEEP, 4, 10, 0.1));
  std::set<std::pair<int, int>> starts;
  for (int episode = 0; episode < 300; ++episode) {
    environment_->Reset(Row());
    starts.emplace(channel(), jammed());
  }
  EXPECT_EQ(starts.size(), 16u);
}

// Against all sequences of actions, from every start.
TEST_F(ChannelHoppingTest, NothingIsBetterThanTheOptimumAgainstASweep) {
  for (const Config& config : {MakeConfig(Config::SWEEP, 3, 6, 0.1),
                               MakeConfig(Config::SWEEP, 3, 6, 1),
                               MakeConfig(Config::SWEEP, 2, 9, 0.3),
                               MakeConfig(Config::SWEEP, 4, 5, 0)}) {
    Make(config);
    const int channels = config.channels();
    double sum = 0;
    std::set<std::pair<int, int>> starts;
    while (starts.size() < static_cast<size_t>(channels * channels)) {
      environment_->Reset(Row());
      if (!starts.emplace(channel(), jammed()).second) continue;
      sum += Best(*environment_);
    }
    EXPECT_NEAR(sum / (channels * channels),
                ChannelHopping::OptimalReturn(config), 1e-5);
  }
}

TEST_F(ChannelHoppingTest, ASweepCanBeAvoidedAlways) {
  const double optimum = ChannelHopping::OptimalReturn(Config());
  // Changes: one every 7 of 100 steps, as the first may be needed at once or
  // after 8 steps.
  EXPECT_GE(optimum, 100 - 0.1 * 15);
  EXPECT_LE(optimum, 100 - 0.1 * 13);
  EXPECT_NEAR(optimum, 98.575, 1e-9) << "what the header says";
  // Staying is jammed in every eighth step.
  EXPECT_NEAR(ChannelHopping::OptimalReturn(
                  MakeConfig(Config::SWEEP, 8, 80, /*cost=*/1)),
              70, 1);
}

// Against a random jammer staying has the expected return that is claimed, and
// changing costs more.
TEST_F(ChannelHoppingTest, StayingIsBestAgainstARandomJammer) {
  const Config config = MakeConfig(Config::RANDOM, 8, 100, 0.1);
  Make(config);
  EXPECT_EQ(ChannelHopping::OptimalReturn(config), 87.5);
  constexpr int kEpisodes = 2000;
  const auto mean = [this](auto choose) {
    double sum = 0;
    for (int episode = 0; episode < kEpisodes; ++episode) {
      environment_->Reset(Row());
      StepResult result;
      while (!result.truncated) {
        result = environment_->Step(choose(), Row());
        sum += result.reward;
      }
    }
    return sum / kEpisodes;
  };
  // A standard error of 3.3 / sqrt(2000).
  EXPECT_NEAR(mean([this] { return channel(); }), 87.5, 0.4);
  EXPECT_NEAR(mean([this] { return (channel() + 1) % 8; }), 77.5, 0.4);
}

TEST_F(ChannelHoppingTest, RefusesAStateThatCannotBe) {
  Make(MakeConfig(Config::SWEEP, 4, 10, 0.1));
  const std::string state = *environment_->Save();
  for (const std::array<int32_t, 3>& bad :
       {std::array{-1, 0, 0}, std::array{4, 0, 0}, std::array{0, -1, 0},
        std::array{0, 4, 0}, std::array{0, 0, -1}, std::array{0, 0, 11}}) {
    std::string changed = state;
    std::memcpy(changed.data(), bad.data(), sizeof(bad));
    EXPECT_TRUE(absl::IsInvalidArgument(environment_->Load(changed)));
  }
  EXPECT_EQ(*environment_->Save(), state);
}

}  // namespace
}  // namespace qfleet
