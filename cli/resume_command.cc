// qfleet resume: goes on with a run that was stopped or killed.

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/cluster.h"
#include "cli/commands.h"
#include "cli/local_run.h"
#include "cli/run_directory.h"
#include "common/checkpoint_file.h"
#include "common/process.h"
#include "common/shutdown.h"
#include "common/status_macros.h"
#include "config/config.h"
#include "google/protobuf/descriptor.h"

namespace qfleet {
namespace {

struct ResumeFlags {
  std::string run_dir;
  std::vector<std::string> set;
  std::string log_format = "text";
};

// "hidden: 128 hidden: 128", of one field of a network.
std::string FieldText(const v1::NetworkConfig& network,
                      const google::protobuf::FieldDescriptor* field) {
  v1::NetworkConfig only;
  std::vector<const google::protobuf::FieldDescriptor*> fields = {field};
  v1::NetworkConfig copy = network;
  copy.GetReflection()->SwapFields(&copy, &only, fields);
  const std::string text = only.ShortDebugString();
  return text.empty() ? absl::StrCat("no ", field->name()) : text;
}

// Refuses at once what the learner would have to refuse: other networks than
// those that were saved.
absl::Status CheckFits(const v1::Config& config,
                       const v1::Checkpoint& checkpoint) {
  absl::StatusOr<v1::Config> saved =
      ParseConfig(checkpoint.config(), "checkpoint");
  if (!saved.ok()) return absl::OkStatus();  // The learner may know it.
  const auto refuse = [](const std::string& what, const std::string& saved) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": allowed is ", saved, ", as in the checkpoint"));
  };
  if (config.environment().id() != saved->environment().id()) {
    return refuse(
        absl::StrCat("environment.id = \"", config.environment().id(), "\""),
        absl::StrCat("\"", saved->environment().id(), "\""));
  }
  const auto* network = v1::NetworkConfig::descriptor();
  for (int f = 0; f < network->field_count(); ++f) {
    const std::string ours = FieldText(config.network(), network->field(f));
    const std::string theirs = FieldText(saved->network(), network->field(f));
    if (ours != theirs) return refuse(absl::StrCat("network ", ours), theirs);
  }
  return absl::OkStatus();
}

absl::StatusOr<int> RunResume(const ResumeFlags& flags,
                              ShutdownSignal& shutdown) {
  LocalRun run;
  run.resume = true;
  run.log_format = flags.log_format;
  run.run_dir = AbsoluteRunDirectory(flags.run_dir);
  if (!std::filesystem::is_directory(run.run_dir)) {
    return absl::InvalidArgumentError(
        absl::StrCat("RUN_DIR = \"", flags.run_dir,
                     "\" is no folder: allowed is the folder of a run"));
  }
  QFLEET_ASSIGN_OR_RETURN(run.mode, ReadRunMode(run.run_dir));
  QFLEET_ASSIGN_OR_RETURN(run.lock, RunLock::Take(run.run_dir));
  absl::StatusOr<v1::Config> config =
      LoadConfig(run.run_dir + "/config.txtpb", flags.set);
  if (!config.ok()) {
    return absl::InvalidArgumentError(config.status().message());
  }
  QFLEET_RETURN_IF_ERROR(TableFor(*config).status());
  const absl::StatusOr<v1::Checkpoint> checkpoint =
      ReadNewestCheckpoint(run.run_dir + "/checkpoints");
  if (!checkpoint.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "RUN_DIR = \"", flags.run_dir, "\": ", checkpoint.status().message(),
        "; a run writes one at its end, and every learner.checkpoint_period "
        "updates"));
  }
  QFLEET_RETURN_IF_ERROR(CheckFits(*config, *checkpoint));
  QFLEET_ASSIGN_OR_RETURN(const std::string binaries, BinaryDirectory());
  QFLEET_RETURN_IF_ERROR(
      CheckBinaries(binaries, *config, run.mode == RunMode::kSolo));
  return RunLocally(std::move(run), *std::move(config), shutdown);
}

int ResumeMain(const ResumeFlags& flags) {
  ShutdownSignal shutdown;
  absl::StatusOr<int> exit_code = RunResume(flags, shutdown);
  return exit_code.ok() ? *exit_code : Fail("qfleet", exit_code.status());
}

}  // namespace

void AddResumeCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "resume", "Go on with a run that was stopped or killed");
  auto flags = std::make_shared<ResumeFlags>();
  command->add_option("RUN_DIR", flags->run_dir, "Folder of a run")->required();
  command
      ->add_option("--set", flags->set,
                   "path.to.field=value, over the run's config; may be "
                   "repeated")
      ->allow_extra_args(false);
  AddLogFormat(*command, flags->log_format);
  command->callback([flags, &exit_code] { exit_code = ResumeMain(*flags); });
}

}  // namespace qfleet
