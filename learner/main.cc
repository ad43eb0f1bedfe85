// qfleet-learner: the update loop, its service, its run directory.

#include <memory>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "common/grpc.h"
#include "common/metrics.h"
#include "common/process.h"
#include "common/shutdown.h"
#include "common/status_macros.h"
#include "config/config.h"
#include "learner/checkpoint_writer.h"
#include "learner/loop.h"
#include "learner/publisher.h"
#include "learner/resume.h"
#include "learner/run.h"
#include "learner/trainer.h"
#include "learner/weights_service.h"
#include "model/runtime.h"
#include "replay_client/remote_sampler.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

SamplerOptions SamplerOptionsFor(const v1::Config& config) {
  SamplerOptions options;
  options.table = config.replay().table().name();
  options.signature = config.replay().table().signature();
  options.shards.assign(config.cluster().replay().begin(),
                        config.cluster().replay().end());
  options.batch_size = config.learner().batch_size();
  options.prefetch = config.learner().prefetch();
  options.seed = config.seed();
  return options;
}

// Goes on from the newest checkpoint, or starts where there is none.
absl::Status Resume(const v1::Config& config, Algorithm& algorithm, Run& run,
                    Publisher& publisher, WeightsService& service,
                    CheckpointWriter& writer) {
  absl::StatusOr<v1::Checkpoint> checkpoint =
      LoadNewestCheckpoint(run.checkpoint_directory(), config, algorithm);
  if (absl::IsNotFound(checkpoint.status())) {
    spdlog::info("nothing to resume: {}; starting afresh",
                 std::string(checkpoint.status().message()));
    return absl::OkStatus();
  }
  QFLEET_RETURN_IF_ERROR(checkpoint.status());
  run.Resume(*checkpoint);
  service.Resume(checkpoint->episodes(), checkpoint->return_sum());
  v1::Publication& published = *checkpoint->mutable_published();
  published.set_version(VersionOfNextLife(published.version()));
  publisher.Resume(published);
  // First of all it is made sure that the next life does not use the same
  // versions.
  writer.Start(*std::move(checkpoint), nullptr);
  return writer.Wait().status();
}

absl::StatusOr<int> RunLearner(const ProcessFlags& flags,
                               const std::string& run_dir, bool resume,
                               ShutdownSignal& shutdown) {
  QFLEET_ASSIGN_OR_RETURN(v1::Config config,
                          LoadConfig(flags.config, flags.set));
  if (config.cluster().replay().empty()) {
    return absl::InvalidArgumentError(
        "cluster.replay is empty: allowed is one gRPC address a shard");
  }
  Metrics metrics;
  QFLEET_ASSIGN_OR_RETURN(const std::string metrics_address,
                          metrics.Serve(flags.metrics));
  spdlog::info("{}; metrics at http://{}/metrics",
               InitTorch(config.learner().threads()), metrics_address);
  Run run(config, run_dir, metrics);
  QFLEET_RETURN_IF_ERROR(run.Open());
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Algorithm> algorithm,
                          MakeAlgorithm(config));
  Publisher publisher(algorithm->network().signature());
  WeightsService service(publisher, run);
  CheckpointWriter writer(run.checkpoint_directory(),
                          config.learner().checkpoints_kept(), metrics);
  if (resume) {
    QFLEET_RETURN_IF_ERROR(
        Resume(config, *algorithm, run, publisher, service, writer));
  }
  publisher.Publish(algorithm->Publish(), algorithm->updates());

  GrpcServer server;
  QFLEET_RETURN_IF_ERROR(server.Start(flags.listen, {&service}));
  server.SetServing(true);
  spdlog::info("weights at {}", server.address());
  std::unique_ptr<RemoteSampler> sampler =
      MakeRemoteSampler(SamplerOptionsFor(config), metrics);
  QFLEET_RETURN_IF_ERROR(
      WriteReadyFile(flags.ready_file, server.address(), metrics_address));

  Trainer trainer(config, std::move(algorithm), *sampler);
  absl::StatusOr<Outcome> outcome = TrainUntilDone(
      config, trainer, *sampler, publisher, run, writer,
      {.actors = [&service] { return service.Actors(); },
       .interrupted = [&shutdown] { return shutdown.requested(); }});
  sampler->Stop();
  service.CloseSubscriptions();
  server.Shutdown(absl::Seconds(2));
  QFLEET_RETURN_IF_ERROR(outcome.status());
  return ExitCodeOf(*outcome, config.stop());
}

int Main(int argc, char** argv) {
  ProcessFlags flags;
  std::string run_dir;
  bool resume = false;
  CLI::App app("Samples the replay shards, updates the network, publishes it.",
               "qfleet-learner");
  flags.Register(app, /*default_listen=*/"127.0.0.1:7301");
  app.add_option("--run_dir", run_dir, "Run directory: metrics, checkpoints")
      ->required();
  app.add_flag("--resume", resume,
               "Go on from the run directory's newest usable checkpoint");
  if (int code = ParseFlags(app, argc, argv); code >= 0) return code;
  TuneProcess();
  ShutdownSignal shutdown;
  InitLog("learner");
  absl::StatusOr<int> code = RunLearner(flags, run_dir, resume, shutdown);
  return code.ok() ? *code : Fail("learner", code.status());
}

}  // namespace
}  // namespace qfleet

int main(int argc, char** argv) { return qfleet::Main(argc, argv); }
