// qfleet config: the resolved config, or what is wrong with it.

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "common/process.h"
#include "config/config.h"

namespace qfleet {
namespace {

struct ConfigFlags {
  std::string config;
  std::vector<std::string> set;
};

int RunConfig(const ConfigFlags& flags) {
  absl::StatusOr<v1::Config> config = LoadConfig(flags.config, flags.set);
  if (!config.ok()) return Fail("qfleet", config.status());
  std::cout << ConfigText(*config) << std::flush;
  return std::cout.good() ? kExitReached : kExitFailed;
}

}  // namespace

void AddConfigCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "config", "Print a config with every default filled in");
  auto flags = std::make_shared<ConfigFlags>();
  command->add_option("CONFIG", flags->config, "Config file")->required();
  command
      ->add_option("--set", flags->set, "path.to.field=value; may be repeated")
      ->allow_extra_args(false);
  command->callback([flags, &exit_code] { exit_code = RunConfig(*flags); });
}

}  // namespace qfleet
