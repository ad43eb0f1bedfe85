// How fast environments and actors are on a core: environments stepped alone,
// and the actor's whole loop with a replay shard in another process. Rates are
// per second of CPU time of this process, gRPC's threads included: that is what
// a core gives, whatever else the machine does.

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "actor/actor.h"
#include "absl/time/clock.h"
#include "bench/alternate.h"
#include "bench/child_process.h"
#include "bench/report.h"
#include "bench/servers.h"
#include "common/hash.h"
#include "common/process.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "config/config.h"
#include "envs/registry.h"
#include "model/runtime.h"
#include "replay_client/remote_writer.h"
#include "spdlog/spdlog.h"

namespace qfleet::bench {
namespace {

constexpr int kEnvironments = 64;

struct Flags {
  Places places;
  int rounds = 5;
  double round_seconds = 2;
  std::string out;
};

// Random actions, of a list that is made beforehand.
class Stepping {
 public:
  static absl::StatusOr<std::unique_ptr<Stepping>> Make(const std::string& id) {
    v1::EnvironmentConfig config;
    config.set_id(id);
    QFLEET_ASSIGN_OR_RETURN(
        auto environments,
        MakeVectorEnvironment(config, {.count = kEnvironments, .seed = 1}));
    return std::make_unique<Stepping>(std::move(environments));
  }

  explicit Stepping(std::unique_ptr<VectorEnvironment> environments)
      : environments_(std::move(environments)), actions_(kRows) {
    Random random(2);
    for (std::vector<int>& row : actions_) {
      for (int i = 0; i < kEnvironments; ++i) {
        row.push_back(static_cast<int>(
            random.Below(environments_->spec().num_actions)));
      }
    }
  }

  absl::StatusOr<double> StepsPerCpuSecond(double seconds) {
    const double begun = OwnCpuSeconds();
    double steps = 0;
    double passed = 0;
    do {
      for (int i = 0; i < 1000; ++i) {
        QFLEET_RETURN_IF_ERROR(environments_->Step(actions_[next_]));
        next_ = (next_ + 1) % kRows;
      }
      steps += 1000.0 * kEnvironments;
      passed = OwnCpuSeconds() - begun;
    } while (passed < seconds);
    return steps / passed;
  }

 private:
  static constexpr size_t kRows = 251;  // Prime: no episode meets the same.

  const std::unique_ptr<VectorEnvironment> environments_;
  std::vector<std::vector<int>> actions_;
  size_t next_ = 0;
};

absl::StatusOr<Row> SteppingRow(const std::string& id, double target,
                                const Flags& flags) {
  QFLEET_ASSIGN_OR_RETURN(auto stepping, Stepping::Make(id));
  Row row = {absl::StrCat(id, " alone, ", kEnvironments, " environments"),
             "env steps per second of CPU time",
             {Side{"stepping", {}}},
             {},
             ""};
  QFLEET_RETURN_IF_ERROR(
      Alternate(flags.rounds, row.sides, [&](size_t /*side*/) {
        return stepping->StepsPerCpuSecond(flags.round_seconds / 4);
      }));
  row.checks = {{"env steps/s a core", Median(row.sides[0].rounds), true,
                 target}};
  return row;
}

absl::StatusOr<v1::Config> LoopConfig() {
  QFLEET_ASSIGN_OR_RETURN(
      v1::Config config,
      ParseConfig(
          absl::StrCat("environment { id: \"CartPole-v1\" } "
                       "algorithm { n_step: 3 dqn {} } "
                       "network { hidden: [128, 128] dueling: false } "
                       "replay { shards: 1 samples_per_insert: 0 } "
                       "actors { count: 1 batch_steps: 512 "
                       "max_unacknowledged_steps: 8192 environments: ",
                       kEnvironments, " }"),
          "actor_benchmark"));
  QFLEET_RETURN_IF_ERROR(ResolveConfig(config));
  return config;
}

v1::Publication RandomWeights(const Network& network) {
  FlatParameters parameters(network);
  Random random(1);
  parameters.Initialize(network, random);
  v1::Publication publication;
  publication.set_version(1);
  publication.set_network(network.signature());
  publication.set_parameters(parameters.values().data(),
                             parameters.values().size() * sizeof(float));
  publication.set_hash(Hash64(publication.parameters()));
  return publication;
}

struct Loop {
  std::unique_ptr<RemoteWriter> writer;
  std::unique_ptr<Policy> policy;
  std::unique_ptr<Actor> actor;
};

absl::StatusOr<Loop> MakeLoop(const v1::Config& config,
                              const std::vector<std::string>& shards) {
  QFLEET_ASSIGN_OR_RETURN(const EnvironmentSpec spec,
                          SpecOf(config.environment()));
  QFLEET_ASSIGN_OR_RETURN(std::shared_ptr<const Network> network,
                          Network::Make(config, spec));
  WriterOptions options;
  options.table = config.replay().table().name();
  options.signature = config.replay().table().signature();
  options.shards = shards;
  options.batch_bytes = config.actors().batch_bytes();
  options.batch_steps = config.actors().batch_steps();
  options.max_unacknowledged_steps = config.actors().max_unacknowledged_steps();
  options.patience = absl::Seconds(20);
  Loop loop;
  loop.writer = MakeRemoteWriter(options);
  loop.policy = std::make_unique<Policy>(network, StackedObservation(spec));
  QFLEET_RETURN_IF_ERROR(loop.policy->SetWeights(RandomWeights(*network)));
  QFLEET_ASSIGN_OR_RETURN(
      auto environments,
      MakeVectorEnvironments(config.environment(),
                             {.count = kEnvironments, .seed = 1},
                             config.actors().groups()));
  loop.actor = std::make_unique<Actor>(
      config.algorithm(), std::move(environments),
      Explorer::Ladder(config.actors(), 0, /*seed=*/2), *loop.policy,
      *loop.writer);
  return loop;
}

absl::StatusOr<Row> LoopRow(const Flags& flags) {
  QFLEET_ASSIGN_OR_RETURN(const v1::Config config, LoopConfig());
  QFLEET_ASSIGN_OR_RETURN(
      auto shards, Shards::Start(flags.places, config.replay().table(), 1,
                                 /*durable=*/false));
  QFLEET_ASSIGN_OR_RETURN(Loop loop, MakeLoop(config, shards->addresses()));
  Row row = {absl::StrCat("the actor's loop, CartPole-v1, ", kEnvironments,
                          " environments, n = 3, ",
                          loop.policy->network().signature(),
                          ", to a replay shard"),
             "env steps per second of CPU time",
             {Side{"loop", {}}},
             {},
             ""};
  std::vector<double> wall;
  QFLEET_RETURN_IF_ERROR(Alternate(
      flags.rounds, row.sides, [&](size_t /*side*/) -> absl::StatusOr<double> {
        const double begun = OwnCpuSeconds();
        const absl::Time start = absl::Now();
        const uint64_t before = loop.actor->stats().env_steps;
        double passed = 0;
        do {
          for (int i = 0; i < 100; ++i) {
            QFLEET_RETURN_IF_ERROR(loop.actor->Step());
          }
          passed = OwnCpuSeconds() - begun;
        } while (passed < flags.round_seconds);
        const auto steps =
            static_cast<double>(loop.actor->stats().env_steps - before);
        wall.push_back(steps / absl::ToDoubleSeconds(absl::Now() - start));
        return steps / passed;
      }));
  QFLEET_RETURN_IF_ERROR(loop.writer->Flush());
  std::cout << "wall clock, shard beside it: " << absl::StrCat(static_cast<int64_t>(Median(wall)))
            << " env steps/s\n";
  row.checks = {{"env steps/s a core", Median(row.sides[0].rounds), true,
                 300000}};
  return row;
}

absl::Status Measure(Flags flags) {
  flags.places.bin_dir =
      std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
  const std::string torch = InitTorch(1);
  const std::string date =
      absl::FormatTime("%Y-%m-%d", absl::Now(), absl::UTCTimeZone());
  std::cout << MachineText() << ", " << date << ", " << torch << ", median of "
            << flags.rounds << " rounds of " << flags.round_seconds << " s\n\n";
  Report report;
  for (const auto& [id, target] :
       {std::pair("CartPole-v1", 5e6), std::pair("MinAtar/Breakout-v0", 1e6)}) {
    QFLEET_ASSIGN_OR_RETURN(Row row, SteppingRow(id, target, flags));
    report.Add(std::move(row));
  }
  QFLEET_ASSIGN_OR_RETURN(Row row, LoopRow(flags));
  report.Add(std::move(row));
  report.PrintChecks();
  return report.Write(flags.out,
                      {{"date", date},
                       {"libtorch", torch},
                       {"rounds", flags.rounds},
                       {"round_seconds", flags.round_seconds}});
}

int Main(int argc, char** argv) {
  TuneProcess();
  CLI::App app("Environments and the actor's loop on a core",
               "actor_benchmark");
  Flags flags;
  app.add_option("--work_dir", flags.places.work_dir,
                 "Folder for sockets and logs; its path must be short")
      ->required();
  app.add_option("--rounds", flags.rounds)->capture_default_str();
  app.add_option("--round_seconds", flags.round_seconds)->capture_default_str();
  app.add_option("--out", flags.out, "JSON file");
  if (int code = ParseFlags(app, argc, argv); code >= 0) return code;
  InitLog("actor_benchmark");
  spdlog::set_level(spdlog::level::err);
  const absl::Status status = Measure(std::move(flags));
  return status.ok() ? kExitReached : Fail("actor_benchmark", status);
}

}  // namespace
}  // namespace qfleet::bench

int main(int argc, char** argv) { return qfleet::bench::Main(argc, argv); }
