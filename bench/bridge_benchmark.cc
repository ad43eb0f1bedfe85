// Gymnasium's environments stepped from C++ through their Python process,
// beside gymnasium.vector.SyncVectorEnv stepping the same alone in Python
// (bench/gymnasium_vector.py), in turn.
//
//   bridge_benchmark --script=bench/gymnasium_vector.py [--python=P]
//       [--cases=cartpole,acrobot,lunar_lander,pong] [--out=FILE]

#include <time.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "bench/alternate.h"
#include "bench/child_process.h"
#include "bench/peer.h"
#include "bench/report.h"
#include "common/files.h"
#include "common/process.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "envs/python_process.h"
#include "envs/registry.h"
#include "spdlog/spdlog.h"

namespace qfleet::bench {
namespace {

// Of SyncVectorEnv's rate.
constexpr double kTarget = 0.8;

struct Flags {
  std::string python;
  std::string script;
  std::string cases;
  std::string out;
  int rounds = 5;
  double round_seconds = 2;
};

struct Case {
  const char* name;
  const char* id;
  int count;
  bool atari;
};

constexpr Case kCases[] = {
    {"cartpole", "CartPole-v1", 64, false},
    {"acrobot", "Acrobot-v1", 64, false},
    {"lunar_lander", "LunarLander-v3", 64, false},
    {"pong", "ALE/Pong-v5", 16, true},
};

v1::EnvironmentConfig ConfigOf(const Case& which, const Flags& flags) {
  v1::EnvironmentConfig config;
  v1::GymnasiumConfig& gymnasium = *config.mutable_gymnasium();
  gymnasium.set_id(which.id);
  gymnasium.set_python(flags.python);
  if (which.atari) gymnasium.mutable_atari();
  return config;
}

// User and system time so far of our children that run the server.
double ServerCpuSeconds() {
  std::ifstream children(
      absl::StrCat("/proc/self/task/", getpid(), "/children"));
  double seconds = 0;
  for (int pid; children >> pid;) {
    absl::StatusOr<std::string> command =
        ReadFile(absl::StrCat("/proc/", pid, "/cmdline"));
    if (!command.ok() || !absl::StrContains(*command, "environment_server")) {
      continue;
    }
    clockid_t clock = 0;
    timespec time = {};
    if (clock_getcpuclockid(pid, &clock) == 0 &&
        clock_gettime(clock, &time) == 0) {
      seconds += static_cast<double>(time.tv_sec) +
                 static_cast<double>(time.tv_nsec) * 1e-9;
    }
  }
  return seconds;
}

// Random actions, of a list that is made beforehand.
class Bridge {
 public:
  explicit Bridge(std::unique_ptr<VectorEnvironment> environments)
      : environments_(std::move(environments)), actions_(97) {
    Random random(2);
    for (std::vector<int>& row : actions_) {
      for (int i = 0; i < environments_->size(); ++i) {
        row.push_back(
            static_cast<int>(random.Below(environments_->spec().num_actions)));
      }
    }
  }

  // Environment steps a second; `cpu_us`: of CPU time of both processes for
  // one.
  absl::StatusOr<double> Run(double seconds, double& cpu_us) {
    const absl::Time begun = absl::Now();
    const double cpu = OwnCpuSeconds() + ServerCpuSeconds();
    const size_t first = step_;
    double passed = 0;
    do {
      QFLEET_RETURN_IF_ERROR(
          environments_->Step(actions_[step_++ % actions_.size()]));
      passed = absl::ToDoubleSeconds(absl::Now() - begun);
    } while (passed < seconds);
    const auto steps =
        static_cast<double>((step_ - first) * environments_->size());
    cpu_us = (OwnCpuSeconds() + ServerCpuSeconds() - cpu) / steps * 1e6;
    return steps / passed;
  }

 private:
  const std::unique_ptr<VectorEnvironment> environments_;
  std::vector<std::vector<int>> actions_;
  size_t step_ = 0;
};

absl::StatusOr<Row> Measure(const Case& which, const Flags& flags) {
  QFLEET_ASSIGN_OR_RETURN(
      auto environments,
      MakeVectorEnvironment(ConfigOf(which, flags),
                            {.count = which.count, .seed = 1}));
  Bridge bridge(std::move(environments));
  std::vector<std::string> command = {flags.python, flags.script, which.id,
                                      absl::StrCat(which.count)};
  if (which.atari) {
    command.push_back(
        "--atari={\"noop_max\": 30, \"frame_skip\": 4, \"screen_size\": 84}");
  }
  Peer python(command, {});
  Row row = {absl::StrCat(which.id, ", ", which.count, " environments"),
             "env steps/s",
             {Side{"through the bridge", {}},
              Side{"gymnasium.vector.SyncVectorEnv", {}}},
             {},
             ""};
  QFLEET_RETURN_IF_ERROR(Alternate(
      flags.rounds, row.sides, [&](size_t side) -> absl::StatusOr<double> {
        double cpu_us = 0;
        absl::StatusOr<double> rate =
            side == 0
                ? bridge.Run(flags.round_seconds, cpu_us)
                : python.AskNumber(absl::StrCat("run ", flags.round_seconds));
        QFLEET_RETURN_IF_ERROR(rate.status());
        if (side == 1) {
          QFLEET_ASSIGN_OR_RETURN(cpu_us, python.AskNumber("cpu"));
        }
        row.sides[side].cost_rounds.push_back(cpu_us);
        return rate;
      }));
  // The second check hardly depends on what else the machine does.
  row.checks = {
      {"of SyncVectorEnv's rate",
       MedianRatio(row.sides[0].rounds, row.sides[1].rounds), true, kTarget},
      {"of SyncVectorEnv's CPU time",
       MedianRatio(row.sides[0].cost_rounds, row.sides[1].cost_rounds), false,
       1 / kTarget}};
  return row;
}

absl::Status MeasureAll(Flags flags) {
  flags.python = FindPython(flags.python);
  const std::string date =
      absl::FormatTime("%Y-%m-%d", absl::Now(), absl::UTCTimeZone());
  std::cout << MachineText() << ", " << date << ", " << flags.python
            << ", median of " << flags.rounds << " rounds of "
            << flags.round_seconds << " s each side in turn\n\n";
  const std::vector<std::string> only =
      absl::StrSplit(flags.cases, ',', absl::SkipEmpty());
  Report report;
  for (const Case& which : kCases) {
    if (!only.empty() && !absl::c_linear_search(only, which.name)) continue;
    QFLEET_ASSIGN_OR_RETURN(Row row, Measure(which, flags));
    report.Add(std::move(row));
  }
  report.PrintChecks();
  return report.Write(flags.out,
                      {{"date", date},
                       {"rounds", flags.rounds},
                       {"round_seconds", flags.round_seconds}});
}

int Main(int argc, char** argv) {
  TuneProcess();
  CLI::App app("The Gymnasium bridge beside gymnasium.vector",
               "bridge_benchmark");
  Flags flags;
  app.add_option("--python", flags.python,
                 "Python with gymnasium; as environment.gymnasium.python");
  app.add_option("--script", flags.script, "bench/gymnasium_vector.py")
      ->required();
  app.add_option("--cases", flags.cases,
                 "cartpole, acrobot, lunar_lander, pong, by commas; none: all");
  app.add_option("--rounds", flags.rounds)->capture_default_str();
  app.add_option("--round_seconds", flags.round_seconds)->capture_default_str();
  app.add_option("--out", flags.out, "JSON file");
  if (int code = ParseFlags(app, argc, argv); code >= 0) return code;
  InitLog("bridge_benchmark");
  const absl::Status status = MeasureAll(std::move(flags));
  return status.ok() ? kExitReached : Fail("bridge_benchmark", status);
}

}  // namespace
}  // namespace qfleet::bench

int main(int argc, char** argv) { return qfleet::bench::Main(argc, argv); }
