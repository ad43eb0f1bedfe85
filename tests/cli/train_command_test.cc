// `qfleet train` and `qfleet eval` with shell scripts in place of the programs
// that they start.

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/checkpoint_file.h"
#include "config/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Sets d to the run directory; U, to be used once, appends a report.
constexpr char kLearnerStart[] = R"(#!/bin/sh
for a in "$@"; do case $a in --run_dir=*) d=${a#*=};; esac; done
report() {
  echo '{"wall_seconds": 14.2, "env_steps": 21504, "updates": 5200,' \
    '"state": "training", "evaluation": {"policy_version": 9,' \
    '"episodes": 20, "mean_return": 487.6}}' >> $d/metrics.jsonl
}
)";
constexpr char kServe[] =
    "#!/bin/sh\necho \"$@\"\ntrap 'exit 0' TERM\nsleep 1000 & wait\n";

struct Result {
  int exit_code = -1;
  std::string output;  // Standard output and error.
};

class TrainCommandTest : public ::testing::Test {
 protected:
  TrainCommandTest() {
    std::string name = "/tmp/qfleet_train_XXXXXX";
    root_ = mkdtemp(name.data());
    fs::create_directory(root_ + "/bin");
    fs::copy_file(QFLEET_BIN_DIR "/qfleet", root_ + "/bin/qfleet");
    for (const char* program : {"qfleet-replay", "qfleet-actor"}) {
      Install(program, kServe);
    }
    std::ofstream(root_ + "/c.txtpb")
        << "environment { id: \"CartPole-v1\" } stop { mean_return: 475 }"
           "actors { count: 1 } replay { shards: 1 }";
  }
  ~TrainCommandTest() override { fs::remove_all(root_); }

  void Install(const std::string& program, const std::string& script) {
    const std::string path = root_ + "/bin/" + program;
    std::ofstream(path) << script;
    fs::permissions(path, fs::perms::owner_all);
  }

  std::string Command(const std::string& arguments) {
    return absl::StrCat("cd ", root_, " && exec bin/qfleet ", arguments,
                        " 2>&1");
  }

  Result Run(const std::string& arguments) {
    FILE* pipe = popen(Command(arguments).c_str(), "r");
    Result result;
    for (int c; (c = fgetc(pipe)) != EOF;) {
      result.output += static_cast<char>(c);
    }
    result.exit_code = WEXITSTATUS(pclose(pipe));
    return result;
  }

  std::string Text(const std::string& name) {
    std::ostringstream text;
    text << std::ifstream(root_ + "/" + name).rdbuf();
    return text.str();
  }

  std::string root_;
};

TEST_F(TrainCommandTest, ReachedIsZero) {
  Install("qfleet-learner", absl::StrCat(kLearnerStart, "report; exit 0"));
  Result result = Run("train c.txtpb --run_dir=r");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output,
            "run directory: r\n"
            "status: qfleet status unix:r/sockets/learner.sock\n"
            "14.2 s  env steps 21,504 (0/s)  updates 5,200 (0/s)  replay 0 "
            "items, 0 B  samples/insert 0.00  loss 0  mean Q 0  exploring "
            "return 0.0  weight age 0.00 s\n"
            "evaluation: mean return 487.6 (target 475), min 0.0, max 0.0 over "
            "20 episodes at 0 env steps, 0 updates\n"
            "reached: mean return 487.6 over 20 episodes (target 475) after "
            "21,504 env steps, 5,200 updates, 14.2 s\n"
            "run directory: r\n");
}

TEST_F(TrainCommandTest, WritesTheResolvedConfigWithTheAddresses) {
  Install("qfleet-learner", "#!/bin/sh\nexit 0");
  ASSERT_EQ(Run("train c.txtpb --run_dir=r --set seed=7").exit_code, 0);
  absl::StatusOr<v1::Config> config = LoadConfig(root_ + "/r/config.txtpb", {});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->seed(), 7u);
  EXPECT_THAT(config->cluster().replay(),
              ElementsAre("unix:" + root_ + "/r/sockets/replay-0.sock"));
  EXPECT_TRUE(config->replay().has_table());
}

TEST_F(TrainCommandTest, NotReachedIsThree) {
  Install("qfleet-learner", "#!/bin/sh\nexit 3");
  Result result = Run("train c.txtpb --run_dir=r");
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.output,
              HasSubstr("not reached: no evaluation (target 475) after 0 env "
                        "steps"));
}

// It was taken for a success.
TEST_F(TrainCommandTest, ALearnerThatSomeoneStoppedIsNoSuccess) {
  Install("qfleet-learner",
          absl::StrCat(kLearnerStart,
                       "touch $d/checkpoints/checkpoint-000000000007.qfckpt\n"
                       "trap 'exit 4' TERM; kill $$"));
  Result result = Run("train c.txtpb --run_dir=r");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.output, HasSubstr("\nstopped; checkpoint: r/checkpoints/"
                                       "checkpoint-000000000007.qfckpt\n"));
  EXPECT_THAT(result.output,
              HasSubstr("\nqfleet: learner was stopped by a signal of someone "
                        "else, before the run's stop condition\n"));
  EXPECT_THAT(result.output, Not(HasSubstr("interrupted")));
}

TEST_F(TrainCommandTest, SoloThatSomeoneStoppedIsNoSuccessEither) {
  Install("qfleet-solo", "#!/bin/sh\nexit 4");
  Result result = Run("train c.txtpb --run_dir=r --solo");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.output, HasSubstr("qfleet: solo was stopped by a signal"));
}

TEST_F(TrainCommandTest, ALearnerThatIsKilledIsResumedBesideItsActors) {
  Install("qfleet-learner",
          absl::StrCat("#!/bin/sh\ncase $* in *--resume*) exit 0;; esac\n"
                       "kill -9 $$"));
  Result result = Run("train c.txtpb --run_dir=r");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.output,
              HasSubstr("learner was killed by signal 9; restarting\n"));
}

// The programs of a run that ended; then a learner that says how it is called.
class ResumeCommandTest : public TrainCommandTest {
 protected:
  void TrainOnce(const std::string& more, bool checkpoint = true) {
    for (const char* program : {"qfleet-learner", "qfleet-solo"}) {
      Install(program, absl::StrCat(kLearnerStart, "report; exit 3"));
    }
    ASSERT_EQ(Run(absl::StrCat("train c.txtpb --run_dir=r ", more)).exit_code,
              3);
    if (checkpoint) WriteCheckpointOf(root_ + "/r/config.txtpb");
    for (const char* program : {"qfleet-learner", "qfleet-solo"}) {
      Install(program,
              absl::StrCat(kLearnerStart, "echo \"$@\"; report; exit 0"));
    }
  }

  void WriteCheckpointOf(const std::string& config) {
    v1::Checkpoint checkpoint;
    checkpoint.set_updates(7);
    checkpoint.set_config(ConfigText(*LoadConfig(config, {})));
    ASSERT_TRUE(WriteCheckpoint(root_ + "/r/checkpoints", checkpoint, 1).ok());
  }
};

TEST_F(ResumeCommandTest, GoesOnAsACluster) {
  TrainOnce("");
  Result result = Run("resume r --set stop.mean_return=480");
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("run directory: r\nstatus: "));
  EXPECT_THAT(result.output, HasSubstr("reached: mean return 487.6"));
  EXPECT_THAT(Text("r/logs/learner.log"), HasSubstr("--resume"));
  EXPECT_THAT(Text("r/logs/replay-0.log"), HasSubstr("--data_dir="));
  EXPECT_FALSE(fs::exists(root_ + "/r/logs/solo.log"));
  absl::StatusOr<v1::Config> config = LoadConfig(root_ + "/r/config.txtpb", {});
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->stop().mean_return(), 480);
}

TEST_F(ResumeCommandTest, GoesOnAsOneProcess) {
  TrainOnce("--solo");
  Result result = Run("resume r");
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_THAT(Text("r/logs/solo.log"), HasSubstr("--resume"));
  EXPECT_FALSE(fs::exists(root_ + "/r/logs/learner.log"));
}

TEST_F(ResumeCommandTest, NamesWhatIsWrongWithTheRun) {
  Result folder = Run("resume nowhere");
  EXPECT_EQ(folder.exit_code, 2);
  EXPECT_THAT(folder.output, HasSubstr("RUN_DIR = \"nowhere\" is no folder"));
  fs::create_directory(root_ + "/empty");
  Result empty = Run("resume empty");
  EXPECT_EQ(empty.exit_code, 2);
  EXPECT_THAT(empty.output, HasSubstr("holds no run"));
  EXPECT_TRUE(fs::is_empty(root_ + "/empty"));
  TrainOnce("", /*checkpoint=*/false);
  Result none = Run("resume r");
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.output, HasSubstr("no checkpoint in"));
  fs::remove(root_ + "/r/config.txtpb");
  Result config = Run("resume r");
  EXPECT_EQ(config.exit_code, 2);
  EXPECT_THAT(config.output, HasSubstr("r/config.txtpb"));
}

TEST_F(ResumeCommandTest, AFieldThatTheCheckpointDoesNotFitIsRefused) {
  TrainOnce("");
  const std::string before = Text("r/config.txtpb");
  Result hidden = Run("resume r --set network.hidden=32");
  EXPECT_EQ(hidden.exit_code, 2);
  EXPECT_THAT(hidden.output,
              HasSubstr("qfleet: network hidden: 32: allowed is hidden: 128 "
                        "hidden: 128, as in the checkpoint\n"));
  Result dueling = Run("resume r --set network.dueling=false");
  EXPECT_EQ(dueling.exit_code, 2);
  Result range = Run("resume r --set replay.alpha=9");
  EXPECT_EQ(range.exit_code, 2);
  EXPECT_EQ(range.output, "qfleet: replay.alpha = 9: allowed is 0 to 4\n");
  EXPECT_EQ(Text("r/config.txtpb"), before);
}

TEST_F(ResumeCommandTest, ARunThatStillRunsIsRefused) {
  TrainOnce("");
  mkfifo((root_ + "/fifo").c_str(), 0600);
  Install("qfleet-learner",
          absl::StrCat("#!/bin/sh\necho up > ", root_, "/fifo; read x < ",
                       root_, "/fifo; exit 0"));
  FILE* first = popen(Command("resume r").c_str(), "r");
  EXPECT_EQ(Text("fifo"), "up\n");
  Result second = Run("resume r");
  EXPECT_EQ(second.exit_code, 2);
  EXPECT_THAT(second.output, HasSubstr("RUN_DIR = \""));
  EXPECT_THAT(second.output, HasSubstr("is still running"));
  std::ofstream(root_ + "/fifo") << "end\n";
  while (fgetc(first) != EOF) {
  }
  EXPECT_EQ(WEXITSTATUS(pclose(first)), 0);
}

TEST_F(TrainCommandTest, ForwardsTheLearnersError) {
  Install("qfleet-learner", "#!/bin/sh\necho out of luck >&2; exit 1");
  Result result = Run("train c.txtpb --run_dir=r");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.output, HasSubstr("failed; checkpoint: none\n"));
  EXPECT_THAT(result.output,
              HasSubstr("qfleet: learner exited 1: out of luck\n"));
}

TEST_F(TrainCommandTest, AShardsConfigErrorIsTwo) {
  Install("qfleet-learner", kServe);
  Install("qfleet-replay", "#!/bin/sh\necho field = 3: allowed is 4; exit 2");
  Result result = Run("train c.txtpb --run_dir=r");
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.output, HasSubstr("qfleet: replay-0 exited 2: field = 3: "
                                       "allowed is 4\n"));
}

TEST_F(TrainCommandTest, RestartsAKilledActor) {
  mkfifo((root_ + "/fifo").c_str(), 0600);
  // The second life of the actor lets the learner end.
  Install("qfleet-actor",
          absl::StrReplaceAll(
              "#!/bin/sh\ncase $* in *--evaluator*) sleep 1000;; esac\n"
              "if [ -e D/once ]; then echo > D/fifo; sleep 1000; fi\n"
              "touch D/once; kill -9 $$",
              {{"D/", root_ + "/"}}));
  Install("qfleet-learner",
          absl::StrCat("#!/bin/sh\nread x < ", root_, "/fifo; exit 0"));
  Result result = Run("train c.txtpb --run_dir=r");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.output,
              HasSubstr("actor-0 was killed by signal 9; restarting\n"));
}

TEST_F(TrainCommandTest, AnInterruptStopsTheLearnerAndNamesItsCheckpoint) {
  const std::string script = absl::StrCat(
      kLearnerStart,
      "trap 'touch $d/checkpoints/checkpoint-000000000007.qfckpt; exit 4' TERM"
      "\nreport; sleep 1000 & wait");
  Install("qfleet-learner", script);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execl("/bin/sh", "sh", "-c", Command("train c.txtpb --run_dir=r").c_str(),
          nullptr);
    _exit(1);
  }
  close(ends[1]);
  FILE* stream = fdopen(ends[0], "r");
  std::string output;
  bool interrupted = false;
  for (int c; (c = fgetc(stream)) != EOF;) {
    output += static_cast<char>(c);
    // A report: the learner listens to its trap by now.
    if (!interrupted && output.find("env steps") != std::string::npos) {
      kill(pid, SIGINT);
      interrupted = true;
    }
  }
  fclose(stream);
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(output, HasSubstr("interrupted; stopping\n"
                                "interrupted; checkpoint: r/checkpoints/"
                                "checkpoint-000000000007.qfckpt\n"
                                "run directory: r\n"));
}

TEST_F(TrainCommandTest, SoloStartsOneProcess) {
  Install("qfleet-solo", absl::StrCat(kLearnerStart, "report; exit 0"));
  Result result = Run("train c.txtpb --run_dir=r --solo");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.output, Not(HasSubstr("qfleet status")));
  EXPECT_TRUE(fs::exists(root_ + "/r/logs/solo.log"));
  EXPECT_FALSE(fs::exists(root_ + "/r/logs/learner.log"));
}

TEST_F(TrainCommandTest, ErrorsBeforeTheStartLeaveNothingBehind) {
  Result bad = Run("train c.txtpb --run_dir=r --set replay.alpha=9");
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_EQ(bad.output, "qfleet: replay.alpha = 9: allowed is 0 to 4\n");
  Result no_learner = Run("train c.txtpb --run_dir=r");
  EXPECT_EQ(no_learner.exit_code, 1);
  EXPECT_THAT(no_learner.output, HasSubstr("cannot run"));
  EXPECT_FALSE(fs::exists(root_ + "/r"));
}

TEST_F(TrainCommandTest, RefusesARunDirectoryThatIsInUse) {
  Install("qfleet-learner", "#!/bin/sh\nexit 0");
  ASSERT_EQ(Run("train c.txtpb --run_dir=r").exit_code, 0);
  Result again = Run("train c.txtpb --run_dir=r");
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.output, HasSubstr("already holds a run"));
}

TEST_F(TrainCommandTest, TheDefaultRunDirectoryIsBelowRuns) {
  Install("qfleet-learner", "#!/bin/sh\nexit 0");
  EXPECT_THAT(Run("train c.txtpb").output,
              HasSubstr("run directory: runs/c-20"));
}

TEST_F(TrainCommandTest, EvalRunsTheActorOfTheNewestCheckpoint) {
  Install("qfleet-actor", "#!/bin/sh\necho \"$@\"; exit 5");
  fs::create_directories(root_ + "/r/checkpoints");
  Result none = Run("eval r");
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.output,
              HasSubstr("qfleet: r/checkpoints holds no checkpoint"));
  std::ofstream(root_ + "/r/checkpoints/checkpoint-000000000007.qfckpt") << "";
  Result result = Run("eval r --episodes=3 --json");
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_EQ(result.output, "--evaluate=r --episodes=3 --json\n");
  EXPECT_EQ(Run("eval r").output, "--evaluate=r --episodes=0\n");
  EXPECT_EQ(Run("eval r --codec=int8").output,
            "--evaluate=r --episodes=0 --codec=int8\n");
}

TEST_F(TrainCommandTest, EvalNamesWhatIsWrongWithItsArguments) {
  Result folder = Run("eval nowhere");
  EXPECT_EQ(folder.exit_code, 2);
  EXPECT_THAT(folder.output, HasSubstr("RUN_DIR = \"nowhere\" is no folder"));
  Result episodes = Run("eval r --episodes=0");
  EXPECT_EQ(episodes.exit_code, 2);
  EXPECT_THAT(episodes.output, HasSubstr("--episodes"));
  Result codec = Run("eval r --codec=int4");
  EXPECT_EQ(codec.exit_code, 2);
  EXPECT_THAT(codec.output, HasSubstr("int4 not in {fp32,bf16,int8}"));
}

TEST_F(TrainCommandTest, ConfigPrintsWhatItReads) {
  Result result = Run("config c.txtpb --set network.hidden=3,4");
  EXPECT_EQ(result.exit_code, 0);
  absl::StatusOr<v1::Config> config = ParseConfig(result.output, "output");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->network().hidden(), ElementsAre(3, 4));
}

}  // namespace
}  // namespace qfleet
