// A config file, and behind a NUL byte an assignment of --set: refused, or
// resolved to something that stands on its own.

#include <string>

#include "absl/strings/match.h"
#include "common/table_spec.h"
#include "config/config.h"
#include "fuzz/fuzz.h"
#include "google/protobuf/stubs/common.h"

namespace qfleet {
namespace {

void Run(const std::string& input) {
  const size_t end = input.find('\0');
  absl::StatusOr<v1::Config> config =
      ParseConfig(input.substr(0, end), "fuzz.txtpb");
  if (!config.ok()) {
    Require(absl::IsInvalidArgument(config.status()),
            config.status().ToString());
    return;
  }
  if (end != std::string::npos) {
    const absl::Status status = SetField(input.substr(end + 1), *config);
    if (!status.ok()) {
      Require(absl::IsInvalidArgument(status), status.ToString());
      return;
    }
  }
  // Asking one of these what it is would start a program or open a socket that
  // the input names.
  const v1::EnvironmentConfig& environment = config->environment();
  if (environment.kind_case() >= v1::EnvironmentConfig::kGymnasium &&
      !environment.has_spec()) {
    return;
  }
  const absl::Status status = ResolveConfig(*config);
  if (!status.ok()) {
    Require(!absl::StrContains(status.message(), '\n'), "it is one line");
    Require(absl::IsInvalidArgument(status), status.ToString());
    return;
  }
  Require(ValidateConfig(*config));
  Require(ValidateTableSpec(config->replay().table(), "table"));
  // As a run directory keeps it.
  const std::string text = ConfigText(*config);
  absl::StatusOr<v1::Config> again = ParseConfig(text, "again.txtpb");
  Require(again.status());
  Require(ResolveConfig(*again));
  Require(ConfigText(*again) == text, "resolving is idempotent");
}

}  // namespace
}  // namespace qfleet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
#if GOOGLE_PROTOBUF_VERSION < 4022000
  // It would write a line for each text that does not parse.
  static const bool silent = [] {
    google::protobuf::SetLogHandler(nullptr);
    return true;
  }();
  (void)silent;
#endif
  qfleet::Run(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
