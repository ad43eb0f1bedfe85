#include "cli/dial_flags.h"

#include "absl/strings/str_cat.h"
#include "common/files.h"
#include "common/security.h"
#include "common/status_macros.h"
#include "config/config.h"

namespace qfleet {

void DialFlags::Register(CLI::App& command, const std::string& what) {
  command
      .add_option("ADDRESS", addresses,
                  absl::StrCat("gRPC address of ", what,
                               ": host:port or unix:PATH"))
      ->required();
  command.add_option("--config", config,
                     "Config file whose cluster.security says how to connect");
  command
      .add_option("--set", set,
                  "cluster.security.FIELD=value, over it; may be repeated")
      ->allow_extra_args(false);
  command.add_flag("--insecure", insecure,
                   "Send the token beyond this machine without TLS");
}

absl::Status DialFlags::Use() const {
  v1::Config parsed;
  if (!config.empty()) {
    QFLEET_ASSIGN_OR_RETURN(const std::string text, ReadFile(config));
    QFLEET_ASSIGN_OR_RETURN(parsed, ParseConfig(text, config));
  }
  for (const std::string& assignment : set) {
    QFLEET_RETURN_IF_ERROR(SetField(assignment, parsed));
  }
  v1::ClusterConfig cluster;
  *cluster.mutable_security() = parsed.cluster().security();
  QFLEET_RETURN_IF_ERROR(UseSecurity(cluster, insecure));
  for (const std::string& address : addresses) {
    QFLEET_RETURN_IF_ERROR(CheckDialAddress("ADDRESS", address));
  }
  return absl::OkStatus();
}

}  // namespace qfleet
