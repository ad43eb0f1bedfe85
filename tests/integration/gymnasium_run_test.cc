// The real binaries with environments in other processes: Gymnasium's, and the
// simulator of examples/. What needs a Python with Gymnasium is skipped where
// there is none (scripts/setup.sh --gymnasium).

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "envs/python_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const char kQfleet[] = QFLEET_BIN_DIR "/qfleet";
const char kSources[] = QFLEET_SOURCE_DIR;

// Small, and quick to begin.
constexpr char kSmall[] = R"(
  network { hidden: 32 }
  replay { shards: 1 max_items: 10000 min_items: 100 }
  actors { count: 1 environments: 4 }
  evaluation { episodes: 2 period_updates: 1000 }
)";

class GymnasiumRunTest : public testing::Test {
 protected:
  void SetUp() override {
    setenv("PYTHONPATH", absl::StrCat(kSources, "/tests/envs").c_str(), 1);
    std::string output;
    if (Run({"/usr/bin/env", FindPython(""), "-c",
             "import gymnasium, google.protobuf"},
            &output) != 0) {
      GTEST_SKIP() << FindPython("")
                   << " has no gymnasium: scripts/setup.sh --gymnasium";
    }
  }
  void TearDown() override {
    EXPECT_THAT(FindProcesses(run_dir()), IsEmpty());
    EXPECT_THAT(FindProcesses("--import=" + marker()), IsEmpty())
        << "Python was left behind";
  }

  int Run(const std::vector<std::string>& command, std::string* output) {
    return RunToEnd(command, directory_.path() + "/log", 110, output);
  }

  std::string run_dir() const { return directory_.path() + "/run"; }
  // A module that this test's Python processes are known by.
  static std::string marker() { return absl::StrCat("marker_", getpid()); }

  // A config with this environment.
  std::string Config(const std::string& environment,
                     const std::string& more = "") {
    const std::string path = directory_.path() + "/config.txtpb";
    std::ofstream(path) << "environment { " << environment << " }" << kSmall
                        << more;
    return path;
  }

  std::string Marked(const std::string& id, const std::string& more = "") {
    std::ofstream(directory_.path() + "/" + marker() + ".py");
    setenv("PYTHONPATH",
           absl::StrCat(kSources, "/tests/envs:", directory_.path()).c_str(),
           1);
    return absl::StrCat("gymnasium { id: '", id, "' imports: '", marker(),
                        "' imports: 'bad_environments' ", more, " }");
  }

  std::vector<std::string> Train(const std::string& config,
                                 std::vector<std::string> more = {}) {
    more.insert(more.begin(),
                {kQfleet, "train", config, "--run_dir=" + run_dir()});
    return more;
  }

  TempDirectory directory_;
};

TEST_F(GymnasiumRunTest, TrainsAndStopsAtItsBound) {
  std::string output;
  EXPECT_EQ(
      Run(Train(Config(Marked("CartPole-v1"), "stop { max_env_steps: 2000 }"),
                {"--set=actors.groups=2", "--set=actors.count=2"}),
          &output),
      0)
      << output;
  EXPECT_THAT(output, HasSubstr("env steps"));
  // The resolved config says what the environment is, so that nobody asks
  // again.
  EXPECT_EQ(Run({"/bin/grep", "num_actions: 2", run_dir() + "/config.txtpb"},
                &output),
            0);
  EXPECT_EQ(Run({kQfleet, "eval", run_dir(), "--episodes=3"}, &output), 0)
      << output;
  EXPECT_THAT(output, HasSubstr("over 3 greedy episodes"));
}

TEST_F(GymnasiumRunTest, AKilledPythonIsRestartedAndTheRunGoesOn) {
  Process train(Train(Config(Marked("CartPole-v1"))),
                directory_.path() + "/train");
  const auto log = [&](const std::string& word) {
    std::string output;
    return Run({"/bin/grep", "-c", word, run_dir() + "/logs/actor-0.log"},
               &output) == 0;
  };
  // Of the actor, not of the evaluator.
  const auto of_actor = [&] {
    std::vector<pid_t> found;
    for (pid_t pid : FindProcesses("--import=" + marker())) {
      std::string status;
      std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
      for (std::string line; std::getline(file, line);) {
        const std::vector<std::string> words =
            absl::StrSplit(line, absl::ByAnyChar("\t "), absl::SkipEmpty());
        if (words.size() != 2 || words[0] != "PPid:") continue;
        for (pid_t actor : FindProcesses("--actor=0")) {
          if (words[1] == absl::StrCat(actor)) found.push_back(pid);
        }
      }
    }
    return found;
  };
  ASSERT_TRUE(train.WaitUntil([&] { return log("acting from"); }, 60))
      << train.Output();
  for (int kill_number = 1; kill_number <= 2; ++kill_number) {
    std::vector<pid_t> processes;
    ASSERT_TRUE(train.WaitUntil(
        [&] {
          processes = of_actor();
          return processes.size() == 1;
        },
        60));
    kill(processes[0], SIGKILL);
    ASSERT_TRUE(train.WaitUntil(
        [&] {
          std::string output;
          Run({"/bin/grep", "-c",
               "was killed by signal 9; 4 environments "
               "begin anew",
               run_dir() + "/logs/actor-0.log"},
              &output);
          return output == absl::StrCat(kill_number, "\n");
        },
        60))
        << train.Output();
  }
  train.Signal(SIGINT);
  ASSERT_TRUE(train.WaitFor(60));
}

TEST_F(GymnasiumRunTest, AnUnknownIdIsOneLineAndUsage) {
  const std::string config = Config("gymnasium { id: 'NoSuchGame-v3' }");
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{kQfleet, "config", config}, Train(config),
        Train(config, {"--solo"})}) {
    std::string output;
    EXPECT_EQ(Run(command, &output), 2);
    EXPECT_THAT(output,
                HasSubstr("environment.gymnasium.id = \"NoSuchGame-v3\": "
                          "Environment `NoSuchGame` doesn't exist"));
    EXPECT_EQ(std::count(output.begin(), output.end(), '\n'), 1) << output;
  }
}

TEST_F(GymnasiumRunTest, AnEnvironmentThatGivesNaNEndsTheRunInWords) {
  for (const char* solo : {"", "--solo"}) {
    std::filesystem::remove_all(run_dir());
    std::vector<std::string> command =
        Train(Config(Marked("Bad-v0", "kwargs: '{\"what\": \"nan\"}'")));
    command.push_back("--set=evaluation.period_updates=200");
    command.push_back("--set=actors.epsilon_base=0.5");
    command.push_back("--set=actors.epsilon_exponent=0");
    if (*solo != '\0') command.push_back(solo);
    std::string output;
    EXPECT_EQ(Run(command, &output), 2) << output;
    EXPECT_THAT(output,
                HasSubstr("environment.gymnasium.id = \"Bad-v0\": environment "
                          "0: observation[1] = nan: allowed is a finite "
                          "number"));
  }
}

TEST_F(GymnasiumRunTest, TheExampleSimulatorIsLearned) {
  const std::string address = directory_.path() + "/simulator";
  setenv("PYTHONPATH", QFLEET_BIN_DIR "/../python", 1);
  Process simulator({"/usr/bin/env", FindPython(""),
                     absl::StrCat(kSources, "/examples/simulator.py"), address},
                    directory_.path() + "/simulator.log");
  ASSERT_TRUE(
      simulator.WaitUntil([&] { return std::filesystem::exists(address); }, 60))
      << simulator.Output();
  const std::string config =
      Config(absl::StrCat("remote { address: 'unix:", address, "' }"),
             "stop { mean_return: 1 max_env_steps: 100000 }");
  for (const char* solo : {"", "--solo"}) {
    std::filesystem::remove_all(run_dir());
    std::vector<std::string> command = Train(config);
    command.push_back("--set=evaluation.period_updates=200");
    command.push_back("--set=actors.epsilon_base=0.5");
    command.push_back("--set=actors.epsilon_exponent=0");
    if (*solo != '\0') command.push_back(solo);
    std::string output;
    EXPECT_EQ(Run(command, &output), 0) << output;
    EXPECT_THAT(output, HasSubstr("reached: mean return 1.0 "));
  }
}

TEST_F(GymnasiumRunTest, PongRuns) {
  std::string output;
  if (Run({"/usr/bin/env", FindPython(""), "-c", "import ale_py, cv2"},
          &output) != 0) {
    GTEST_SKIP() << FindPython("")
                 << " has no ale-py: scripts/setup.sh --gymnasium";
  }
  EXPECT_EQ(
      Run(Train(absl::StrCat(kSources, "/configs/atari_pong.txtpb"),
                {"--set=actors.environments=2", "--set=replay.min_items=64",
                 "--set=replay.max_items=2000", "--set=stop.max_updates=3",
                 "--set=evaluation.period_updates=1000000",
                 "--set=stop.mean_return=0"}),
          &output),
      3)
      << output;
  EXPECT_THAT(output, HasSubstr("updates"));
}

}  // namespace
}  // namespace qfleet
