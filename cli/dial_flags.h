// What the subcommands that talk to running processes have in common: their
// addresses, and who is asking.

#ifndef QFLEET_CLI_DIAL_FLAGS_H_
#define QFLEET_CLI_DIAL_FLAGS_H_

#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"

namespace qfleet {

struct DialFlags {
  std::vector<std::string> addresses;  // ADDRESS...
  std::string config;                  // --config
  std::vector<std::string> set;        // --set, repeated
  bool insecure = false;               // --insecure

  // `what` is at the addresses: "a shard".
  void Register(CLI::App& command, const std::string& what);

  // Before the first channel. Of the config only `cluster.security` counts, so
  // that it may be that of the cluster or of the asker alone.
  absl::Status Use() const;
};

}  // namespace qfleet

#endif  // QFLEET_CLI_DIAL_FLAGS_H_
