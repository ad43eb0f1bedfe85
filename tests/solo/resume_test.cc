// A solo run that is stopped and resumed is the run that was not: every weight,
// every counter, every byte of the replay.
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/checkpoint_file.h"
#include "common/files.h"
#include "config/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "learner/algorithms/algorithm.h"
#include "model/runtime.h"
#include "nlohmann/json.hpp"
#include "solo/solo.h"

namespace qfleet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ResumeTest : public testing::Test {
 protected:
  void SetUp() override {
    InitTorch(1);
    std::string name = testing::TempDir() + "qfleet_resume_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { fs::remove_all(directory_); }

  // Wraps the rings of steps and items within some hundred updates.
  static v1::Config SmallConfig(const std::vector<std::string>& sets) {
    v1::Config config = *ParseConfig(
        R"pb(
          seed: 5
          environment { id: "CartPole-v1" }
          algorithm { n_step: 5 target_period: 70 }
          network { hidden: 16 }
          replay {
            max_items: 700
            min_items: 200
            beta: 0.4
            final_beta: 1
            beta_updates: 1500
          }
          actors { count: 1 environments: 6 }
          learner { batch_size: 16 report_seconds: 0.05 checkpoints_kept: 20 }
          evaluation { episodes: 2 period_updates: 150 }
        )pb",
        "test");
    for (const std::string& set : sets) {
      EXPECT_EQ(SetField(set, config), absl::OkStatus());
    }
    EXPECT_EQ(ResolveConfig(config), absl::OkStatus());
    return config;
  }

  std::string RunDir(const std::string& name) const {
    return directory_ + "/" + name;
  }
  std::string Checkpoints(const std::string& name) const {
    return RunDir(name) + "/checkpoints";
  }

  absl::StatusOr<Outcome> Train(
      const std::string& name, const std::vector<std::string>& sets,
      bool resume = false,
      const std::function<bool()>& interrupted = [] { return false; }) {
    Metrics metrics;
    return TrainSolo(SmallConfig(sets), RunDir(name), interrupted, metrics,
                     resume);
  }

  // The newest checkpoint without what the clock and the folder's number made.
  v1::Checkpoint Newest(const std::string& name) {
    auto checkpoint = ReadNewestCheckpoint(Checkpoints(name));
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint->clear_wall_seconds();
    checkpoint->clear_config();
    checkpoint->mutable_evaluation()->clear_wall_seconds();
    EXPECT_NE(checkpoint->solo().replay_hash(), 0u);
    checkpoint->mutable_solo()->clear_replay();
    return *std::move(checkpoint);
  }

  // Field by field, so that a failure names the field.
  static void ExpectSame(const v1::Checkpoint& a, const v1::Checkpoint& b) {
    EXPECT_EQ(a.updates(), b.updates());
    EXPECT_EQ(a.env_steps(), b.env_steps());
    ASSERT_EQ(a.algorithm_size(), b.algorithm_size());
    for (int i = 0; i < a.algorithm_size(); ++i) {
      EXPECT_TRUE(a.algorithm(i).data() == b.algorithm(i).data())
          << a.algorithm(i).spec().name();
    }
    EXPECT_EQ(a.published().version(), b.published().version());
    EXPECT_EQ(a.published().hash(), b.published().hash());
    EXPECT_EQ(a.evaluation().ShortDebugString(),
              b.evaluation().ShortDebugString());
    EXPECT_EQ(a.solo().replay_hash(), b.solo().replay_hash());
    EXPECT_EQ(a.solo().actor().SerializeAsString(),
              b.solo().actor().SerializeAsString());
    EXPECT_TRUE(a.SerializeAsString() == b.SerializeAsString());
  }

  std::string directory_;
};

TEST_F(ResumeTest, TwoThousandUpdatesAreTwiceAThousandToTheBit) {
  ASSERT_TRUE(Train("straight", {"stop.max_updates=2000"}).ok());
  ASSERT_TRUE(Train("half", {"stop.max_updates=1000"}).ok());
  const v1::Checkpoint half = Newest("half");
  EXPECT_EQ(half.updates(), 1000u);
  // The rings have wrapped, and windows are open in the midst of episodes.
  EXPECT_GT(half.env_steps(), 700u * 5 / 4 + 1024);
  int open = 0;
  for (const auto& stream : half.solo().actor().streams()) {
    open += stream.transitions_size() > 0 && stream.return_so_far() > 0;
  }
  EXPECT_GT(open, 3);

  absl::StatusOr<Outcome> outcome =
      Train("half", {"stop.max_updates=2000"}, /*resume=*/true);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(*outcome, Outcome::kBounded);
  const v1::Checkpoint whole = Newest("half");
  EXPECT_EQ(whole.updates(), 2000u);
  EXPECT_NE(whole.algorithm(0).data(), half.algorithm(0).data());
  ExpectSame(Newest("straight"), whole);
}

// Noise of the learner and of the actor, the chain's head that acts, masks, a
// schedule of epsilon under way: each has a state of its own.
TEST_F(ResumeTest, EveryAlgorithmGoesOnToTheBit) {
  const std::vector<std::vector<std::string>> settings = {
      {"algorithm.rainbow.v_min=0", "algorithm.rainbow.v_max=100"},
      {"algorithm.i_dqn.networks=3", "algorithm.i_dqn.sync_period=20"},
      {"algorithm.qr_dqn.quantiles=7", "optimizer.rmsprop.decay=0.9",
       "algorithm.target_tau=0.5"},
      {"environment.id=GridWorld-v0", "actors.epsilon_decay_steps=4000"},
      {"environment.id=Catch-v0", "network.noisy=true"},
      {"actors.weight_codec=INT8"},
  };
  for (size_t i = 0; i < settings.size(); ++i) {
    SCOPED_TRACE(settings[i][0]);
    const auto train = [&](const std::string& name, int updates) {
      std::vector<std::string> sets = settings[i];
      sets.push_back(absl::StrCat("stop.max_updates=", updates));
      absl::StatusOr<Outcome> outcome = Train(name, sets, /*resume=*/true);
      ASSERT_TRUE(outcome.ok()) << outcome.status();
    };
    train(absl::StrCat("straight", i), 400);
    train(absl::StrCat("half", i), 190);
    train(absl::StrCat("half", i), 400);
    ExpectSame(Newest(absl::StrCat("straight", i)),
               Newest(absl::StrCat("half", i)));
  }
}

// Odd places: between two publications, at one, while the ring fills; each
// written behind the loop, and each a run of its own from there on.
TEST_F(ResumeTest, EveryCheckpointOfARunLeadsToTheSameEnd) {
  ASSERT_TRUE(
      Train("run", {"stop.max_updates=610", "learner.checkpoint_period=50"})
          .ok());
  const v1::Checkpoint end = Newest("run");
  const std::vector<std::string> paths = ListCheckpoints(Checkpoints("run"));
  // Those are left out that are due while another is being written.
  ASSERT_GE(paths.size(), 2u);
  for (const std::string& path : paths) {
    auto checkpoint = ReadCheckpoint(path);
    ASSERT_TRUE(checkpoint.ok());
    const std::string name = absl::StrCat("from-", checkpoint->updates());
    fs::create_directories(Checkpoints(name));
    const std::string& folder = checkpoint->solo().replay();
    fs::copy(path, Checkpoints(name));
    fs::copy(fs::path(path).parent_path() / folder,
             fs::path(Checkpoints(name)) / folder, fs::copy_options::recursive);
    absl::StatusOr<Outcome> outcome =
        Train(name, {"stop.max_updates=610", "learner.checkpoint_period=50"},
              /*resume=*/true);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    SCOPED_TRACE(name);
    ExpectSame(end, Newest(name));
  }
}

// Interrupted at any question, also in the midst of an evaluation.
TEST_F(ResumeTest, InterruptsAtAnyMomentChangeNothing) {
  ASSERT_TRUE(Train("straight", {"stop.max_updates=400"}).ok());
  int lives = 0;
  for (int allowed = 37;; allowed += 101) {
    int asked = 0;
    absl::StatusOr<Outcome> outcome =
        Train("stops", {"stop.max_updates=400"}, /*resume=*/true,
              [&] { return ++asked > allowed; });
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    ++lives;
    if (*outcome == Outcome::kBounded) break;
    ASSERT_LT(lives, 100);
  }
  EXPECT_GT(lives, 4);
  ExpectSame(Newest("straight"), Newest("stops"));
}

// Free slots are taken in an order that the files do not tell.
TEST_F(ResumeTest, ATableThatRemovesTheLowestPriorityGoesOnToo) {
  v1::Config config = SmallConfig({});
  config.mutable_replay()->mutable_table()->set_remover(v1::LOWEST_PRIORITY);
  const auto train = [&](const std::string& name, int64_t updates) {
    config.mutable_stop()->set_max_updates(updates);
    Metrics metrics;
    EXPECT_TRUE(TrainSolo(
                    config, RunDir(name), [] { return false; }, metrics,
                    /*resume=*/true)
                    .ok());
  };
  train("straight", 500);
  for (int64_t updates : {20, 150, 333, 500}) train("steps", updates);
  ExpectSame(Newest("straight"), Newest("steps"));
}

TEST_F(ResumeTest, ReportsAreAppendedAndCountersDoNotGoBack) {
  ASSERT_TRUE(Train("run", {"stop.max_updates=300"}).ok());
  ASSERT_TRUE(Train("run", {"stop.max_updates=600"}, /*resume=*/true).ok());
  std::ifstream file(RunDir("run") + "/metrics.jsonl");
  nlohmann::json before = nlohmann::json::parse("{}");
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    const nlohmann::json now = nlohmann::json::parse(line);
    if (lines > 0) {
      for (const char* counter :
           {"wall_seconds", "env_steps", "episodes", "updates",
            "policy_version", "priorities_applied"}) {
        EXPECT_GE(now[counter], before[counter]) << counter << ": " << line;
      }
    }
    before = now;
  }
  EXPECT_EQ(before["updates"], 600);
}

TEST_F(ResumeTest, WithoutACheckpointItStarts) {
  absl::StatusOr<Outcome> outcome =
      Train("run", {"stop.max_updates=30"}, /*resume=*/true);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(Newest("run").updates(), 30u);
}

TEST_F(ResumeTest, AReplayThatIsNotWholeMakesItsCheckpointUnusable) {
  ASSERT_TRUE(Train("run", {"stop.max_updates=100"}).ok());
  ASSERT_TRUE(Train("run", {"stop.max_updates=200"}, /*resume=*/true).ok());
  const v1::Checkpoint newest =
      *ReadCheckpoint(ListCheckpoints(Checkpoints("run")).front());
  const std::string payload = absl::StrCat(
      Checkpoints("run"), "/", newest.solo().replay(), "/replay/payload");
  std::string bytes = *ReadFile(payload);
  bytes[40] ^= 1;
  ASSERT_TRUE(WriteFileAtomically(payload, bytes).ok());
  // The one before is used, and the run comes to where it was.
  ASSERT_TRUE(Train("run", {"stop.max_updates=200"}, /*resume=*/true).ok());
  ASSERT_TRUE(Train("straight", {"stop.max_updates=200"}).ok());
  ExpectSame(Newest("straight"), Newest("run"));
  // None is left.
  for (const auto& entry : fs::directory_iterator(Checkpoints("run"))) {
    if (entry.is_directory()) fs::remove_all(entry.path());
  }
  absl::Status status =
      Train("run", {"stop.max_updates=300"}, /*resume=*/true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("can be used"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("MANIFEST"));
}

TEST_F(ResumeTest, AReplayFolderStaysAsLongAsItsCheckpoint) {
  for (int updates : {50, 100, 150, 200}) {
    ASSERT_TRUE(Train("run",
                      {absl::StrCat("stop.max_updates=", updates),
                       "learner.checkpoints_kept=2"},
                      /*resume=*/true)
                    .ok());
  }
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(Checkpoints("run"))) {
    names.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(
      names, testing::UnorderedElementsAre("checkpoint-000000000150.qfckpt",
                                           "checkpoint-000000000150.replay-0",
                                           "checkpoint-000000000200.qfckpt",
                                           "checkpoint-000000000200.replay-0"));
}

TEST_F(ResumeTest, AnotherNetworkOrAnotherNumberOfEnvironmentsIsRefused) {
  ASSERT_TRUE(Train("run", {"stop.max_updates=50"}).ok());
  absl::Status network =
      Train("run", {"stop.max_updates=90", "network.hidden=17"}, true).status();
  EXPECT_EQ(network.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(network.message()),
              testing::AllOf(HasSubstr("mlp 16"), HasSubstr("mlp 17")));
  absl::Status actors =
      Train("run", {"stop.max_updates=90", "actors.environments=7"}, true)
          .status();
  EXPECT_EQ(actors.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(actors.message()), HasSubstr("allowed is 7"));
}

// Its state is that of an environment that says it has none.
TEST_F(ResumeTest, ACheckpointOfTheNetworksOnlyIsRefusedInWords) {
  ASSERT_TRUE(Train("run", {"stop.max_updates=50"}).ok());
  v1::Checkpoint checkpoint = *ReadNewestCheckpoint(Checkpoints("run"));
  checkpoint.clear_solo();
  ASSERT_TRUE(WriteCheckpoint(Checkpoints("run"), checkpoint, 1).ok());
  absl::Status status =
      Train("run", {"stop.max_updates=90"}, /*resume=*/true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(status.message()),
      testing::AllOf(HasSubstr("networks only"), HasSubstr("CartPole-v1")));
}

}  // namespace
}  // namespace qfleet
