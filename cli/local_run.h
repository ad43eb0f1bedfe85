// A run on this machine, from its folder to its end: what `qfleet train` and
// `qfleet resume` have in common.

#ifndef QFLEET_CLI_LOCAL_RUN_H_
#define QFLEET_CLI_LOCAL_RUN_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "cli/run_directory.h"
#include "common/shutdown.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

struct LocalRun {
  std::string run_dir;  // Absolute; its folders are there.
  RunMode mode = RunMode::kCluster;
  bool resume = false;
  std::string log_format = "text";  // Of the files in its logs folder.
  std::unique_ptr<RunLock> lock;
};

// `path`, absolute, as LocalRun wants it.
std::string AbsoluteRunDirectory(const std::string& path);

// Gives `config` (resolved) the addresses of a cluster,
// writes it to the folder, starts the processes, tells how it goes on standard
// output, and stops them when the run ends or a shutdown is requested. The exit
// code of the command.
absl::StatusOr<int> RunLocally(LocalRun run, v1::Config config,
                               ShutdownSignal& shutdown);

}  // namespace qfleet

#endif  // QFLEET_CLI_LOCAL_RUN_H_
