// When a run ends, what it writes, what a checkpoint holds.
#include "learner/run.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace qfleet {
namespace {

class RunTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "qfleet_run_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    config_.mutable_environment()->set_id("CartPole-v1");
    config_.mutable_network()->add_hidden(4);
    config_.mutable_algorithm()->mutable_dqn();
    config_.mutable_stop()->set_mean_return(100);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<qfleet::Run> OpenRun() {
    metrics_ = std::make_unique<Metrics>();
    auto run = std::make_unique<qfleet::Run>(config_, directory_, *metrics_);
    EXPECT_TRUE(run->Open().ok());
    return run;
  }

  static v1::EvaluationReport Report(double mean_return, uint64_t version) {
    v1::EvaluationReport report;
    report.mutable_evaluation()->set_mean_return(mean_return);
    report.mutable_evaluation()->set_episodes(20);
    report.mutable_evaluation()->set_policy_version(version);
    report.mutable_policy()->set_version(version);
    return report;
  }

  std::vector<nlohmann::json> Lines() {
    std::vector<nlohmann::json> lines;
    std::ifstream file(directory_ + "/metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      lines.push_back(nlohmann::json::parse(line));
    }
    return lines;
  }

  std::string directory_;
  v1::Config config_;
  std::unique_ptr<Metrics> metrics_;
};

ReplayView View(uint64_t steps, uint64_t episodes) {
  return {.size = steps,
          .inserted = steps,
          .sampled = 4 * steps,
          .steps = steps,
          .episodes = episodes};
}

TEST_F(RunTest, IsReachedByTheFirstEvaluationAtTheTarget) {
  std::unique_ptr<qfleet::Run> run = OpenRun();
  run->RecordEvaluation(Report(99.9, 1));
  EXPECT_EQ(run->outcome(), Outcome::kNone);
  run->RecordEvaluation(Report(100, 2));
  EXPECT_EQ(run->outcome(), Outcome::kReached);
  // What comes later changes neither the outcome nor the policy kept.
  run->RecordEvaluation(Report(3, 3));
  EXPECT_EQ(run->outcome(), Outcome::kReached);
  EXPECT_EQ(run->Newest().evaluation().policy_version(), 2u);
}

TEST_F(RunTest, ABoundEndsItUnreached) {
  config_.mutable_stop()->set_max_env_steps(1000);
  std::unique_ptr<qfleet::Run> run = OpenRun();
  run->Tick(10, View(1009, 10));
  EXPECT_EQ(run->outcome(), Outcome::kNone);
  run->Tick(11, View(1010, 10));
  EXPECT_EQ(run->outcome(), Outcome::kNotReached);
}

TEST_F(RunTest, ABoundWithoutATargetIsTheJobDone) {
  config_.mutable_stop()->clear_mean_return();
  config_.mutable_stop()->set_max_updates(50);
  std::unique_ptr<qfleet::Run> run = OpenRun();
  run->RecordEvaluation(Report(1e9, 1));
  run->Tick(49, View(1, 1));
  EXPECT_EQ(run->outcome(), Outcome::kNone);
  run->Tick(50, View(1, 1));
  EXPECT_EQ(run->outcome(), Outcome::kBounded);
}

TEST(ExitCodeTest, ASignalIsNotTheStopCondition) {
  v1::StopConfig none, target, bound;
  target.set_mean_return(1);
  bound.set_max_seconds(1);
  for (const v1::StopConfig& stop : {target, bound}) {
    EXPECT_EQ(ExitCodeOf(Outcome::kReached, stop), 0);
    EXPECT_EQ(ExitCodeOf(Outcome::kBounded, stop), 0);
    EXPECT_EQ(ExitCodeOf(Outcome::kNotReached, stop), 3);
    EXPECT_EQ(ExitCodeOf(Outcome::kNone, stop), 4);
  }
  // A run without an end of its own is ended by a signal.
  EXPECT_EQ(ExitCodeOf(Outcome::kNone, none), 0);
}

TEST_F(RunTest, EnvStepsDoNotGoBackWhenAShardForgets) {
  std::unique_ptr<qfleet::Run> run = OpenRun();
  run->Tick(1, View(110, 10));
  run->Tick(2, View(33, 3));  // A shard lost its memory.
  run->Tick(3, View(55, 5));
  ASSERT_TRUE(run->Report({}, View(55, 5), {}, 1, "training").ok());
  EXPECT_EQ(run->Newest().env_steps(), 120u);
}

TEST_F(RunTest, ReportsAreLinesOfJsonWithPlainNumbers) {
  std::unique_ptr<qfleet::Run> run = OpenRun();
  run->Tick(20, View(110, 10));
  TrainerAccount account{
      .updates = 20, .loss = 10, .mean_q = 40, .gradient_norm = 60};
  ASSERT_TRUE(run->Report(account, View(110, 10),
                          {.connected = 2,
                           .episodes = 4,
                           .return_sum = 80,
                           .oldest_policy_seconds = 0.5},
                          7, "training")
                  .ok());
  run->RecordEvaluation(Report(42, 7));
  ASSERT_TRUE(run->Report({}, View(110, 10), {}, 7, "stopping").ok());
  const std::vector<nlohmann::json> lines = Lines();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["env_steps"], 100);
  EXPECT_EQ(lines[0]["updates"], 20);
  EXPECT_EQ(lines[0]["loss"], 0.5);
  EXPECT_EQ(lines[0]["mean_q"], 2.0);
  EXPECT_EQ(lines[0]["samples_per_insert"], 4.0);
  EXPECT_EQ(lines[0]["exploring_return"], 20.0);
  EXPECT_EQ(lines[0]["actors"], 2);
  EXPECT_FALSE(lines[0].contains("evaluation"));
  EXPECT_EQ(lines[1]["evaluation"]["mean_return"], 42.0);
  EXPECT_EQ(lines[1]["evaluation"]["env_steps"], 100);
  EXPECT_EQ(lines[1]["state"], "stopping");
}

TEST_F(RunTest, TheCheckpointHoldsThePolicyThatWasEvaluated) {
  std::unique_ptr<qfleet::Run> run = OpenRun();
  auto algorithm = MakeAlgorithm(config_);
  ASSERT_TRUE(algorithm.ok()) << algorithm.status();
  v1::Publication newest;
  newest.set_version(9);
  const v1::Checkpoint first = run->MakeCheckpoint(**algorithm, newest, {}, {});
  EXPECT_EQ(first.policy().version(), 9u);
  run->RecordEvaluation(Report(99, 8));
  const v1::Checkpoint second =
      run->MakeCheckpoint(**algorithm, newest, {}, {});
  EXPECT_EQ(second.policy().version(), 8u);
  EXPECT_EQ(second.published().version(), 9u);
  EXPECT_EQ(second.evaluation().mean_return(), 99);
}

TEST_F(RunTest, TheCheckpointNamesTheParametersOfTheFlatVector) {
  std::unique_ptr<qfleet::Run> run = OpenRun();
  auto algorithm = MakeAlgorithm(config_);
  ASSERT_TRUE(algorithm.ok()) << algorithm.status();
  const v1::Checkpoint checkpoint =
      run->MakeCheckpoint(**algorithm, v1::Publication(), {}, {});
  EXPECT_EQ(checkpoint.algorithm_name(), "dqn");
  const auto& parameters = (*algorithm)->network().parameters();
  ASSERT_EQ(static_cast<size_t>(checkpoint.parameters_size()),
            parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    EXPECT_EQ(checkpoint.parameters(i).name(), parameters[i].name);
    EXPECT_THAT(checkpoint.parameters(i).shape(),
                testing::ElementsAreArray(parameters[i].shape));
    EXPECT_EQ(checkpoint.parameters(i).offset(), parameters[i].offset);
  }
}

v1::Checkpoint EarlierLife() {
  v1::Checkpoint checkpoint;
  checkpoint.set_updates(500);
  checkpoint.set_env_steps(1000);
  checkpoint.set_wall_seconds(60);
  checkpoint.set_episodes(40);
  checkpoint.set_return_sum(800);
  checkpoint.add_shard_env_steps(600);
  checkpoint.add_shard_env_steps(400);
  checkpoint.set_priorities_applied(7000);
  return checkpoint;
}

ReplayView ShardView(std::vector<uint64_t> env_steps) {
  ReplayView view;
  view.shard_env_steps = std::move(env_steps);
  view.priorities_applied = 5;
  return view;
}

// The shards hold what was counted already, and what came meanwhile.
TEST_F(RunTest, AResumedRunCountsOnWhateverTheShardsHoldWhenTheyAreSeen) {
  std::unique_ptr<qfleet::Run> run = OpenRun();
  run->Resume(EarlierLife());
  // A scrape before the first report sees no fall to 0.
  EXPECT_THAT(metrics_->Text(),
              testing::HasSubstr(absl::StrCat("qfleet_learner_updates_total ",
                                              EarlierLife().updates())));
  EXPECT_EQ(run->Newest().env_steps(), 1000u);
  run->Tick(501, ShardView({0, 0}));  // Not connected yet.
  run->Tick(502, ShardView({0, 450}));
  run->Tick(503, ShardView({620, 450}));
  run->Tick(504, ShardView({630, 460}));
  ASSERT_TRUE(run->Report({}, ShardView({630, 460}),
                          {.episodes = 42, .return_sum = 850}, 1, "training")
                  .ok());
  const v1::RunReport report = run->Newest();
  EXPECT_EQ(report.env_steps(), 1090u);
  EXPECT_EQ(report.updates(), 504u);
  EXPECT_EQ(report.episodes(), 42u);
  EXPECT_EQ(report.exploring_return(), 25);
  EXPECT_EQ(report.priorities_applied(), 7005u);
  EXPECT_GE(report.wall_seconds(), 60);
  EXPECT_LT(report.wall_seconds(), 120);
}

TEST_F(RunTest, AResumedRunDoesNotGoBackWhenAShardForgot) {
  std::unique_ptr<qfleet::Run> run = OpenRun();
  run->Resume(EarlierLife());
  run->Tick(501, ShardView({10, 400}));
  run->Tick(502, ShardView({30, 410}));
  ASSERT_TRUE(run->Report({}, ShardView({30, 410}), {}, 1, "training").ok());
  EXPECT_EQ(run->Newest().env_steps(), 1030u);
}

TEST_F(RunTest, ARunThatWasReachedIsReachedWhenItIsResumed) {
  v1::Checkpoint checkpoint = EarlierLife();
  checkpoint.mutable_evaluation()->set_episodes(20);
  checkpoint.mutable_evaluation()->set_mean_return(100);
  checkpoint.mutable_policy()->set_version(3);
  std::unique_ptr<qfleet::Run> run = OpenRun();
  run->Resume(checkpoint);
  EXPECT_EQ(run->outcome(), Outcome::kReached);
  config_.mutable_stop()->set_mean_return(101);
  run = OpenRun();
  run->Resume(checkpoint);
  EXPECT_EQ(run->outcome(), Outcome::kNone);
  EXPECT_EQ(run->Newest().evaluation().mean_return(), 100);
}

TEST_F(RunTest, ABoundThatWasMetIsMetWhenItIsResumed) {
  config_.mutable_stop()->set_max_updates(500);
  std::unique_ptr<qfleet::Run> run = OpenRun();
  run->Resume(EarlierLife());
  EXPECT_EQ(run->outcome(), Outcome::kNotReached);
}

// The next line was appended to the half one, and both were lost.
TEST_F(RunTest, ALineThatAKilledLearnerLeftHalfStaysAlone) {
  std::ofstream(directory_ + "/metrics.jsonl") << "{\"updates\": 1}\n{\"upda";
  std::unique_ptr<qfleet::Run> run = OpenRun();
  ASSERT_TRUE(run->Report({}, View(1, 1), {}, 1, "training").ok());
  std::ifstream file(directory_ + "/metrics.jsonl");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1], "{\"upda");
  EXPECT_EQ(nlohmann::json::parse(lines[2])["state"], "training");
}

TEST_F(RunTest, AnUnwritableRunDirectoryIsAnError) {
  Metrics metrics;
  qfleet::Run run(config_, "/proc/nowhere", metrics);
  absl::Status status = run.Open();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("/proc/nowhere"));
}

}  // namespace
}  // namespace qfleet
