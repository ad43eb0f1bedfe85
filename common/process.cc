#include "common/process.h"

#include <malloc.h>

#include <iostream>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/mutex.h"
#include "common/files.h"
#include "common/json_log.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

bool log_is_json = false;  // Set once, by InitLog.

}  // namespace

void AddLogFormat(CLI::App& app, std::string& log_format) {
  app.add_option("--log_format", log_format,
                 "Lines of the log: text, or JSON, an object each")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
}

void ProcessFlags::Register(CLI::App& app, const std::string& default_listen) {
  app.add_option("--config", config, "Config file (Protobuf text format)")
      ->required();
  app.add_option("--set", set, "path.to.field=value; may be repeated")
      ->allow_extra_args(false);
  if (!default_listen.empty()) {
    listen = default_listen;
    app.add_option("--listen", listen, "gRPC address: host:port or unix:PATH")
        ->capture_default_str();
  }
  app.add_option("--metrics", metrics,
                 "Address of the status page and /metrics, host:port; port 0: "
                 "a free one")
      ->capture_default_str();
  AddLogFormat(app, log_format);
  app.add_option("--ready_file", ready_file,
                 "Written with the addresses once the process serves");
  app.add_flag("--insecure", insecure,
               "Allow gRPC beyond this machine without TLS "
               "(cluster.security)");
}

int ParseFlags(CLI::App& app, int argc, char** argv) {
  app.set_version_flag("--version", QFLEET_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    std::cerr << app.get_name() << ": " << error.what() << " (--help)\n";
    return kExitUsage;
  }
  return -1;
}

void TuneProcess() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

void InitLog(const std::string& role, const std::string& format) {
  auto logger = spdlog::stderr_logger_mt("qfleet");
  if (format == "json") {
    logger->set_formatter(std::make_unique<JsonLogFormatter>(role));
    log_is_json = true;
  } else {
    logger->set_pattern(absl::StrCat("%H:%M:%S.%e %L ", role, "] %v"));
  }
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

int Fail(const std::string& role, const absl::Status& status) {
  const std::string line = absl::StrReplaceAll(status.message(), {{"\n", " "}});
  if (log_is_json) {
    spdlog::critical("{}", line);
  } else {
    std::cerr << role << ": " << line << std::endl;
  }
  return status.code() == absl::StatusCode::kInvalidArgument ? kExitUsage
                                                             : kExitFailed;
}

absl::Status WriteReadyFile(const std::string& path, const std::string& grpc,
                            const std::string& metrics) {
  if (path.empty()) return absl::OkStatus();
  std::string text;
  if (!grpc.empty()) absl::StrAppend(&text, "grpc ", grpc, "\n");
  if (!metrics.empty()) absl::StrAppend(&text, "metrics ", metrics, "\n");
  return WriteFileAtomically(path, text);
}

}  // namespace qfleet
