// What every qfleet process does at its start: flags, log, ready file.

#ifndef QFLEET_COMMON_PROCESS_H_
#define QFLEET_COMMON_PROCESS_H_

#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"

namespace qfleet {

// Exit codes, as in the README.
enum ExitCode : int {
  // The stop condition; of a process without one, an orderly stop by a signal.
  kExitReached = 0,
  kExitFailed = 1,
  kExitUsage = 2,       // Config or command line.
  kExitNotReached = 3,  // A max_* bound ended the run first.
  // An orderly stop by a signal, before the stop condition or a bound: what
  // the process ran for is not done.
  kExitStopped = 4,
};

// --log_format of `app`, into `log_format`, which is the default.
void AddLogFormat(CLI::App& app, std::string& log_format);

// The flags that the processes of a cluster share.
struct ProcessFlags {
  std::string config;                   // --config
  std::vector<std::string> set;         // --set, repeated
  std::string listen;                   // --listen
  std::string metrics = "127.0.0.1:0";  // --metrics
  std::string ready_file;               // --ready_file
  std::string log_format = "text";      // --log_format
  bool insecure = false;                // --insecure

  // Adds the flags to `app`; `default_listen` empty: no --listen.
  void Register(CLI::App& app, const std::string& default_listen);
};

// Parses; on --help or an error prints and returns the exit code to end with
// (errors: one line on stderr, 2), else -1.
int ParseFlags(CLI::App& app, int argc, char** argv);

// Of each process, before anything else: large blocks of memory stay with it
// when they are freed (the C library would give them back and fault them in
// again, message by message), and Abseil does not look for deadlocks.
void TuneProcess();

// Logs to stderr, `role` being "replay-0". `format` "text":
//   07:05:59.123 I replay-0] text
// and "json", an object a line, in UTC:
//   {"time":"2026-01-31T07:05:59.123Z","level":"info","role":"replay-0",
//    "message":"text"}
void InitLog(const std::string& role, const std::string& format = "text");

// Prints `role: message` on stderr as one line (as JSON, if the log is) and
// returns the exit code that goes with the error: 2 for INVALID_ARGUMENT, else
// 1.
int Fail(const std::string& role, const absl::Status& status);

// Writes "grpc ADDRESS\nmetrics ADDRESS\n" atomically to `path`: the process
// serves now. Nothing if `path` is empty; an empty address has no line.
absl::Status WriteReadyFile(const std::string& path, const std::string& grpc,
                            const std::string& metrics);

}  // namespace qfleet

#endif  // QFLEET_COMMON_PROCESS_H_
