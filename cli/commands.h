// The subcommands of `qfleet`, one file each.

#ifndef QFLEET_CLI_COMMANDS_H_
#define QFLEET_CLI_COMMANDS_H_

#include "CLI/CLI.hpp"

namespace qfleet {

// Each adds its subcommand to `app`. If it is chosen, it runs while `app`
// parses and sets `exit_code`.
void AddTrainCommand(CLI::App& app, int& exit_code);
void AddResumeCommand(CLI::App& app, int& exit_code);
void AddExportCommand(CLI::App& app, int& exit_code);
void AddEvalCommand(CLI::App& app, int& exit_code);
void AddStatusCommand(CLI::App& app, int& exit_code);
void AddHealthCommand(CLI::App& app, int& exit_code);
void AddInspectCommand(CLI::App& app, int& exit_code);
void AddLimiterCommand(CLI::App& app, int& exit_code);
void AddCheckpointCommand(CLI::App& app, int& exit_code);
void AddConfigCommand(CLI::App& app, int& exit_code);
void AddPlotCommand(CLI::App& app, int& exit_code);

}  // namespace qfleet

#endif  // QFLEET_CLI_COMMANDS_H_
