// qfleet-replay: one shard of the replay.

#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/grpc.h"
#include "common/grpc_metrics.h"
#include "common/metrics.h"
#include "common/process.h"
#include "common/process_metrics.h"
#include "common/resources.h"
#include "common/security.h"
#include "common/shutdown.h"
#include "common/status_macros.h"
#include "common/status_server.h"
#include "config/config.h"
#include "replay_server/service/replay_service.h"
#include "replay_server/service/shard.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

// Once the shard is shut down only streams that wait for their client's next
// message are left, and they do not end by themselves.
constexpr absl::Duration kGrace = absl::Milliseconds(500);

constexpr absl::Duration kLookAtResources = absl::Seconds(10);

// New in each life of the process: the keys of an earlier life are stale.
uint64_t LifeSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

struct ReplayFlags {
  ProcessFlags process;
  uint32_t shard = 0;
  std::string data_dir;
  std::string restore;
};

void LogTable(const v1::TableInfo& table) {
  const v1::StorageInfo& storage = table.storage();
  spdlog::info("table {}: {} items and {} bytes at most, {}",
               table.spec().name(), table.spec().max_items(),
               table.spec().max_bytes(),
               storage.directory().empty() ? "in memory" : storage.directory());
  if (!storage.recovered()) return;
  spdlog::info("table {}: recovered {} items in {:.3f} s", table.spec().name(),
               storage.recovered_items(), storage.recovery_seconds());
  if (storage.recovery_dropped() > 0 || storage.damaged_steps() > 0) {
    spdlog::warn("table {}: damaged: {} items and {} steps were dropped",
                 table.spec().name(), storage.recovery_dropped(),
                 storage.damaged_steps());
  }
}

// Of this shard, whose clients have a few connections each, and spare ones
// while they reconnect.
absl::Status CheckResources(const v1::Config& config, bool on_disk) {
  constexpr int kOfItsOwn = 64;  // Files, HTTP, gRPC.
  const int clients = config.actors().count() + 2 * config.learner().count();
  QFLEET_RETURN_IF_ERROR(AllowOpenFiles(
      kOfItsOwn + 2 * clients,
      absl::StrCat("actors.count = ", config.actors().count(),
                   " and learner.count = ", config.learner().count())));
  uint64_t bytes = config.replay().table().max_bytes();
  for (const v1::TableSpec& table : config.replay().more_tables()) {
    bytes += table.max_bytes();
  }
  return CheckMemory(bytes, "replay.max_bytes of all tables", on_disk);
}

absl::Status Serve(const ReplayFlags& replay_flags, const std::string& role,
                   ShutdownSignal& shutdown) {
  const ProcessFlags& flags = replay_flags.process;
  QFLEET_ASSIGN_OR_RETURN(v1::Config config,
                          LoadConfig(flags.config, flags.set));
  QFLEET_RETURN_IF_ERROR(
      CheckResources(config, !replay_flags.data_dir.empty()));
  QFLEET_RETURN_IF_ERROR(UseSecurity(config.cluster(), flags.insecure));
  QFLEET_RETURN_IF_ERROR(CheckListenAddress("--listen", flags.listen));
  Metrics metrics;
  GrpcServer server;
  const auto calls = std::make_shared<const GrpcServerMetrics>(
      metrics, std::vector<std::string>{v1::Replay::service_full_name()});
  server.Intercept(CountCalls(calls, ReplayService::CountedMethods()));
  // Answers probes while a large table is recovered.
  StatusServer web(role, metrics);
  QFLEET_ASSIGN_OR_RETURN(const std::string metrics_address,
                          web.Start(flags.metrics));
  web.SetReady(server.serving());
  Shard::Options options;
  options.number = replay_flags.shard;
  options.tables = {config.replay().table()};
  options.tables.insert(options.tables.end(),
                        config.replay().more_tables().begin(),
                        config.replay().more_tables().end());
  options.seed = LifeSeed();
  options.data_dir = replay_flags.data_dir;
  options.sync_interval = absl::Seconds(config.replay().sync_interval());
  options.restore = replay_flags.restore;
  // Which may be before it serves.
  std::atomic<bool> storage_failed{false};
  options.on_storage_failure = [&server, &storage_failed] {
    storage_failed = true;
    server.SetServing(false);
  };
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Shard> shard,
                          Shard::Create(options, metrics));
  if (!replay_flags.data_dir.empty()) {
    AddDiskMetrics(metrics, "replay", replay_flags.data_dir);
  }
  ReplayService service(shard.get(), calls, config.replay().append_threads());
  QFLEET_RETURN_IF_ERROR(server.Start(flags.listen, {&service}));
  // Whatever comes: calls end before what they use.
  absl::Cleanup stop = [&server, &shard] {
    server.SetServing(false);
    shard->Shutdown();
    server.Shutdown(kGrace);
  };
  server.SetServing(true);
  if (storage_failed) server.SetServing(false);
  QFLEET_RETURN_IF_ERROR(
      WriteReadyFile(flags.ready_file, server.address(), metrics_address));
  const v1::DescribeResponse begin = shard->Describe();
  for (const v1::TableInfo& table : begin.tables()) LogTable(table);
  spdlog::info("serving at {}, status page at http://{}/", server.address(),
               metrics_address);

  ResourceWatch watch;
  while (!shutdown.WaitFor(kLookAtResources)) {
    watch.Look(replay_flags.data_dir, absl::Now());
  }
  std::move(stop).Invoke();
  const v1::DescribeResponse end = shard->Describe();
  for (const v1::TableInfo& table : end.tables()) {
    spdlog::info("table {}: stopped with {} items; {} inserted, {} sampled",
                 table.spec().name(), table.stats().size(),
                 table.stats().inserted(), table.stats().sampled());
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  TuneProcess();
  ShutdownSignal shutdown;
  CLI::App app("One shard of a qfleet replay", "qfleet-replay");
  ReplayFlags flags;
  flags.process.Register(app, "127.0.0.1:7201");
  app.add_option("--shard", flags.shard, "This shard's number: 0, 1, ...")
      ->capture_default_str();
  app.add_option("--data_dir", flags.data_dir,
                 "A folder for this shard alone: what is stored survives the "
                 "process. Without it the tables are in memory");
  app.add_option("--restore", flags.restore,
                 "A checkpoint to begin with, where --data_dir has no table "
                 "yet");
  if (int code = ParseFlags(app, argc, argv); code >= 0) return code;
  const std::string role = absl::StrCat("replay-", flags.shard);
  InitLog(role, flags.process.log_format);
  absl::Status status = Serve(flags, role, shutdown);
  return status.ok() ? kExitReached : Fail(role, status);
}

}  // namespace
}  // namespace qfleet

int main(int argc, char** argv) { return qfleet::Main(argc, argv); }
