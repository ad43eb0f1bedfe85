// qfleet-solo: a config's whole training in one process and one thread.

#include <atomic>
#include <exception>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "common/metrics.h"
#include "common/process.h"
#include "common/shutdown.h"
#include "common/status_macros.h"
#include "common/status_server.h"
#include "config/config.h"
#include "model/runtime.h"
#include "solo/solo.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

absl::StatusOr<int> RunSolo(const ProcessFlags& flags,
                            const std::string& run_dir, bool resume,
                            ShutdownSignal& shutdown) {
  QFLEET_ASSIGN_OR_RETURN(v1::Config config,
                          LoadConfig(flags.config, flags.set));
  Metrics metrics;
  StatusServer web("solo", metrics);
  QFLEET_ASSIGN_OR_RETURN(const std::string address,
                          web.Start(flags.metrics));
  web.SetReady(std::make_shared<std::atomic<bool>>(true));
  spdlog::info("{}; status page at http://{}/",
               InitTorch(config.learner().threads()), address);
  QFLEET_RETURN_IF_ERROR(
      WriteReadyFile(flags.ready_file, /*grpc=*/"", address));
  QFLEET_ASSIGN_OR_RETURN(
      const Outcome outcome,
      TrainSolo(
          config, run_dir, [&shutdown] { return shutdown.requested(); },
          metrics, resume, &web));
  return ExitCodeOf(outcome, config.stop());
}

int Main(int argc, char** argv) {
  ProcessFlags flags;
  std::string run_dir;
  bool resume = false;
  CLI::App app("Trains in one process and one thread, deterministically.",
               "qfleet-solo");
  flags.Register(app, /*default_listen=*/"");
  app.add_option("--run_dir", run_dir, "Run directory: metrics, checkpoints")
      ->required();
  app.add_flag("--resume", resume,
               "Go on from the run directory's newest usable checkpoint");
  if (int code = ParseFlags(app, argc, argv); code >= 0) return code;
  TuneProcess();
  ShutdownSignal shutdown;
  InitLog("solo", flags.log_format);
  absl::StatusOr<int> code;
  try {
    code = RunSolo(flags, run_dir, resume, shutdown);
  } catch (const std::exception& error) {  // LibTorch's: out of memory.
    code = absl::InternalError(error.what());
  }
  return code.ok() ? *code : Fail("solo", code.status());
}

}  // namespace
}  // namespace qfleet

int main(int argc, char** argv) { return qfleet::Main(argc, argv); }
