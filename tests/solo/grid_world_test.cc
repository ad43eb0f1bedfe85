// What is learned is right: the values of a small world against value
// iteration, whose slips make every target a random one and whose limit of
// steps must not show in the values.

#include "envs/grid_world.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "actor/policy.h"
#include "common/checkpoint_file.h"
#include "config/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/network.h"
#include "model/runtime.h"
#include "solo/solo.h"

namespace qfleet {
namespace {

constexpr double kGamma = 0.9;

// Acting is random throughout; what is learned is the best policy's all the
// same. The loss is squared (no TD error is 10), as a clipped one learns no
// expectation, and importance weights are used in full (beta 1), as prioritized
// sampling distorts it.
v1::Config MakeConfig() {
  absl::StatusOr<v1::Config> config = ParseConfig(
      R"pb(
        environment { id: "GridWorld-v0" }
        algorithm {
          gamma: 0.9
          n_step: 1
          double_q: true
          target_period: 100
          dqn { huber_delta: 10 }
        }
        network { hidden: 64 }
        optimizer {
          learning_rate: 2e-3
          final_learning_rate_share: 0.02
          decay_updates: 4000
        }
        replay {
          shards: 1
          max_items: 400000
          min_items: 20000
          samples_per_insert: 4
          beta: 1
          final_beta: 1
        }
        actors { environments: 64 epsilon_base: 1 }
        learner { batch_size: 256 report_seconds: 60 }
        evaluation { episodes: 10 period_updates: 500 }
        stop { max_updates: 4000 }
      )pb",
      "test");
  EXPECT_TRUE(config.ok()) << config.status();
  absl::Status resolved = ResolveConfig(*config);
  EXPECT_TRUE(resolved.ok()) << resolved;
  return *std::move(config);
}

v1::Checkpoint Train(const v1::Config& config, const std::string& run_dir) {
  Metrics metrics;
  absl::StatusOr<Outcome> outcome = TrainSolo(
      config, run_dir, [] { return false; }, metrics);
  EXPECT_TRUE(outcome.ok()) << outcome.status();
  auto checkpoint = ReadNewestCheckpoint(run_dir + "/checkpoints");
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return *std::move(checkpoint);
}

// [cells, actions]
std::vector<float> LearnedValues(const v1::Config& config,
                                 const v1::Publication& weights) {
  const GridWorld world;
  const EnvironmentSpec& spec = world.spec();
  auto network = Network::Make(config, spec);
  EXPECT_TRUE(network.ok()) << network.status();
  Policy policy(*network, spec.observation);
  absl::Status set = policy.SetWeights(weights);
  EXPECT_TRUE(set.ok()) << set;
  std::vector<float> cells(GridWorld::kCells * GridWorld::kCells);
  for (int cell = 0; cell < GridWorld::kCells; ++cell) {
    cells[cell * GridWorld::kCells + cell] = 1;
  }
  absl::Span<const float> q =
      policy.QValues({reinterpret_cast<const char*>(cells.data()),
                      GridWorld::kCells * sizeof(float)},
                     GridWorld::kCells);
  return std::vector<float>(q.begin(), q.end());
}

TEST(GridWorldLearningTest, TheValuesAreThoseOfValueIteration) {
  InitTorch(1);
  std::string directory = testing::TempDir() + "qfleet_grid_world_XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const v1::Config config = MakeConfig();
  const v1::Checkpoint checkpoint = Train(config, directory);
  const std::vector<float> q = LearnedValues(config, checkpoint.policy());
  const GridWorld::Values values = GridWorld::OptimalValues(kGamma);
  double worst = 0;
  for (int cell = 0; cell < GridWorld::kCells; ++cell) {
    if (GridWorld::IsWall(cell) || GridWorld::IsTerminal(cell)) continue;
    for (int action = 0; action < GridWorld::kActions; ++action) {
      if (!GridWorld::IsLegal(cell, action)) continue;
      const double expected =
          GridWorld::ActionValue(values, kGamma, cell, action);
      const double learned = q[cell * GridWorld::kActions + action];
      EXPECT_NEAR(learned, expected, 0.05)
          << "cell " << cell << " action " << action;
      worst = std::max(worst, std::abs(learned - expected));
    }
  }
  RecordProperty("worst_error", std::to_string(worst));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace qfleet
