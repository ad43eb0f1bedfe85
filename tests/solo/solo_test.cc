#include "solo/solo.h"

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "common/checkpoint_file.h"
#include "config/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/runtime.h"

namespace qfleet {
namespace {

class SoloTest : public testing::Test {
 protected:
  void SetUp() override {
    InitTorch(1);
    std::string name = testing::TempDir() + "qfleet_solo_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  absl::StatusOr<v1::Config> SmallConfig(uint64_t seed) {
    absl::StatusOr<v1::Config> config = ParseConfig(
        R"pb(
          environment { id: "CartPole-v1" }
          network { hidden: 32 }
          # Small enough to wrap around several times.
          replay { max_items: 1000 min_items: 200 }
          learner { batch_size: 32 report_seconds: 0.05 }
          evaluation { episodes: 3 period_updates: 100 }
          stop { max_updates: 800 }
        )pb",
        "test");
    if (!config.ok()) return config;
    config->set_seed(seed);
    absl::Status resolved = ResolveConfig(*config);
    if (!resolved.ok()) return resolved;
    return config;
  }

  // The whole state at the end.
  v1::Checkpoint Train(uint64_t seed, const std::string& name,
                       v1::WeightCodec codec = v1::FP32) {
    const std::string run_dir = directory_ + "/" + name;
    Metrics metrics;
    absl::StatusOr<v1::Config> config = SmallConfig(seed);
    EXPECT_TRUE(config.ok()) << config.status();
    config->mutable_actors()->set_weight_codec(codec);
    absl::StatusOr<Outcome> outcome = TrainSolo(
        *config, run_dir, [] { return false; }, metrics);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(*outcome, Outcome::kBounded);
    auto checkpoint = ReadNewestCheckpoint(run_dir + "/checkpoints");
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint->clear_wall_seconds();
    checkpoint->mutable_evaluation()->clear_wall_seconds();
    return *std::move(checkpoint);
  }

  std::string directory_;
};

TEST_F(SoloTest, TheSameSeedGivesTheSameBits) {
  const v1::Checkpoint first = Train(1, "first");
  const v1::Checkpoint second = Train(1, "second");
  EXPECT_EQ(first.updates(), 800u);
  EXPECT_GT(first.evaluation().episodes(), 0u);
  EXPECT_EQ(first.SerializeAsString(), second.SerializeAsString());
  const v1::Checkpoint other = Train(2, "other");
  EXPECT_NE(first.algorithm(0).data(), other.algorithm(0).data());
}

// It acts as the actors of a cluster would that get the weights so; what is
// kept is the weights as they were learned.
TEST_F(SoloTest, ActorsInAnotherFormActDifferentlyAndJustAsDeterministically) {
  const v1::Checkpoint fp32 = Train(1, "fp32");
  const v1::Checkpoint int8 = Train(1, "int8", v1::INT8);
  EXPECT_NE(int8.algorithm(0).data(), fp32.algorithm(0).data());
  EXPECT_EQ(int8.SerializeAsString(),
            Train(1, "again", v1::INT8).SerializeAsString());
  EXPECT_EQ(int8.published().codec(), v1::FP32);
  EXPECT_EQ(int8.published().parameters(), int8.algorithm(0).data());
}

// From the config to the weights: none is lost on the way. What each changes is
// in algorithms_test, model_test, n_step_test and sum_tree_test.
TEST_F(SoloTest, EachOfRainbowsSwitchesChangesTheRun) {
  const auto train = [this](const std::string& set) {
    v1::Config config = *SmallConfig(1);
    config.clear_replay();
    config.mutable_replay()->set_max_items(1000);
    config.mutable_replay()->set_min_items(200);
    config.mutable_network()->Clear();
    config.mutable_network()->add_hidden(16);
    config.mutable_actors()->clear_epsilon_base();
    config.mutable_stop()->set_max_updates(60);
    v1::RainbowConfig& rainbow = *config.mutable_algorithm()->mutable_rainbow();
    rainbow.set_v_min(0);
    rainbow.set_v_max(100);
    if (!set.empty()) {
      EXPECT_EQ(SetField(set, config), absl::OkStatus());
    }
    EXPECT_EQ(ResolveConfig(config), absl::OkStatus());
    Metrics metrics;
    const std::string run_dir = directory_ + "/switch" + set;
    EXPECT_TRUE(TrainSolo(
                    config, run_dir, [] { return false; }, metrics)
                    .ok())
        << set;
    auto checkpoint = ReadNewestCheckpoint(run_dir + "/checkpoints");
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    return checkpoint->algorithm(0).data();
  };
  std::set<std::string> weights = {train("")};
  const std::vector<std::string> switches = {
      "algorithm.double_q=false", "replay.alpha=0",
      "network.dueling=false",    "algorithm.n_step=1",
      "network.noisy=false",      "algorithm.rainbow.distributional=false"};
  for (const std::string& set : switches) {
    EXPECT_TRUE(weights.insert(train(set)).second) << set;
  }
}

// It acted on until it could sample.
TEST_F(SoloTest, ABoundBeforeTheFirstSampleIsKept) {
  absl::StatusOr<v1::Config> config = SmallConfig(1);
  ASSERT_TRUE(config.ok());
  config->mutable_stop()->set_max_env_steps(64);
  Metrics metrics;
  absl::StatusOr<Outcome> outcome = TrainSolo(
      *config, directory_ + "/run", [] { return false; }, metrics);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(*outcome, Outcome::kBounded);
  auto checkpoint = ReadNewestCheckpoint(directory_ + "/run/checkpoints");
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_LE(checkpoint->env_steps(), 64u + 16);
}

TEST_F(SoloTest, SamplesPerInsertIsHeld) {
  absl::StatusOr<v1::Config> config = SmallConfig(3);
  ASSERT_TRUE(config.ok());
  const v1::Checkpoint checkpoint = Train(3, "run");
  // 800 updates of 32 samples at 8 samples an insert, beyond the first 200.
  const double inserted = 200 + 800 * 32 / 8.0;
  const double slack =
      config->replay().tolerance() / config->replay().samples_per_insert();
  // Items lag env steps by the n-step windows of the 16 environments.
  EXPECT_NEAR(static_cast<double>(checkpoint.env_steps()), inserted,
              slack + 16 * 4 + 32);
}

}  // namespace
}  // namespace qfleet
