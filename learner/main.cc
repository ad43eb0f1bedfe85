// qfleet-learner: the update loop, its service, its run directory.

#include <atomic>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "common/grpc.h"
#include "common/grpc_metrics.h"
#include "common/metrics.h"
#include "common/process.h"
#include "common/random.h"
#include "common/resources.h"
#include "common/security.h"
#include "common/shutdown.h"
#include "common/status_macros.h"
#include "common/status_server.h"
#include "config/config.h"
#include "learner/checkpoint_writer.h"
#include "learner/collective.h"
#include "learner/loop.h"
#include "learner/publisher.h"
#include "learner/resume.h"
#include "learner/run.h"
#include "learner/run_backend.h"
#include "learner/trainer.h"
#include "model/device.h"
#include "model/runtime.h"
#include "model/weight_layout.h"
#include "replay_client/remote_sampler.h"
#include "spdlog/spdlog.h"
#include "weights/weights_service.h"

namespace qfleet {
namespace {

SamplerOptions SamplerOptionsFor(const v1::Config& config, int rank) {
  SamplerOptions options;
  options.table = config.replay().table().name();
  options.signature = config.replay().table().signature();
  options.shards.assign(config.cluster().replay().begin(),
                        config.cluster().replay().end());
  options.batch_size = config.learner().batch_size();
  options.prefetch = config.learner().prefetch();
  options.seed = MixSeed(config.seed(), rank);
  return options;
}

// Goes on from the newest checkpoint, or starts where there is none. `known`:
// what the sampler goes on from.
absl::Status Resume(const v1::Config& config, Algorithm& algorithm, Run& run,
                    Publisher& publisher, WeightsService& service,
                    CheckpointWriter& writer,
                    std::vector<v1::KnownShard>& known) {
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
  known.assign(checkpoint->shards().begin(), checkpoint->shards().end());
  v1::Publication& published = *checkpoint->mutable_published();
  published.set_version(VersionOfNextLife(published.version()));
  publisher.Resume(published);
  // First of all it is made sure that the next life does not use the same
  // versions.
  writer.Start(*std::move(checkpoint), nullptr);
  return writer.Wait().status();
}

// Actors or relays follow it, and it the shards.
absl::Status CheckResources(const v1::Config& config) {
  constexpr int kOfItsOwn = 64;  // Files, HTTP, gRPC.
  const int relays = config.cluster().relays_size();
  const int followers = relays > 0 ? relays : config.actors().count();
  return AllowOpenFiles(
      kOfItsOwn + 2 * (followers + config.cluster().replay_size()),
      absl::StrCat(followers, " actors or relays and ",
                   config.cluster().replay_size(), " shards"));
}

// Rank 0's for all, so that their samplers tell the shards the same totals.
absl::Status ShareKnown(std::vector<v1::KnownShard>& known,
                        Collective& collective) {
  v1::Checkpoint bytes;
  bytes.mutable_shards()->Assign(known.begin(), known.end());
  std::string message = bytes.SerializeAsString();
  QFLEET_RETURN_IF_ERROR(collective.Broadcast(message));
  if (!bytes.ParseFromString(message)) {
    return absl::InternalError("rank 0 sent what is not a checkpoint");
  }
  known.assign(bytes.shards().begin(), bytes.shards().end());
  return absl::OkStatus();
}

// How long the learners of a job wait for each other.
constexpr absl::Duration kCollectiveTimeout = absl::Minutes(5);

// A learner beside rank 0: the same updates, on batches of its own. Rank 0
// publishes, reports, writes checkpoints and decides when the run ends.
absl::StatusOr<int> RunFollower(const v1::Config& config,
                                const ProcessFlags& flags,
                                Collective& collective,
                                const std::string& metrics_address,
                                ShutdownSignal& shutdown, StatusServer& web,
                                Metrics& metrics) {
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Algorithm> algorithm,
                          MakeAlgorithm(config, &collective));
  QFLEET_RETURN_IF_ERROR(ShareState(*algorithm, collective));
  SamplerOptions sampler_options = SamplerOptionsFor(config, collective.rank());
  QFLEET_RETURN_IF_ERROR(ShareKnown(sampler_options.known, collective));
  std::unique_ptr<RemoteSampler> sampler =
      MakeRemoteSampler(sampler_options, metrics);
  QFLEET_RETURN_IF_ERROR(
      WriteReadyFile(flags.ready_file, /*grpc=*/"", metrics_address));
  auto& updates =
      metrics.Counter("qfleet_learner_updates_total", "Optimizer steps.");
  web.SetReady(std::make_shared<std::atomic<bool>>(true));
  Trainer trainer(config, std::move(algorithm), *sampler);
  while (!shutdown.requested()) {
    absl::Status status = trainer.Step();
    if (absl::IsCancelled(status)) {
      spdlog::info("ended with the job, after {} updates", trainer.updates());
      return kExitReached;
    }
    if (!absl::IsDeadlineExceeded(status)) QFLEET_RETURN_IF_ERROR(status);
    updates.Increment(static_cast<double>(trainer.updates()) - updates.Value());
  }
  QFLEET_RETURN_IF_ERROR(trainer.StopAll());
  return kExitStopped;
}

absl::StatusOr<int> RunLearner(const ProcessFlags& flags,
                               const std::string& run_dir, bool resume,
                               const std::string& rendezvous_address,
                               ShutdownSignal& shutdown) {
  QFLEET_ASSIGN_OR_RETURN(v1::Config config,
                          LoadConfig(flags.config, flags.set));
  QFLEET_RETURN_IF_ERROR(UseSecurity(config.cluster(), flags.insecure));
  QFLEET_RETURN_IF_ERROR(CheckListenAddress("--listen", flags.listen));
  QFLEET_ASSIGN_OR_RETURN(const std::optional<Rendezvous> rendezvous,
                          RendezvousFromEnvironment(rendezvous_address));
  if (config.cluster().replay().empty()) {
    return absl::InvalidArgumentError(
        "cluster.replay is empty: allowed is one gRPC address a shard");
  }
  QFLEET_RETURN_IF_ERROR(CheckResources(config));
  Metrics metrics;
  StatusServer web("learner", metrics);
  QFLEET_ASSIGN_OR_RETURN(const std::string metrics_address,
                          web.Start(flags.metrics));
  spdlog::info("{}; status page at http://{}/",
               InitTorch(config.learner().threads()), metrics_address);
  std::unique_ptr<Collective> collective;
  if (rendezvous.has_value()) {
    QFLEET_ASSIGN_OR_RETURN(const at::Device device,
                            FindDevice(config.learner().device()));
    QFLEET_ASSIGN_OR_RETURN(
        collective, Collective::Join(*rendezvous, kCollectiveTimeout, device));
    spdlog::info("learner {} of {}", rendezvous->rank, rendezvous->size);
    if (rendezvous->rank > 0) {
      return RunFollower(config, flags, *collective, metrics_address, shutdown,
                         web, metrics);
    }
  }
  Run run(config, run_dir, metrics);
  QFLEET_RETURN_IF_ERROR(run.Open());
  web.SetStatus([status = run.status()](auto& json) { status->AddTo(json); });
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Algorithm> algorithm,
                          MakeAlgorithm(config, collective.get()));
  Publisher publisher(algorithm->network().signature(),
                      LayoutOf(algorithm->network()));
  RunBackend backend(run);
  WeightsService service("learner", backend);
  publisher.OnPublish([&service](auto publication, auto calibrate) {
    absl::Status status =
        service.Publish(std::move(publication), std::move(calibrate));
    if (!status.ok()) spdlog::error("{}", std::string(status.message()));
  });
  CheckpointWriter writer(run.checkpoint_directory(),
                          config.learner().checkpoints_kept(), metrics);
  SamplerOptions sampler_options = SamplerOptionsFor(config, /*rank=*/0);
  if (resume) {
    QFLEET_RETURN_IF_ERROR(Resume(config, *algorithm, run, publisher, service,
                                  writer, sampler_options.known));
  }
  if (collective != nullptr) {
    QFLEET_RETURN_IF_ERROR(ShareState(*algorithm, *collective));
    QFLEET_RETURN_IF_ERROR(ShareKnown(sampler_options.known, *collective));
  }
  publisher.Publish(algorithm->Publish(), algorithm->updates(),
                    run.env_steps());

  GrpcServer server;
  web.SetReady(server.serving());
  server.Intercept(CountCalls(std::make_shared<const GrpcServerMetrics>(
      metrics, std::vector<std::string>{v1::Weights::service_full_name()})));
  QFLEET_RETURN_IF_ERROR(server.Start(flags.listen, {&service}));
  server.SetServing(true);
  spdlog::info("weights at {}", server.address());
  std::unique_ptr<RemoteSampler> sampler =
      MakeRemoteSampler(sampler_options, metrics);
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
  std::string rendezvous;
  bool resume = false;
  CLI::App app("Samples the replay shards, updates the network, publishes it.",
               "qfleet-learner");
  flags.Register(app, /*default_listen=*/"127.0.0.1:7301");
  app.add_option("--run_dir", run_dir, "Run directory: metrics, checkpoints")
      ->required();
  app.add_option("--rendezvous", rendezvous,
                 "Where several learners of a job meet, HOST:PORT of rank 0 or "
                 "file:PATH; default: MASTER_ADDR and MASTER_PORT. RANK and "
                 "WORLD_SIZE are from the environment, as torchrun sets them");
  app.add_flag("--resume", resume,
               "Go on from the run directory's newest usable checkpoint");
  if (int code = ParseFlags(app, argc, argv); code >= 0) return code;
  TuneProcess();
  ShutdownSignal shutdown;
  InitLog("learner", flags.log_format);
  absl::StatusOr<int> code;
  try {
    code = RunLearner(flags, run_dir, resume, rendezvous, shutdown);
  } catch (const std::exception& error) {  // LibTorch's: out of memory.
    code = absl::InternalError(error.what());
  }
  return code.ok() ? *code : Fail("learner", code.status());
}

}  // namespace
}  // namespace qfleet

int main(int argc, char** argv) { return qfleet::Main(argc, argv); }
