// qfleet: the command a person types.

#include "CLI/CLI.hpp"
#include "cli/commands.h"
#include "common/process.h"

int main(int argc, char** argv) {
  CLI::App app("Distributed deep Q-learning", "qfleet");
  app.require_subcommand(1);
  int exit_code = qfleet::kExitFailed;
  qfleet::AddTrainCommand(app, exit_code);
  qfleet::AddEvalCommand(app, exit_code);
  qfleet::AddStatusCommand(app, exit_code);
  qfleet::AddConfigCommand(app, exit_code);
  const int usage = qfleet::ParseFlags(app, argc, argv);
  return usage >= 0 ? usage : exit_code;
}
