// The real binaries: qfleet train and what it starts, over unix sockets.
#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/checkpoint_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/process.h"

namespace qfleet {
namespace {

using testing::HasSubstr;

const char kBin[] = QFLEET_BIN_DIR "/";
// Steps of two actors on their way to two shards.
constexpr uint64_t kMaxInFlight = 2 * 2 * 256;
const char kConfig[] = QFLEET_SOURCE_DIR "/configs/cartpole.txtpb";

class ClusterTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "qfleet_cluster_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    run_dir_ = directory_ + "/run";
  }
  void TearDown() override {
    EXPECT_THAT(FindProcesses(run_dir_), testing::IsEmpty())
        << "processes were left behind";
    std::filesystem::remove_all(directory_);
  }

  std::string Log(const std::string& name) {
    return directory_ + "/" + name + ".out";
  }

  std::vector<std::string> Train(std::vector<std::string> more) {
    std::vector<std::string> command = {std::string(kBin) + "qfleet", "train",
                                        kConfig, "--run_dir=" + run_dir_};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }

  std::vector<nlohmann::json> Reports() {
    std::vector<nlohmann::json> lines;
    std::ifstream file(run_dir_ + "/metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
      if (!json.is_discarded()) lines.push_back(std::move(json));
    }
    return lines;
  }

  // The run's processes whose command line holds one of `words`, but not
  // `qfleet train` itself.
  std::vector<pid_t> Ours(const std::vector<std::string>& words) {
    std::vector<pid_t> pids;
    for (const std::string& word : words) {
      for (pid_t pid : FindProcesses(word)) {
        for (pid_t ours : FindProcesses("--config=" + run_dir_)) {
          if (pid == ours) pids.push_back(pid);
        }
      }
    }
    return pids;
  }

  // What the shards' files say, once they have ended.
  uint64_t ShardEnvSteps() {
    uint64_t env_steps = 0;
    for (const char* shard : {"0", "1"}) {
      std::string output;
      EXPECT_EQ(RunToEnd({std::string(kBin) + "qfleet", "inspect",
                          run_dir_ + "/replay/shard-" + shard, "--json"},
                         Log("inspect"), 30, &output),
                0)
          << output;
      const nlohmann::json stats = nlohmann::json::parse(output)[0]["stats"];
      env_steps +=
          stats["steps"].get<uint64_t>() - stats["episodes"].get<uint64_t>();
    }
    return env_steps;
  }

  uint64_t Updates() {
    const std::vector<nlohmann::json> reports = Reports();
    return reports.empty() ? 0 : reports.back()["updates"].get<uint64_t>();
  }

  // name -> "host:port" of /metrics, of the processes that serve.
  std::map<std::string, std::string> MetricsAddresses() {
    std::map<std::string, std::string> addresses;
    std::error_code error;
    for (const auto& entry :
         std::filesystem::directory_iterator(run_dir_ + "/ready", error)) {
      std::ifstream file(entry.path());
      for (std::string kind, address; file >> kind >> address;) {
        if (kind == "metrics") {
          addresses[entry.path().filename().string()] = address;
        }
      }
    }
    return addresses;
  }

  std::string directory_;
  std::string run_dir_;
};

TEST_F(ClusterTest, TrainsToASmallTargetAndEvalRepeatsTheReturn) {
  std::string output;
  const int code = RunToEnd(
      Train({"--set=stop.mean_return=60", "--set=stop.max_env_steps=100000",
             "--set=evaluation.period_updates=100"}),
      Log("train"), 240, &output);
  ASSERT_EQ(code, 0) << output;
  EXPECT_THAT(output, HasSubstr("reached: mean return"));
  EXPECT_THAT(output, HasSubstr(run_dir_));
  const nlohmann::json last = Reports().back();
  EXPECT_GE(last["evaluation"]["mean_return"], 60);
  EXPECT_GT(last["updates"], 0);
  EXPECT_EQ(last["shards"], 2);
  // Prioritized replay went round: the shards applied what the learner wrote.
  EXPECT_GT(last["priorities_applied"], 32 * last["updates"].get<int>());

  const std::vector<std::string> eval = {std::string(kBin) + "qfleet", "eval",
                                         run_dir_, "--episodes=20", "--json"};
  ASSERT_EQ(RunToEnd(eval, Log("eval"), 120, &output), 0) << output;
  const nlohmann::json result = nlohmann::json::parse(output);
  EXPECT_EQ(result["mean_return"], last["evaluation"]["mean_return"]);
  EXPECT_EQ(result["policy_version"], last["evaluation"]["policy_version"]);
}

TEST_F(ClusterTest, ABoundThatComesFirstExitsWith3) {
  std::string output;
  EXPECT_EQ(RunToEnd(Train({"--set=stop.max_updates=40"}), Log("train"), 120,
                     &output),
            3)
      << output;
  EXPECT_THAT(output, HasSubstr("not reached"));
  EXPECT_FALSE(ListCheckpoints(run_dir_ + "/checkpoints").empty());
}

TEST_F(ClusterTest, TheLogsOfARunAreJsonIfSaidSo) {
  std::string output;
  EXPECT_EQ(RunToEnd(Train({"--set=stop.max_updates=40", "--log_format=json"}),
                     Log("train"), 120, &output),
            3)
      << output;
  EXPECT_EQ(RunToEnd({std::string(kBin) + "qfleet", "resume", run_dir_,
                      "--set=stop.max_updates=60", "--log_format=json"},
                     Log("resume"), 120, &output),
            3)
      << output;
  std::set<std::string> roles;
  for (const auto& entry :
       std::filesystem::directory_iterator(run_dir_ + "/logs")) {
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      const auto parsed = nlohmann::json::parse(line, nullptr, false);
      ASSERT_TRUE(parsed.is_object()) << entry.path() << ": " << line;
      roles.insert(parsed["role"].get<std::string>());
    }
  }
  EXPECT_THAT(roles, testing::IsSupersetOf({"learner", "replay-0"}));
}

TEST_F(ClusterTest, SoloTrainsToo) {
  std::string output;
  EXPECT_EQ(RunToEnd(Train({"--solo", "--set=stop.mean_return=60"}),
                     Log("train"), 240, &output),
            0)
      << output;
  EXPECT_THAT(output, HasSubstr("reached: mean return"));
}

TEST_F(ClusterTest, AnInterruptLeavesACheckpointAndNoProcess) {
  Process train(Train({"--set=stop.mean_return=1000"}), Log("train"));
  ASSERT_TRUE(train.WaitUntil([this] { return Updates() > 50; }, 120))
      << train.Output();
  train.Signal(SIGINT);
  ASSERT_TRUE(train.WaitFor(60));
  EXPECT_EQ(train.exit_code(), 1);
  EXPECT_THAT(train.Output(), HasSubstr("interrupted; checkpoint: "));
  auto checkpoint = ReadNewestCheckpoint(run_dir_ + "/checkpoints");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_GT(checkpoint->updates(), 50u);
}

TEST_F(ClusterTest, ALearnerThatSomeoneStopsIsNoSuccessOfTrain) {
  Process train(Train({"--set=stop.mean_return=1000"}), Log("train"));
  ASSERT_TRUE(train.WaitUntil([this] { return Updates() > 50; }, 120))
      << train.Output();
  for (pid_t pid : FindProcesses("qfleet-learner")) {
    // Only ours: the command line holds the run directory too.
    for (pid_t ours : FindProcesses(run_dir_)) {
      if (pid == ours && pid != train.pid()) kill(pid, SIGTERM);
    }
  }
  ASSERT_TRUE(train.WaitFor(60));
  EXPECT_EQ(train.exit_code(), 1) << train.Output();
  EXPECT_THAT(train.Output(), HasSubstr("learner was stopped by a signal"));
  EXPECT_FALSE(ListCheckpoints(run_dir_ + "/checkpoints").empty());
}

TEST_F(ClusterTest, AKilledTrainTakesItsProcessesAlong) {
  Process train(Train({"--set=stop.mean_return=1000"}), Log("train"));
  ASSERT_TRUE(train.WaitUntil([this] { return Updates() > 10; }, 120))
      << train.Output();
  train.Signal(SIGKILL);
  ASSERT_TRUE(train.WaitFor(10));
  // They get SIGTERM from the kernel and end by themselves.
  Process clock({"/bin/sleep", "60"}, Log("clock"));
  EXPECT_TRUE(
      clock.WaitUntil([this] { return FindProcesses(run_dir_).empty(); }, 60));
  EXPECT_FALSE(ListCheckpoints(run_dir_ + "/checkpoints").empty());
}

TEST_F(ClusterTest, AKilledActorAndAKilledShardAreRestartedAndTrainingGoesOn) {
  Process train(Train({"--set=stop.mean_return=1000"}), Log("train"));
  ASSERT_TRUE(train.WaitUntil([this] { return Updates() > 50; }, 120))
      << train.Output();
  for (const char* victim : {"--actor=1", "--shard=0"}) {
    for (pid_t pid : FindProcesses(victim)) {
      // Only ours: the command line holds the run directory too.
      for (pid_t ours : FindProcesses(run_dir_)) {
        if (pid == ours && pid != train.pid()) kill(pid, SIGKILL);
      }
    }
  }
  const auto says = [&train](const char* text) {
    return train.Output().find(text) != std::string::npos;
  };
  EXPECT_TRUE(train.WaitUntil(
      [&] {
        return says("actor-1 was killed by signal 9; restarting") &&
               says("replay-0 was killed by signal 9; restarting");
      },
      60))
      << train.Output();
  // Both are in use again, and updates go on.
  const uint64_t before = Updates();
  EXPECT_TRUE(train.WaitUntil(
      [&] {
        const nlohmann::json last = Reports().back();
        return last["shards"] == 2 && last["actors"] == 2 &&
               last["updates"] > before + 200;
      },
      120))
      << train.Output();
  train.Signal(SIGTERM);
  ASSERT_TRUE(train.WaitFor(60));
}

TEST_F(ClusterTest, AKilledLearnerGoesOnFromItsCheckpointBesideItsActors) {
  Process train(
      Train({"--set=stop.mean_return=1000", "--set=stop.max_updates=4000",
             "--set=learner.checkpoint_period=100",
             "--set=learner.report_seconds=0.1"}),
      Log("train"));
  ASSERT_TRUE(train.WaitUntil(
      [this] {
        return Updates() > 300 &&
               !ListCheckpoints(run_dir_ + "/checkpoints").empty();
      },
      120))
      << train.Output();
  const std::vector<pid_t> others = Ours({"--shard=", "--actor=", "evaluator"});
  ASSERT_EQ(others.size(), 5u);
  for (pid_t pid : Ours({"qfleet-learner"})) kill(pid, SIGKILL);
  const nlohmann::json before = Reports().back();
  ASSERT_TRUE(train.WaitUntil(
      [&] {
        return Reports().back()["policy_version"] > 1'000'000'000 &&
               Reports().back()["actors"] == 2;
      },
      120))
      << train.Output();
  EXPECT_THAT(train.Output(),
              HasSubstr("learner was killed by signal 9; restarting"));
  EXPECT_EQ(Ours({"--shard=", "--actor=", "evaluator"}), others);
  ASSERT_TRUE(train.WaitFor(200)) << train.Output();
  EXPECT_EQ(train.exit_code(), 3) << train.Output();
  const nlohmann::json last = Reports().back();
  EXPECT_EQ(last["updates"], 4000);
  auto checkpoint = ReadNewestCheckpoint(run_dir_ + "/checkpoints");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ASSERT_EQ(checkpoint->shards_size(), 2) << "what its next life goes on from";
  for (const v1::KnownShard& shard : checkpoint->shards()) {
    EXPECT_NE(shard.stats().life(), 0u);
    EXPECT_GT(shard.stats().inserted(), 0u);
  }
  EXPECT_GE(last["env_steps"], before["env_steps"]);
  EXPECT_GE(last["wall_seconds"], before["wall_seconds"]);
  // All was counted once, but for what came after the last update.
  EXPECT_LE(last["env_steps"], ShardEnvSteps());
  EXPECT_GE(last["env_steps"].get<uint64_t>() + kMaxInFlight, ShardEnvSteps());
  std::ifstream file(run_dir_ + "/logs/learner.log");
  std::ostringstream log;
  log << file.rdbuf();
  EXPECT_THAT(log.str(), HasSubstr("resuming after "));
  EXPECT_THAT(log.str(), testing::Not(HasSubstr("cannot resume")));
}

TEST_F(ClusterTest, AStoppedRunIsResumedWithAllItsProcesses) {
  std::string output;
  ASSERT_EQ(RunToEnd(Train({"--set=stop.mean_return=1000",
                            "--set=stop.max_updates=300"}),
                     Log("train"), 120, &output),
            3)
      << output;
  const nlohmann::json before = Reports().back();
  const size_t lines = Reports().size();
  const std::string qfleet = std::string(kBin) + "qfleet";
  ASSERT_EQ(RunToEnd({qfleet, "resume", run_dir_, "--set=stop.max_updates=900"},
                     Log("resume"), 120, &output),
            3)
      << output;
  EXPECT_THAT(output, HasSubstr("not reached"));
  const std::vector<nlohmann::json> reports = Reports();
  ASSERT_GT(reports.size(), lines);
  for (size_t i = lines; i < reports.size(); ++i) {
    for (const char* counter : {"env_steps", "updates", "policy_version",
                                "wall_seconds", "episodes"}) {
      EXPECT_GE(reports[i][counter], reports[i - 1][counter]) << counter;
    }
  }
  EXPECT_EQ(reports.back()["updates"], 900);
  EXPECT_LE(reports.back()["env_steps"], ShardEnvSteps());
  EXPECT_GE(reports.back()["env_steps"].get<uint64_t>() + kMaxInFlight,
            ShardEnvSteps());
  // What it had reached it need not reach again.
  ASSERT_EQ(RunToEnd({qfleet, "resume", run_dir_}, Log("resume"), 120, &output),
            3)
      << output;
  EXPECT_EQ(Reports().back()["updates"], 900);
}

// A thousand actors would be no more streams than two.
TEST_F(ClusterTest, TrainsThroughRelaysInInt8AndGoesOnWhenOneIsKilled) {
  Process train(
      Train({"--set=actors.relays=2", "--set=actors.weight_codec=INT8",
             "--set=stop.mean_return=1000", "--set=learner.report_seconds=0.1",
             "--set=evaluation.period_updates=100"}),
      Log("train"));
  const auto log = [this](const std::string& name) {
    std::ostringstream text;
    text << std::ifstream(run_dir_ + "/logs/" + name + ".log").rdbuf();
    return text.str();
  };
  ASSERT_TRUE(train.WaitUntil(
      [this] { return Updates() > 20 && Reports().back()["actors"] == 2; },
      120))
      << train.Output();
  for (pid_t pid : Ours({"--index=0"})) kill(pid, SIGKILL);
  const std::string serves = "serving from policy version";
  ASSERT_TRUE(train.WaitUntil(
      [&] {
        const std::string text = log("relay-0");
        return text.find(serves) != text.rfind(serves);
      },
      120))
      << train.Output();
  EXPECT_THAT(train.Output(),
              HasSubstr("relay-0 was killed by signal 9; restarting"));
  const uint64_t before = Updates();
  ASSERT_TRUE(train.WaitUntil(
      [&] {
        const nlohmann::json last = Reports().back();
        return last["actors"] == 2 && last["updates"] > before + 100 &&
               last["episodes"] > 0 && last.contains("evaluation");
      },
      120))
      << train.Output();
  train.Signal(SIGTERM);
  ASSERT_TRUE(train.WaitFor(60)) << train.Output();
  for (const char* name : {"relay-0", "relay-1"}) {
    EXPECT_THAT(log(name), HasSubstr(serves));
    EXPECT_THAT(log(name), HasSubstr("stopped; "));  // Orderly, at the end.
  }
  // The evaluated policy is kept as it was learned, whatever the actors had.
  auto checkpoint = ReadNewestCheckpoint(run_dir_ + "/checkpoints");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->policy().codec(), v1::FP32);
  EXPECT_EQ(checkpoint->published().codec(), v1::FP32);
  std::string output;
  ASSERT_EQ(RunToEnd({std::string(kBin) + "qfleet", "resume", run_dir_,
                      "--set=stop.mean_return=1000",
                      absl::StrCat("--set=stop.max_updates=",
                                   checkpoint->updates() + 100)},
                     Log("resume"), 120, &output),
            3)
      << output;
}

// On a policy that has solved the task. What INT8 costs is in docs/results.md;
// here it is that the figures are there and of the right size.
TEST_F(ClusterTest, EvalSaysWhatAFormOfTheWeightsChanges) {
  std::string output;
  ASSERT_EQ(
      RunToEnd(Train({"--solo", "--set=seed=1"}), Log("train"), 240, &output),
      0)
      << output;
  const auto eval = [&](const std::string& codec) {
    std::string text;
    EXPECT_EQ(RunToEnd({std::string(kBin) + "qfleet", "eval", run_dir_,
                        "--codec=" + codec, "--json"},
                       Log("eval"), 120, &text),
              0)
        << text;
    return nlohmann::json::parse(text);
  };
  const nlohmann::json fp32 = eval("fp32");
  EXPECT_FALSE(fp32.contains("codec"));
  for (const char* codec : {"bf16", "int8"}) {
    const nlohmann::json result = eval(codec);
    const bool bf16 = codec[0] == 'b';
    EXPECT_EQ(result["codec"], bf16 ? "BF16" : "INT8");
    EXPECT_EQ(result["fp32_mean_return"], fp32["mean_return"]);
    EXPECT_EQ(result["states"], result["mean_length"].get<double>() * 20);
    EXPECT_NEAR(result["byte_ratio"], bf16 ? 0.5 : 0.2683, 1e-4);
    EXPECT_GE(result["agreement"], bf16 ? 0.9 : 0.99);
    EXPECT_LE(result["agreement"], 1);
    EXPECT_LE(result["lost_value"], bf16 ? 0.001 : 0.0001);
    EXPECT_GE(result["mean_return"], 0.95 * fp32["mean_return"].get<double>());
  }
  EXPECT_EQ(
      RunToEnd({std::string(kBin) + "qfleet", "eval", run_dir_, "--codec=int4"},
               Log("eval"), 30, &output),
      2);
  EXPECT_THAT(output, HasSubstr("int4 not in {fp32,bf16,int8}"));
}

TEST_F(ClusterTest, TwoLearnersTrainOneNetworkAndTheDeathOfOneEndsTheJob) {
  const std::vector<std::string> sets = {"--set=learner.count=2",
                                         "--set=stop.mean_return=1000",
                                         "--set=learner.report_seconds=0.1",
                                         "--set=learner.checkpoint_period=100"};
  {
    std::vector<std::string> more = sets;
    more.push_back("--set=stop.max_updates=100000");
    Process train(Train(more), Log("train"));
    ASSERT_TRUE(train.WaitUntil(
        [this] {
          return Updates() > 150 &&
                 !ListCheckpoints(run_dir_ + "/checkpoints").empty();
        },
        120))
        << train.Output();
    const std::vector<pid_t> learners = Ours({"qfleet-learner"});
    ASSERT_EQ(learners.size(), 2u);
    kill(std::max(learners[0], learners[1]), SIGKILL);  // Started last.
    ASSERT_TRUE(train.WaitFor(60)) << train.Output();
    EXPECT_EQ(train.exit_code(), 1);
    EXPECT_THAT(
        train.Output(),
        testing::AnyOf(HasSubstr("learner-1 was killed by signal 9"),
                       HasSubstr("another learner of this job is gone")));
  }
  const uint64_t updates = Updates();
  std::string output;
  ASSERT_EQ(RunToEnd({std::string(kBin) + "qfleet", "resume", run_dir_,
                      absl::StrCat("--set=stop.max_updates=", updates + 200)},
                     Log("resume"), 120, &output),
            3)
      << output;
  EXPECT_EQ(Updates(), updates + 200);
  // Both made all updates, and ended with the job.
  std::ifstream file(run_dir_ + "/logs/learner-1.log");
  std::ostringstream log;
  log << file.rdbuf();
  EXPECT_THAT(log.str(), HasSubstr("ended with the job, after " +
                                   std::to_string(updates + 200)));
}

TEST_F(ClusterTest, ASoloRunThatIsKilledIsResumed) {
  const std::string qfleet = std::string(kBin) + "qfleet";
  {
    Process train(Train({"--solo", "--set=stop.mean_return=1000",
                         "--set=learner.checkpoint_period=100"}),
                  Log("train"));
    ASSERT_TRUE(train.WaitUntil(
        [this] {
          return ListCheckpoints(run_dir_ + "/checkpoints").size() > 1;
        },
        120))
        << train.Output();
    std::string output;
    EXPECT_EQ(
        RunToEnd({qfleet, "resume", run_dir_}, Log("second"), 30, &output), 2);
    EXPECT_THAT(output, HasSubstr("is still running"));
    for (pid_t pid : Ours({"qfleet-solo"})) kill(pid, SIGKILL);
    ASSERT_TRUE(train.WaitFor(30));
    EXPECT_EQ(train.exit_code(), 1);
  }
  auto checkpoint = ReadNewestCheckpoint(run_dir_ + "/checkpoints");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const std::string updates = std::to_string(checkpoint->updates() + 150);
  std::string output;
  EXPECT_EQ(RunToEnd({qfleet, "resume", run_dir_,
                      "--set=stop.max_updates=" + updates},
                     Log("resume"), 120, &output),
            3)
      << output;
  EXPECT_EQ(std::to_string(Updates()), updates);
  // Real weights, read by a Python that knows nothing of us.
  const std::string file = directory_ + "/w.safetensors";
  ASSERT_EQ(RunToEnd({qfleet, "export", run_dir_, "--output=" + file},
                     Log("export"), 30, &output),
            0)
      << output;
  ASSERT_EQ(RunToEnd({"/usr/bin/env", "python3",
                      QFLEET_SOURCE_DIR "/tests/cli/read_safetensors.py", file},
                     Log("python"), 30, &output),
            0)
      << output;
  EXPECT_THAT(output, HasSubstr("encoder.0.weight [128, 4] "));
}

TEST_F(ClusterTest, EveryProcessServesMetricsThatPromtoolAccepts) {
  Process train(Train({"--set=stop.mean_return=1000"}), Log("train"));
  ASSERT_TRUE(train.WaitUntil(
      [this] { return Updates() > 50 && MetricsAddresses().size() == 6; }, 120))
      << train.Output();
  std::map<std::string, std::string> metrics;
  for (const auto& [name, address] : MetricsAddresses()) {
    std::string output;
    // promtool reads the exposition from stdin.
    const std::string command = "curl -sf http://" + address +
                                "/metrics | tee " + Log(name) +
                                " | promtool check metrics";
    EXPECT_EQ(
        RunToEnd({"/bin/sh", "-c", command}, Log("promtool"), 30, &output), 0)
        << name << ": " << output;
    std::ifstream file(Log(name));
    std::ostringstream text;
    text << file.rdbuf();
    metrics[name] = text.str();
  }
  EXPECT_THAT(metrics["replay-0"],
              HasSubstr("qfleet_replay_items_inserted_total"));
  EXPECT_THAT(metrics["actor-0"], HasSubstr("qfleet_actor_env_steps_total"));
  EXPECT_THAT(metrics["learner"], HasSubstr("qfleet_learner_updates_total"));
  EXPECT_THAT(metrics["evaluator"],
              HasSubstr("qfleet_evaluator_evaluations_total"));

  std::string status;
  const std::string sockets = "unix:" + run_dir_ + "/sockets/";
  EXPECT_EQ(RunToEnd({std::string(kBin) + "qfleet", "status",
                      sockets + "learner.sock", sockets + "replay-0.sock",
                      sockets + "replay-1.sock"},
                     Log("status"), 30, &status),
            0);
  EXPECT_THAT(status, HasSubstr("learner"));
  train.Signal(SIGINT);
  ASSERT_TRUE(train.WaitFor(60));
}

struct Refusal {
  std::vector<std::string> command;
  int code;
  std::vector<std::string> words;
};

TEST_F(ClusterTest, WhatIsWrongIsSaidInOneLineWithItsExitCode) {
  const std::string bin = kBin;
  const std::string config = std::string("--config=") + kConfig;
  const std::vector<Refusal> refusals = {
      {Train({"--set=replay.shard=3"}), 2, {"replay.shard", "shards"}},
      {Train({"--set=replay.alpha=9"}), 2, {"replay.alpha", "9", "0 to 4"}},
      {Train({"--set=environment.id=CartPole-v9"}),
       2,
       {"environment.id", "CartPole-v9", "CartPole-v1"}},
      {{bin + "qfleet", "train", kConfig, "--run_dir=/proc/nowhere"},
       1,
       {"/proc/nowhere"}},
      {{bin + "qfleet", "train", directory_ + "/none.txtpb"},
       1,
       {"none.txtpb"}},
      {{bin + "qfleet", "frobnicate"}, 2, {"frobnicate"}},
      {{bin + "qfleet", "eval", directory_}, 1, {"checkpoint"}},
      {{bin + "qfleet-replay", config, "--listen=nowhere"},
       2,
       {"--listen", "nowhere", "host:port"}},
      {{bin + "qfleet-learner", config, "--run_dir=" + run_dir_},
       2,
       {"cluster.replay"}},
      {{bin + "qfleet-actor", config}, 2, {"cluster.learner"}},
      {{bin + "qfleet-actor", config, "--actor=7",
        "--set=cluster.learner=unix:/none", "--set=cluster.replay=unix:/none"},
       2,
       {"--actor = 7", "0 to 1"}},
  };
  for (const Refusal& refusal : refusals) {
    std::string output;
    const int code = RunToEnd(refusal.command, Log("refused"), 30, &output);
    EXPECT_EQ(code, refusal.code)
        << testing::PrintToString(refusal.command) << ": " << output;
    for (const std::string& word : refusal.words) {
      EXPECT_THAT(output, HasSubstr(word));
    }
    std::filesystem::remove_all(run_dir_);
  }
}

TEST_F(ClusterTest, APortInUseIsNamed) {
  const std::string config = std::string("--config=") + kConfig;
  const std::string ready = directory_ + "/ready";
  Process first({std::string(kBin) + "qfleet-replay", config,
                 "--listen=127.0.0.1:0", "--ready_file=" + ready},
                Log("first"));
  ASSERT_TRUE(
      first.WaitUntil([&] { return std::filesystem::exists(ready); }, 30))
      << first.Output();
  std::string grpc, metrics, word;
  std::ifstream file(ready);
  file >> word >> grpc >> word >> metrics;
  const std::string bin = std::string(kBin) + "qfleet-replay";
  std::string output;
  EXPECT_EQ(
      RunToEnd({bin, config, "--listen=" + grpc}, Log("second"), 30, &output),
      1);
  EXPECT_THAT(output, HasSubstr(grpc));
  EXPECT_EQ(
      RunToEnd({bin, config, "--listen=127.0.0.1:0", "--metrics=" + metrics},
               Log("second"), 30, &output),
      1);
  EXPECT_THAT(output, HasSubstr(metrics));
  first.Signal(SIGTERM);
  ASSERT_TRUE(first.WaitFor(30));
  EXPECT_EQ(first.exit_code(), 0) << first.Output();
}

}  // namespace
}  // namespace qfleet
