// The children are small shell scripts. The test waits for them without
// sleeping: by waitid for an end, by reading a FIFO for a word from them.

#include "cli/supervisor.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SupervisorTest : public ::testing::Test {
 protected:
  SupervisorTest() {
    std::string name = ::testing::TempDir() + "/supervisor_XXXXXX";
    root_ = mkdtemp(name.data());
    mkfifo((root_ + "/fifo").c_str(), 0600);
  }
  ~SupervisorTest() override { fs::remove_all(root_); }

  Supervisor::Options Options() {
    Supervisor::Options options;
    options.notice = [this](const std::string& line) {
      notices_.push_back(line);
    };
    options.now = [this] { return now_; };
    return options;
  }

  // `script` runs with D set to the test's folder.
  SupervisedProcess Shell(const std::string& name, const std::string& script) {
    SupervisedProcess process;
    process.child.name = name;
    process.child.command = {"/bin/sh", "-c", script};
    process.child.environment = {{"D", root_}};
    process.child.log = root_ + "/" + name + ".log";
    return process;
  }

  // A process whose end is the run's, and the run's end.
  RunEnd EndOfRun(const std::string& script) {
    Supervisor supervisor(Options());
    SupervisedProcess process = Shell("learner", script);
    process.ends_run = true;
    EXPECT_EQ(supervisor.Start(process), absl::OkStatus());
    AwaitAnEnd();
    std::optional<RunEnd> end = supervisor.Poll();
    EXPECT_TRUE(end.has_value());
    return end.value_or(RunEnd{-1, "no end"});
  }

  // Until some child has ended (and is not yet waited for).
  static void AwaitAnEnd() {
    siginfo_t info;
    ASSERT_EQ(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
  }

  // What a child writes into $D/fifo.
  std::string Heard() {
    std::ostringstream text;
    text << std::ifstream(root_ + "/fifo").rdbuf();
    return text.str();
  }

  std::string Text(const std::string& name) {
    std::ostringstream text;
    text << std::ifstream(root_ + "/" + name).rdbuf();
    return text.str();
  }

  std::string root_;
  absl::Time now_ = absl::UnixEpoch();
  std::vector<std::string> notices_;
};

TEST_F(SupervisorTest, RestartsAfterTheDelay) {
  Supervisor supervisor(Options());
  ASSERT_EQ(supervisor.Start(Shell("actor-1", "echo run >> $D/runs; exit 1")),
            absl::OkStatus());
  AwaitAnEnd();
  EXPECT_FALSE(supervisor.Poll().has_value());
  EXPECT_THAT(notices_, ElementsAre("actor-1 exited 1; restarting"));
  now_ += absl::Milliseconds(499);
  EXPECT_FALSE(supervisor.Poll().has_value());
  errno = 0;
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);  // No child: not yet.
  EXPECT_EQ(errno, ECHILD);
  now_ += absl::Milliseconds(1);
  EXPECT_FALSE(supervisor.Poll().has_value());
  AwaitAnEnd();
  EXPECT_EQ(Text("runs"), "run\nrun\n");
}

TEST_F(SupervisorTest, NamesTheSignal) {
  Supervisor supervisor(Options());
  ASSERT_EQ(supervisor.Start(Shell("actor-1", "kill -9 $$")), absl::OkStatus());
  AwaitAnEnd();
  EXPECT_FALSE(supervisor.Poll().has_value());
  EXPECT_THAT(notices_,
              ElementsAre("actor-1 was killed by signal 9; restarting"));
}

TEST_F(SupervisorTest, GivesUpAfterFiveRestartsWithinAMinute) {
  Supervisor supervisor(Options());
  ASSERT_EQ(supervisor.Start(Shell("actor-1", "echo ' boom '; echo; exit 1")),
            absl::OkStatus());
  std::optional<RunEnd> end;
  for (int i = 0; i < 5; ++i) {
    AwaitAnEnd();
    ASSERT_FALSE(supervisor.Poll().has_value());
    now_ += absl::Seconds(11.9);
    ASSERT_FALSE(supervisor.Poll().has_value());
  }
  AwaitAnEnd();
  end = supervisor.Poll();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->exit_code, 1);
  EXPECT_EQ(end->error, "actor-1 exited 1: boom");
  EXPECT_EQ(notices_.size(), 5u);
}

TEST_F(SupervisorTest, GoesOnIfTheRestartsAreFurtherApart) {
  Supervisor supervisor(Options());
  ASSERT_EQ(supervisor.Start(Shell("actor-1", "exit 1")), absl::OkStatus());
  for (int i = 0; i < 12; ++i) {
    AwaitAnEnd();
    ASSERT_FALSE(supervisor.Poll().has_value());
    now_ += absl::Seconds(12);
    ASSERT_FALSE(supervisor.Poll().has_value());
  }
  EXPECT_EQ(notices_.size(), 12u);
}

TEST_F(SupervisorTest, AConfigErrorIsNotTriedAgain) {
  Supervisor supervisor(Options());
  ASSERT_EQ(supervisor.Start(Shell("replay-0", "echo field = 1 >&2; exit 2")),
            absl::OkStatus());
  AwaitAnEnd();
  std::optional<RunEnd> end = supervisor.Poll();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->exit_code, 2);
  EXPECT_EQ(end->error, "replay-0 exited 2: field = 1");
}

TEST_F(SupervisorTest, TheLearnersEndIsTheRuns) {
  RunEnd reached = EndOfRun("exit 0");
  EXPECT_EQ(reached.exit_code, 0);
  EXPECT_EQ(reached.error, "");
  RunEnd bound = EndOfRun("exit 3");
  EXPECT_EQ(bound.exit_code, 3);
  EXPECT_EQ(bound.error, "");
  RunEnd stopped = EndOfRun("exit 4");
  EXPECT_EQ(stopped.exit_code, 4);
  EXPECT_THAT(stopped.error, HasSubstr("learner was stopped by a signal"));
  RunEnd failed = EndOfRun("echo bad luck; exit 7");
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_EQ(failed.error, "learner exited 7: bad luck");
  RunEnd usage = EndOfRun("echo bad field; exit 2");
  EXPECT_EQ(usage.exit_code, 2);
  EXPECT_EQ(usage.error, "learner exited 2: bad field");
  fs::remove(root_ + "/learner.log");
  RunEnd killed = EndOfRun("kill -9 $$");
  EXPECT_EQ(killed.exit_code, 1);
  EXPECT_EQ(killed.error, "learner was killed by signal 9");
  EXPECT_TRUE(notices_.empty());
}

TEST_F(SupervisorTest, ALearnerThatCrashesIsResumed) {
  Supervisor supervisor(Options());
  SupervisedProcess learner = Shell("learner", "");
  // Killed, then a crash, then the run's end; each life says its flags.
  learner.child.command = {"/bin/sh", "-c",
                           "echo \"$@\" >> $D/lives\n"
                           "case $(wc -l < $D/lives) in 1) kill -9 $$;; 2) "
                           "exit 1;; *) exit 3;; esac",
                           "sh", "--run_dir=r"};
  learner.ends_run = true;
  learner.resume_flags = {"--resume"};
  ASSERT_EQ(supervisor.Start(learner), absl::OkStatus());
  for (int life = 1; life < 3; ++life) {
    AwaitAnEnd();
    ASSERT_FALSE(supervisor.Poll().has_value());
    now_ += absl::Milliseconds(500);
    ASSERT_FALSE(supervisor.Poll().has_value());
  }
  AwaitAnEnd();
  std::optional<RunEnd> end = supervisor.Poll();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->exit_code, 3);
  EXPECT_EQ(Text("lives"),
            "--run_dir=r\n--run_dir=r --resume\n--run_dir=r --resume\n");
  EXPECT_THAT(notices_,
              ElementsAre("learner was killed by signal 9; restarting",
                          "learner exited 1; restarting"));
}

TEST_F(SupervisorTest, ALearnerThatCrashesTooOftenEndsTheRun) {
  Supervisor supervisor(Options());
  SupervisedProcess learner = Shell("learner", "echo diverged; exit 1");
  learner.ends_run = true;
  learner.resume_flags = {"--resume"};
  ASSERT_EQ(supervisor.Start(learner), absl::OkStatus());
  for (int i = 0; i < 5; ++i) {
    AwaitAnEnd();
    ASSERT_FALSE(supervisor.Poll().has_value());
    now_ += absl::Seconds(1);
    ASSERT_FALSE(supervisor.Poll().has_value());
  }
  AwaitAnEnd();
  std::optional<RunEnd> end = supervisor.Poll();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->exit_code, 1);
  EXPECT_EQ(end->error, "learner exited 1: diverged");
}

TEST_F(SupervisorTest, EndsOfALearnerThatAreNoCrashEndTheRun) {
  for (const int code : {0, 2, 3, 4}) {
    Supervisor supervisor(Options());
    SupervisedProcess learner =
        Shell("learner", "exit " + std::to_string(code));
    learner.ends_run = true;
    learner.resume_flags = {"--resume"};
    ASSERT_EQ(supervisor.Start(learner), absl::OkStatus());
    AwaitAnEnd();
    std::optional<RunEnd> end = supervisor.Poll();
    ASSERT_TRUE(end.has_value()) << code;
    EXPECT_EQ(end->exit_code, code);
  }
  EXPECT_TRUE(notices_.empty());
}

TEST_F(SupervisorTest, ALearnerThatFollowsEndsTheRunOnlyByACrash) {
  for (const int code : {0, 3, 4}) {
    Supervisor supervisor(Options());
    SupervisedProcess follower =
        Shell("learner-1", "exit " + std::to_string(code));
    follower.ends_run = true;
    follower.follows = true;
    ASSERT_EQ(supervisor.Start(follower), absl::OkStatus());
    AwaitAnEnd();
    EXPECT_FALSE(supervisor.Poll().has_value()) << code;
    EXPECT_FALSE(supervisor.Poll().has_value()) << code;
  }
  Supervisor supervisor(Options());
  SupervisedProcess follower = Shell("learner-1", "echo lost >&2; exit 1");
  follower.ends_run = true;
  follower.follows = true;
  ASSERT_EQ(supervisor.Start(follower), absl::OkStatus());
  AwaitAnEnd();
  std::optional<RunEnd> end = supervisor.Poll();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->error, "learner-1 exited 1: lost");
  EXPECT_TRUE(notices_.empty());
}

TEST_F(SupervisorTest, StopsInOrderAndWaitsForEach) {
  Supervisor supervisor(Options());
  // Each says whether the one before it has gone when it is told to stop.
  const std::string wait = "echo up > $D/fifo; sleep 1000 & wait";
  SupervisedProcess shard =
      Shell("shard",
            "trap '[ -e $D/actor ] && touch $D/shard; exit 0' TERM; " + wait);
  shard.stop_order = 2;
  SupervisedProcess actor =
      Shell("actor",
            "trap '[ -e $D/learner ] && touch $D/actor; exit 0' TERM; " + wait);
  actor.stop_order = 1;
  SupervisedProcess learner = Shell(
      "learner", "trap 'sleep 0.1; touch $D/learner; exit 0' TERM; " + wait);
  learner.stop_order = 0;
  for (const SupervisedProcess& process : {shard, actor, learner}) {
    ASSERT_EQ(supervisor.Start(process), absl::OkStatus());
    ASSERT_EQ(Heard(), "up\n");
  }
  supervisor.Stop();
  EXPECT_TRUE(fs::exists(root_ + "/learner"));
  EXPECT_TRUE(fs::exists(root_ + "/actor"));
  EXPECT_TRUE(fs::exists(root_ + "/shard"));
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);  // No child is left.
}

TEST_F(SupervisorTest, KillsWhatDoesNotStop) {
  pid_t pid = 0;
  {
    Supervisor supervisor(Options());
    SupervisedProcess process =
        Shell("stuck", "trap '' TERM; echo $$ > $D/fifo; sleep 1000");
    process.grace = absl::Milliseconds(20);
    ASSERT_EQ(supervisor.Start(process), absl::OkStatus());
    pid = std::stoi(Heard());
    ASSERT_EQ(kill(pid, 0), 0);
  }
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST_F(SupervisorTest, WhatAChildStartedGoesWithIt) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);  // Held open by all of the child's group.
  Supervisor supervisor(Options());
  SupervisedProcess process = Shell("a", "sleep 1000 & exit 0");
  process.ends_run = true;
  ASSERT_EQ(supervisor.Start(process), absl::OkStatus());
  close(ends[1]);
  AwaitAnEnd();
  EXPECT_TRUE(supervisor.Poll().has_value());
  char byte = 0;
  EXPECT_EQ(read(ends[0], &byte, 1), 0);
  close(ends[0]);
}

TEST_F(SupervisorTest, LeavesNoOrphanWhenItIsKilled) {
  // Every process that holds the pipe's other end keeps it from ending.
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    close(ends[0]);
    Supervisor supervisor(Options());
    if (!supervisor.Start(Shell("a", "echo up > $D/fifo; exec sleep 1000"))
             .ok()) {
      _exit(1);
    }
    for (;;) pause();
  }
  close(ends[1]);
  EXPECT_EQ(Heard(), "up\n");
  kill(parent, SIGKILL);
  ASSERT_EQ(waitpid(parent, nullptr, 0), parent);
  char byte = 0;
  EXPECT_EQ(read(ends[0], &byte, 1), 0);  // Blocks while the child lives.
  close(ends[0]);
}

TEST_F(SupervisorTest, AChildHasItsOwnGroupNoInputAndTheEnvironment) {
  Supervisor supervisor(Options());
  SupervisedProcess process =
      Shell("a",
            "read pid name state parent group rest < /proc/$$/stat;"
            "[ $pid = $group ] && echo own group; cat; echo $EXTRA");
  process.ends_run = true;
  process.child.environment.push_back({"EXTRA", "set"});
  ASSERT_EQ(supervisor.Start(process), absl::OkStatus());
  AwaitAnEnd();
  EXPECT_EQ(supervisor.Poll()->exit_code, 0);
  EXPECT_EQ(Text("a.log"), "own group\nset\n");
}

TEST_F(SupervisorTest, SaysWhatCannotBeRun) {
  Supervisor supervisor(Options());
  SupervisedProcess process = Shell("a", "");
  process.child.command = {"/no/such/program"};
  absl::Status status = supervisor.Start(process);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("cannot run /no/such/program: No such file"));
}

TEST_F(SupervisorTest, AProgramThatIsGoneAtARestartEndsTheRun) {
  Supervisor supervisor(Options());
  std::ofstream(root_ + "/program") << "#!/bin/sh\nexit 1\n";
  fs::permissions(root_ + "/program", fs::perms::owner_all);
  SupervisedProcess process = Shell("a", "");
  process.child.command = {root_ + "/program"};
  ASSERT_EQ(supervisor.Start(process), absl::OkStatus());
  AwaitAnEnd();
  fs::remove(root_ + "/program");
  EXPECT_FALSE(supervisor.Poll().has_value());
  now_ += absl::Seconds(1);
  std::optional<RunEnd> end = supervisor.Poll();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->exit_code, 1);
  EXPECT_THAT(end->error, HasSubstr("cannot run"));
}

TEST_F(SupervisorTest, LastLineOfALog) {
  EXPECT_EQ(LastLine(root_ + "/none"), "");
  std::ofstream(root_ + "/log") << "first\n\tlast one \n\n";
  EXPECT_EQ(LastLine(root_ + "/log"), "last one");
}

}  // namespace
}  // namespace qfleet
