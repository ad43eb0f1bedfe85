// qfleet train: a whole cluster on this machine, by one command.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "cli/cluster.h"
#include "cli/commands.h"
#include "cli/local_run.h"
#include "cli/run_directory.h"
#include "common/process.h"
#include "common/shutdown.h"
#include "common/status_macros.h"
#include "config/config.h"

namespace qfleet {
namespace {

struct TrainFlags {
  std::string config;
  std::string run_dir;
  std::vector<std::string> set;
  bool solo = false;
  std::string log_format = "text";
};

absl::StatusOr<std::string> PrepareRunDirectory(const TrainFlags& flags) {
  std::string run_dir = flags.run_dir;
  if (run_dir.empty()) {
    QFLEET_ASSIGN_OR_RETURN(run_dir,
                            MakeDefaultRunDirectory(flags.config, absl::Now()));
  } else {
    QFLEET_RETURN_IF_ERROR(MakeRunDirectory(run_dir));
  }
  return AbsoluteRunDirectory(run_dir);
}

absl::StatusOr<int> RunTrain(const TrainFlags& flags,
                             ShutdownSignal& shutdown) {
  QFLEET_ASSIGN_OR_RETURN(v1::Config config,
                          LoadConfig(flags.config, flags.set));
  // Refuses a config whose table would do for a shard but not for training.
  QFLEET_RETURN_IF_ERROR(TableFor(config).status());
  QFLEET_ASSIGN_OR_RETURN(std::string binaries, BinaryDirectory());
  QFLEET_RETURN_IF_ERROR(CheckBinaries(binaries, config, flags.solo));
  LocalRun run;
  run.log_format = flags.log_format;
  run.mode = flags.solo ? RunMode::kSolo : RunMode::kCluster;
  QFLEET_ASSIGN_OR_RETURN(run.run_dir, PrepareRunDirectory(flags));
  QFLEET_ASSIGN_OR_RETURN(run.lock, RunLock::Take(run.run_dir));
  return RunLocally(std::move(run), std::move(config), shutdown);
}

int TrainMain(const TrainFlags& flags) {
  ShutdownSignal shutdown;
  absl::StatusOr<int> exit_code = RunTrain(flags, shutdown);
  return exit_code.ok() ? *exit_code : Fail("qfleet", exit_code.status());
}

}  // namespace

void AddTrainCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "train", "Run a whole cluster on this machine until it is done");
  auto flags = std::make_shared<TrainFlags>();
  command->add_option("CONFIG", flags->config, "Config file")->required();
  command->add_option("--run_dir", flags->run_dir,
                      "Folder of the run; default: "
                      "runs/NAME-YYYYmmdd-HHMMSS");
  command
      ->add_option("--set", flags->set, "path.to.field=value; may be repeated")
      ->allow_extra_args(false);
  command->add_flag("--solo", flags->solo,
                    "One process without a cluster, deterministic");
  AddLogFormat(*command, flags->log_format);
  command->callback([flags, &exit_code] { exit_code = TrainMain(*flags); });
}

}  // namespace qfleet
