#include "envs/optimal_execution.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using testing::ElementsAre;

class OptimalExecutionTest : public testing::Test {
 protected:
  static v1::OptimalExecutionConfig Config(int periods, int shares) {
    v1::OptimalExecutionConfig config;
    config.set_periods(periods);
    config.set_shares(shares);
    return config;
  }

  absl::Span<char> Row() {
    return {reinterpret_cast<char*>(row_.data()), sizeof(row_)};
  }

  static std::vector<uint8_t> Mask(const Environment& environment) {
    std::vector<uint8_t> mask(environment.spec().num_actions, 7);
    environment.ActionMask(absl::MakeSpan(mask));
    return mask;
  }

  // The return of an episode, which must end with the schedule's last sale.
  double Play(const v1::OptimalExecutionConfig& config,
              const std::vector<int>& schedule) {
    OptimalExecution environment(config);
    environment.Reset(Row());
    double sum = 0;
    for (size_t t = 0; t < schedule.size(); ++t) {
      EXPECT_EQ(Mask(environment)[schedule[t]], 1) << "in period " << t;
      const StepResult result = environment.Step(schedule[t], Row());
      sum += result.reward;
      EXPECT_EQ(result.terminated, t + 1 == schedule.size());
      EXPECT_FALSE(result.truncated);
    }
    return sum;
  }

  // The largest return from here on, by trying everything that is legal.
  double Best(const Environment& environment) {
    const std::vector<uint8_t> mask = Mask(environment);
    double best = -std::numeric_limits<double>::infinity();
    for (size_t action = 0; action < mask.size(); ++action) {
      if (mask[action] == 0) continue;
      std::unique_ptr<Environment> next = environment.Clone();
      const StepResult result = next->Step(static_cast<int>(action), Row());
      best =
          std::max(best, result.reward + (result.terminated ? 0 : Best(*next)));
    }
    return best;
  }

  std::array<float, 2> row_ = {};
};

// The formula of the header, written out over all pairs of sales.
double Cost(const std::vector<double>& v, const std::vector<double>& kappa,
            double a) {
  double cost = 0;
  for (size_t t = 0; t < v.size(); ++t) {
    cost += kappa[t] * v[t] * v[t];
    for (size_t s = 0; s < t; ++s) cost += a * v[s] * v[t];
  }
  return cost;
}

std::vector<double> Impacts(const v1::OptimalExecutionConfig& config) {
  std::vector<double> kappa;
  for (int t = 0; t < config.periods(); ++t) {
    kappa.push_back(OptimalExecution::Impact(config, t));
  }
  return kappa;
}

TEST_F(OptimalExecutionTest, TheReturnIsTheCostOfTheSchedule) {
  const v1::OptimalExecutionConfig config = Config(4, 9);
  for (const std::vector<int>& schedule : std::vector<std::vector<int>>{
           {9, 0, 0, 0}, {0, 0, 0, 9}, {1, 4, 1, 3}, {2, 2, 2, 3}}) {
    const std::vector<double> v(schedule.begin(), schedule.end());
    EXPECT_NEAR(Play(config, schedule),
                -Cost(v, Impacts(config), config.permanent_impact()), 1e-5);
  }
}

// Published figures: 2.699 in parts of shares, 2.734 in whole ones, 3.280 in
// equal slices.
TEST_F(OptimalExecutionTest, TheDefaultsHaveTheKnownOptimum) {
  const v1::OptimalExecutionConfig config;
  const OptimalExecution::Schedule optimum = OptimalExecution::Optimum(config);
  EXPECT_NEAR(optimum.cost, 2.734, 5e-4);
  EXPECT_NEAR(Play(config, optimum.shares), -optimum.cost, 1e-5);
  EXPECT_NEAR(Play(config, std::vector<int>(10, 2)), -3.280, 5e-4);

  const std::vector<double> kappa = Impacts(config);
  EXPECT_DOUBLE_EQ(kappa.front(), 0.1);
  EXPECT_DOUBLE_EQ(kappa.back(), 0.019);
  const double a = config.permanent_impact();
  const double shares = config.shares();
  double weights = 0;
  for (double k : kappa) weights += 1 / (k - a / 2);
  const double continuous = a * shares * shares / 2 + shares * shares / weights;
  EXPECT_NEAR(continuous, 2.699, 5e-4);
  std::vector<double> v;
  for (double k : kappa) v.push_back(shares / (k - a / 2) / weights);
  EXPECT_NEAR(Cost(v, kappa, a), continuous, 1e-9);
}

TEST_F(OptimalExecutionTest, NoScheduleIsBetterThanTheOptimum) {
  for (const auto& [periods, shares] :
       {std::pair(1, 5), std::pair(3, 7), std::pair(4, 6)}) {
    const v1::OptimalExecutionConfig config = Config(periods, shares);
    OptimalExecution environment(config);
    environment.Reset(Row());
    EXPECT_NEAR(Best(environment), -OptimalExecution::Optimum(config).cost,
                1e-5);
  }
}

TEST_F(OptimalExecutionTest, MasksWhatIsNotLeftAndSellsAllAtTheEnd) {
  OptimalExecution environment(Config(3, 4));
  environment.Reset(Row());
  EXPECT_THAT(row_, ElementsAre(0, 1));
  EXPECT_THAT(Mask(environment), ElementsAre(1, 1, 1, 1, 1));
  environment.Step(1, Row());
  EXPECT_THAT(row_, ElementsAre(1.0F / 3, 0.75F));
  EXPECT_THAT(Mask(environment), ElementsAre(1, 1, 1, 1, 0));
  environment.Step(2, Row());
  EXPECT_THAT(row_, ElementsAre(2.0F / 3, 0.25F));
  EXPECT_THAT(Mask(environment), ElementsAre(0, 1, 0, 0, 0));
  EXPECT_TRUE(environment.Step(1, Row()).terminated);
  EXPECT_THAT(row_, ElementsAre(1, 0));
}

TEST_F(OptimalExecutionTest, AnIllegalActionSellsWhatIsLeft) {
  OptimalExecution environment(Config(3, 4));
  environment.Reset(Row());
  environment.Step(3, Row());
  environment.Step(4, Row());
  EXPECT_EQ(row_[1], 0);
  environment.Reset(Row());
  environment.Step(0, Row());
  environment.Step(1, Row());
  EXPECT_TRUE(environment.Step(0, Row()).terminated);
  EXPECT_EQ(row_[1], 0);
}

TEST_F(OptimalExecutionTest, RefusesAStateThatCannotBe) {
  OptimalExecution environment(Config(3, 4));
  environment.Reset(Row());
  const std::string state = *environment.Save();
  for (const std::array<int32_t, 2>& bad :
       {std::array{-1, 4}, std::array{4, 0}, std::array{0, 5},
        std::array{0, -1}, std::array{3, 1}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(environment.Load(absl::string_view(
        reinterpret_cast<const char*>(bad.data()), sizeof(bad)))));
  }
  EXPECT_EQ(*environment.Save(), state);
}

}  // namespace
}  // namespace qfleet
