// Where the best return is known exactly, the shipped configs learn it: the
// greedy policy at the end of a run, not the best one on its way, against
// dynamic programming.

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "actor/evaluator.h"
#include "actor/policy.h"
#include "common/checkpoint_file.h"
#include "config/config.h"
#include "envs/channel_hopping.h"
#include "envs/optimal_execution.h"
#include "envs/registry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/network.h"
#include "model/runtime.h"
#include "solo/solo.h"

namespace qfleet {
namespace {

class OptimumTest : public testing::Test {
 protected:
  void SetUp() override {
    InitTorch(1);
    std::string name = testing::TempDir() + "qfleet_optimum_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // A shipped config that stops after so many updates and not before.
  static v1::Config ConfigOf(const std::string& file, int64_t updates,
                             const std::vector<std::string>& sets = {}) {
    absl::StatusOr<v1::Config> config =
        LoadConfig(std::string(QFLEET_SOURCE_DIR) + "/" + file, sets);
    EXPECT_TRUE(config.ok()) << config.status();
    config->set_seed(1);
    config->mutable_stop()->Clear();
    config->mutable_stop()->set_max_updates(updates);
    config->mutable_evaluation()->set_period_updates(updates / 4);
    config->mutable_learner()->set_report_seconds(60);
    return *std::move(config);
  }

  // The mean greedy return of the policy at the end of a run of this config,
  // over episodes that the run has not seen.
  double TrainedReturn(const v1::Config& config, int episodes) {
    Metrics metrics;
    absl::StatusOr<Outcome> outcome = TrainSolo(
        config, directory_, [] { return false; }, metrics);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    auto checkpoint = ReadNewestCheckpoint(directory_ + "/checkpoints");
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_GE(checkpoint->policy().updates(), config.stop().max_updates() / 2);
    absl::StatusOr<EnvironmentSpec> spec = SpecOf(config.environment());
    EXPECT_TRUE(spec.ok()) << spec.status();
    auto network = Network::Make(config, *spec);
    EXPECT_TRUE(network.ok()) << network.status();
    Policy policy(*network, StackedObservation(*spec));
    EXPECT_TRUE(policy.SetWeights(checkpoint->policy()).ok());
    v1::Config evaluation = config;
    evaluation.mutable_evaluation()->set_episodes(episodes);
    evaluation.mutable_evaluation()->set_seed(4711);
    absl::StatusOr<v1::Evaluation> result = Evaluate(evaluation, policy);
    EXPECT_TRUE(result.ok()) << result.status();
    return result->mean_return();
  }

  std::string directory_;
};

TEST_F(OptimumTest, OptimalExecutionIsWithinTwoPercentOfTheBestSchedule) {
  const v1::Config config =
      ConfigOf("configs/optimal_execution.txtpb", /*updates=*/10000);
  const double optimum =
      -OptimalExecution::Optimum(config.environment().optimal_execution()).cost;
  const double learned = TrainedReturn(config, /*episodes=*/1);
  EXPECT_LE(learned, optimum + 1e-5) << "nothing is better";
  EXPECT_GE(learned, 1.02 * optimum);
  RecordProperty("gap", std::to_string(1 - optimum / learned));
}

TEST_F(OptimumTest, ChannelHoppingAvoidsASweepingJammer) {
  const v1::Config config =
      ConfigOf("configs/channel_hopping.txtpb", /*updates=*/5000);
  const double optimum =
      ChannelHopping::OptimalReturn(config.environment().channel_hopping());
  const double learned = TrainedReturn(config, /*episodes=*/400);
  EXPECT_GE(learned, 0.98 * optimum);
  RecordProperty("gap", std::to_string(1 - learned / optimum));
}

TEST_F(OptimumTest, ChannelHoppingStaysWhereTheJammerIsRandom) {
  const v1::Config config =
      ConfigOf("configs/channel_hopping.txtpb", /*updates=*/5000,
               {"environment.channel_hopping.jammer=RANDOM"});
  const double optimum =
      ChannelHopping::OptimalReturn(config.environment().channel_hopping());
  ASSERT_EQ(optimum, 87.5);
  // A standard error of 0.12.
  const double learned = TrainedReturn(config, /*episodes=*/800);
  EXPECT_GE(learned, 0.98 * optimum);
  RecordProperty("gap", std::to_string(1 - learned / optimum));
}

// An environment in a shared library goes the same way.
TEST_F(OptimumTest, TheExamplePluginIsLearned) {
  const v1::Config config =
      ConfigOf("examples/plugin/corridor.txtpb", /*updates=*/1500,
               {"environment.plugin.path=" QFLEET_PLUGIN_DIR "/corridor.so"});
  // 1 - 0.1 times the distance, 4 on average; a standard error of 0.01.
  EXPECT_NEAR(TrainedReturn(config, /*episodes=*/400), 0.6, 0.03);
}

}  // namespace
}  // namespace qfleet
