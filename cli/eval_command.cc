// qfleet eval: greedy episodes of a run's newest checkpoint.

#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/cluster.h"
#include "cli/commands.h"
#include "common/checkpoint_file.h"
#include "common/process.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

struct EvalFlags {
  std::string run_dir;
  int episodes = 0;  // 0: as the run's config says.
  bool json = false;
  std::string codec;  // Empty: FP32.
};

// Becomes qfleet-actor; returns only if it cannot.
absl::Status RunEval(const EvalFlags& flags) {
  if (!std::filesystem::is_directory(flags.run_dir)) {
    return absl::InvalidArgumentError(
        absl::StrCat("RUN_DIR = \"", flags.run_dir,
                     "\" is no folder: allowed is the folder of a run"));
  }
  const std::string checkpoints = flags.run_dir + "/checkpoints";
  if (ListCheckpoints(checkpoints).empty()) {
    return absl::NotFoundError(
        absl::StrCat(checkpoints,
                     " holds no checkpoint: a run writes one at its end, and "
                     "every learner.checkpoint_period updates"));
  }
  QFLEET_ASSIGN_OR_RETURN(std::string binaries, BinaryDirectory());
  std::vector<std::string> command = {
      binaries + "/qfleet-actor", absl::StrCat("--evaluate=", flags.run_dir),
      absl::StrCat("--episodes=", flags.episodes)};
  if (!flags.codec.empty()) {
    command.push_back(absl::StrCat("--codec=", flags.codec));
  }
  if (flags.json) command.push_back("--json");
  for (const auto& [name, value] : ThreadEnvironment(1)) {
    setenv(name.c_str(), value.c_str(), 1);
  }
  std::vector<char*> arguments;
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  execv(arguments[0], arguments.data());
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot run ", command[0]));
}

}  // namespace

void AddEvalCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "eval", "Run greedy episodes of a run's newest checkpoint");
  auto flags = std::make_shared<EvalFlags>();
  command->add_option("RUN_DIR", flags->run_dir, "Folder of a run")->required();
  command
      ->add_option("--episodes", flags->episodes,
                   "How many; default: evaluation.episodes of the run")
      ->check(CLI::Range(1, 65536));
  command
      ->add_option("--codec", flags->codec,
                   "The form that actors get the weights in (fp32, bf16, "
                   "int8): what it changes")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}, CLI::ignore_case));
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback(
      [flags, &exit_code] { exit_code = Fail("qfleet", RunEval(*flags)); });
}

}  // namespace qfleet
