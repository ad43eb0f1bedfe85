// qfleet-actor: acts, evaluates for a learner, or evaluates a run directory.

#include <atomic>
#include <cstdint>
#include <iostream>
#include <memory>
#include <random>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "actor/run.h"
#include "common/metrics.h"
#include "common/process.h"
#include "common/resources.h"
#include "common/security.h"
#include "common/shutdown.h"
#include "common/status_macros.h"
#include "common/status_server.h"
#include "config/config.h"
#include "model/runtime.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

struct Options {
  ProcessFlags flags;
  int actor = 0;
  bool any_actor = false;
  bool evaluator = false;
  EvaluateOptions evaluate;
  std::string codec = "fp32";
};

absl::Status CheckAddresses(const v1::Config& config, const Options& options) {
  if (config.cluster().learner().empty()) {
    return absl::InvalidArgumentError(
        "cluster.learner is not set: allowed is the learner's gRPC address, "
        "host:port or unix:PATH");
  }
  if (!options.evaluator && config.cluster().replay().empty()) {
    return absl::InvalidArgumentError(
        "cluster.replay is empty: allowed is one gRPC address a shard");
  }
  if (options.actor < 0 || options.actor >= config.actors().count()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--actor = ", options.actor, ": allowed is 0 to ",
                     config.actors().count() - 1, " (actors.count - 1)"));
  }
  return absl::OkStatus();
}

// Several may draw the same number: they share its place on the epsilon ladder,
// but neither their environments nor their choices.
void DrawActor(v1::Config& config, Options& options) {
  std::random_device device;
  options.actor =
      std::uniform_int_distribution<int>(0, config.actors().count() - 1)(
          device);
  config.set_seed((uint64_t{device()} << 32) | device());
  spdlog::info("number {} of {}, drawn at random", options.actor,
               config.actors().count());
}

absl::Status Run(Options& options, const std::string& role,
                 ShutdownSignal& shutdown) {
  QFLEET_ASSIGN_OR_RETURN(v1::Config config,
                          LoadConfig(options.flags.config, options.flags.set));
  if (options.any_actor) DrawActor(config, options);
  QFLEET_RETURN_IF_ERROR(CheckAddresses(config, options));
  constexpr int kOfItsOwn = 64;  // HTTP, gRPC, environments' processes.
  QFLEET_RETURN_IF_ERROR(AllowOpenFiles(
      kOfItsOwn + 2 * config.cluster().replay_size(),
      absl::StrCat(config.cluster().replay_size(), " shards")));
  QFLEET_RETURN_IF_ERROR(
      UseSecurity(config.cluster(), options.flags.insecure));
  Metrics metrics;
  StatusServer web(role, metrics);
  QFLEET_ASSIGN_OR_RETURN(const std::string address,
                          web.Start(options.flags.metrics));
  web.SetReady(std::make_shared<std::atomic<bool>>(true));
  spdlog::info("{}; status page at http://{}/", InitTorch(1), address);
  QFLEET_RETURN_IF_ERROR(
      WriteReadyFile(options.flags.ready_file, /*grpc=*/"", address));
  return options.evaluator ? RunEvaluator(config, shutdown, metrics)
                           : RunActor(config, options.actor, shutdown, metrics);
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app(
      "Acts in environments and sends experience to the replay "
      "shards.",
      "qfleet-actor");
  options.flags.Register(app, /*default_listen=*/"");
  app.add_option("--actor", options.actor, "Number of this actor, from 0")
      ->capture_default_str();
  app.add_flag("--any_actor", options.any_actor,
               "A number drawn at random, and a seed of its own: for replicas "
               "that are not numbered")
      ->excludes("--actor");
  app.add_flag("--evaluator", options.evaluator,
               "Evaluate the learner's policies instead of acting");
  app.add_option("--evaluate", options.evaluate.run_dir,
                 "Evaluate this run directory's newest checkpoint and end");
  app.add_option("--episodes", options.evaluate.episodes,
                 "With --evaluate: how many; 0: as in the run's config")
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--json", options.evaluate.json, "With --evaluate: print JSON");
  app.add_option("--codec", options.codec,
                 "With --evaluate: act with the weights in this form")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}, CLI::ignore_case))
      ->capture_default_str();
  app.get_option("--config")->required(false);
  if (int code = ParseFlags(app, argc, argv); code >= 0) return code;

  TuneProcess();
  ShutdownSignal shutdown;
  const std::string role =
      options.evaluator   ? "evaluator"
      : options.any_actor ? "actor"
                          : absl::StrCat("actor-", options.actor);
  InitLog(role, options.flags.log_format);
  absl::Status status;
  if (!options.evaluate.run_dir.empty()) {
    InitTorch(1);
    v1::WeightCodec_Parse(absl::AsciiStrToUpper(options.codec),
                          &options.evaluate.codec);
    status = EvaluateRun(options.evaluate);
  } else if (options.flags.config.empty()) {
    status = absl::InvalidArgumentError("--config is required");
  } else {
    status = Run(options, role, shutdown);
  }
  return status.ok() ? kExitReached : Fail(role, status);
}

}  // namespace
}  // namespace qfleet

int main(int argc, char** argv) { return qfleet::Main(argc, argv); }
