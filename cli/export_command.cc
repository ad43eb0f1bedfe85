// qfleet export: a checkpoint's weights for other programs.

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/safetensors.h"
#include "common/checkpoint_file.h"
#include "common/files.h"
#include "common/process.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

struct ExportFlags {
  std::string from;
  std::string output;
  std::string weights = "policy";
};

absl::Status RunExport(const ExportFlags& flags) {
  if (!absl::EndsWith(flags.output, ".safetensors")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--output = \"", flags.output,
                     "\": allowed is a name that ends in .safetensors"));
  }
  QFLEET_ASSIGN_OR_RETURN(
      const v1::Checkpoint checkpoint,
      std::filesystem::is_directory(flags.from)
          ? ReadNewestCheckpoint(flags.from + "/checkpoints")
          : ReadCheckpoint(flags.from));
  QFLEET_ASSIGN_OR_RETURN(const absl::string_view flat,
                          WeightsOf(checkpoint, flags.weights));
  QFLEET_ASSIGN_OR_RETURN(const std::string file,
                          ToSafetensors(checkpoint, flat));
  QFLEET_RETURN_IF_ERROR(WriteFileAtomically(flags.output, file));
  std::cout << flags.output << ": " << checkpoint.parameters_size()
            << " tensors, " << Bytes(file.size()) << ", after "
            << checkpoint.updates() << " updates" << std::endl;
  return absl::OkStatus();
}

}  // namespace

void AddExportCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "export", "Write a checkpoint's weights as a .safetensors file");
  auto flags = std::make_shared<ExportFlags>();
  command
      ->add_option("FROM", flags->from,
                   "Folder of a run (its newest checkpoint) or a .qfckpt file")
      ->required();
  command->add_option("--output", flags->output, "The file: NAME.safetensors")
      ->required();
  command
      ->add_option("--weights", flags->weights,
                   "Which: policy (the one that was evaluated), published (the "
                   "newest), or a tensor of the algorithm, such as online")
      ->capture_default_str();
  command->callback([flags, &exit_code] {
    const absl::Status status = RunExport(*flags);
    exit_code = status.ok() ? kExitReached : Fail("qfleet", status);
  });
}

}  // namespace qfleet
