// qfleet-replay: one shard of the replay.

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/grpc.h"
#include "common/metrics.h"
#include "common/process.h"
#include "common/shutdown.h"
#include "common/status_macros.h"
#include "config/config.h"
#include "replay_server/service/replay_service.h"
#include "replay_server/service/shard.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

// Once the shard is shut down only streams that wait for their client's next
// message are left, and they do not end by themselves.
constexpr absl::Duration kGrace = absl::Milliseconds(500);

// New in each life of the process: the keys of an earlier life are stale.
uint64_t LifeSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

absl::Status Serve(const ProcessFlags& flags, uint32_t number,
                   ShutdownSignal& shutdown) {
  QFLEET_ASSIGN_OR_RETURN(v1::Config config,
                          LoadConfig(flags.config, flags.set));
  const v1::TableSpec& table = config.replay().table();
  Metrics metrics;
  QFLEET_ASSIGN_OR_RETURN(
      std::unique_ptr<Shard> shard,
      Shard::Create({number, {table}, LifeSeed()}, metrics));
  ReplayService service(shard.get());
  GrpcServer server;
  QFLEET_ASSIGN_OR_RETURN(std::string metrics_address,
                          metrics.Serve(flags.metrics));
  QFLEET_RETURN_IF_ERROR(server.Start(flags.listen, {&service}));
  server.SetServing(true);
  QFLEET_RETURN_IF_ERROR(
      WriteReadyFile(flags.ready_file, server.address(), metrics_address));
  spdlog::info(
      "serving table {} ({} items, {} bytes at most) at {}, metrics at {}",
      table.name(), table.max_items(), table.max_bytes(), server.address(),
      metrics_address);

  shutdown.Wait();
  server.SetServing(false);
  shard->Shutdown();
  server.Shutdown(kGrace);
  const v1::TableStats stats = shard->Describe().tables(0).stats();
  spdlog::info("stopped with {} items; {} inserted, {} sampled", stats.size(),
               stats.inserted(), stats.sampled());
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  ShutdownSignal shutdown;
  CLI::App app("One shard of a qfleet replay", "qfleet-replay");
  ProcessFlags flags;
  flags.Register(app, "127.0.0.1:7201");
  uint32_t number = 0;
  app.add_option("--shard", number, "This shard's number: 0, 1, ...")
      ->capture_default_str();
  if (int code = ParseFlags(app, argc, argv); code >= 0) return code;
  const std::string role = absl::StrCat("replay-", number);
  InitLog(role);
  absl::Status status = Serve(flags, number, shutdown);
  return status.ok() ? kExitReached : Fail(role, status);
}

}  // namespace
}  // namespace qfleet

int main(int argc, char** argv) { return qfleet::Main(argc, argv); }
