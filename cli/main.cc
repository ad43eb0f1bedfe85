// qfleet: the command a person types.

#include <iostream>
#include <string>

#include "CLI/CLI.hpp"
#include "cli/commands.h"
#include "common/process.h"

int main(int argc, char** argv) {
  CLI::App app("Distributed deep Q-learning", "qfleet");
  app.require_subcommand(1);
  int exit_code = qfleet::kExitFailed;
  qfleet::AddTrainCommand(app, exit_code);
  qfleet::AddResumeCommand(app, exit_code);
  qfleet::AddEvalCommand(app, exit_code);
  qfleet::AddPlotCommand(app, exit_code);
  qfleet::AddExportCommand(app, exit_code);
  qfleet::AddStatusCommand(app, exit_code);
  qfleet::AddHealthCommand(app, exit_code);
  qfleet::AddInspectCommand(app, exit_code);
  qfleet::AddLimiterCommand(app, exit_code);
  qfleet::AddCheckpointCommand(app, exit_code);
  qfleet::AddConfigCommand(app, exit_code);
  // CLI11 would only say that a subcommand is required.
  if (argc > 1 && argv[1][0] != '-') {
    std::string names;
    bool known = false;
    for (const CLI::App* command : app.get_subcommands({})) {
      names += " " + command->get_name();
      known = known || command->get_name() == argv[1];
    }
    if (!known) {
      std::cerr << "qfleet: " << argv[1] << ": allowed is" << names
                << std::endl;
      return qfleet::kExitUsage;
    }
  }
  const int usage = qfleet::ParseFlags(app, argc, argv);
  return usage >= 0 ? usage : exit_code;
}
