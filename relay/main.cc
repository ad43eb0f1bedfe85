// qfleet-relay: passes a learner's publications on to many actors.

#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/metrics.h"
#include "common/process.h"
#include "common/resources.h"
#include "common/security.h"
#include "common/shutdown.h"
#include "common/status_macros.h"
#include "common/status_server.h"
#include "config/config.h"
#include "relay/relay.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

constexpr absl::Duration kReportPeriod = absl::Milliseconds(250);

absl::Status CheckAddresses(const v1::ClusterConfig& cluster, int index) {
  if (cluster.learner().empty()) {
    return absl::InvalidArgumentError(
        "cluster.learner is not set: allowed is the learner's gRPC address, "
        "host:port or unix:PATH");
  }
  if (cluster.relays().empty()) {
    return absl::InvalidArgumentError(
        "cluster.relays is empty: allowed is one gRPC address a relay");
  }
  if (index < 0 || index >= cluster.relays_size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--index = ", index, ": allowed is 0 to ",
                     cluster.relays_size() - 1, ", one of cluster.relays"));
  }
  return absl::OkStatus();
}

absl::Status Serve(const ProcessFlags& flags, int index,
                   const std::string& role,
                   ShutdownSignal& shutdown) {
  QFLEET_ASSIGN_OR_RETURN(v1::Config config,
                          LoadConfig(flags.config, flags.set));
  const v1::ClusterConfig& cluster = config.cluster();
  QFLEET_RETURN_IF_ERROR(CheckAddresses(cluster, index));
  QFLEET_RETURN_IF_ERROR(UseSecurity(cluster, flags.insecure));
  QFLEET_RETURN_IF_ERROR(CheckListenAddress(
      absl::StrCat("cluster.relays[", index, "]"), cluster.relays(index)));
  constexpr int kOfItsOwn = 64;  // HTTP, gRPC.
  QFLEET_RETURN_IF_ERROR(AllowOpenFiles(
      kOfItsOwn + 2 * config.actors().count(),
      absl::StrCat("actors.count = ", config.actors().count())));
  Metrics metrics;
  StatusServer web(role, metrics);
  QFLEET_ASSIGN_OR_RETURN(const std::string metrics_address,
                          web.Start(flags.metrics));
  QFLEET_ASSIGN_OR_RETURN(
      std::unique_ptr<Relay> relay,
      Relay::Start({.learner = cluster.learner(),
                    .listen = cluster.relays(index),
                    .codec = config.actors().weight_codec()},
                   metrics));
  web.SetReady(relay->serving());
  QFLEET_RETURN_IF_ERROR(
      WriteReadyFile(flags.ready_file, relay->address(), metrics_address));
  spdlog::info("weights of {} at {}, status page at http://{}/",
               cluster.learner(), relay->address(), metrics_address);
  while (!shutdown.WaitFor(kReportPeriod)) {
    QFLEET_RETURN_IF_ERROR(relay->Report());
  }
  const WeightsService::Stats stats = relay->service().stats();
  spdlog::info("stopped; {} publications sent, {} bytes", stats.sent,
               stats.sent_bytes);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  TuneProcess();
  ShutdownSignal shutdown;
  CLI::App app("Passes a learner's weights on to many actors.", "qfleet-relay");
  ProcessFlags flags;
  int index = 0;
  flags.Register(app, /*default_listen=*/"");
  app.add_option("--index", index,
                 "Number of this relay, from 0: it listens at "
                 "cluster.relays[index]")
      ->capture_default_str();
  if (int code = ParseFlags(app, argc, argv); code >= 0) return code;
  const std::string role = absl::StrCat("relay-", index);
  InitLog(role, flags.log_format);
  const absl::Status status = Serve(flags, index, role, shutdown);
  return status.ok() ? kExitReached : Fail(role, status);
}

}  // namespace
}  // namespace qfleet

int main(int argc, char** argv) { return qfleet::Main(argc, argv); }
