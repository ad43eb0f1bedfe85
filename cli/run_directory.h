// A run's folder, and the folder of its sockets.

#ifndef QFLEET_CLI_RUN_DIRECTORY_H_
#define QFLEET_CLI_RUN_DIRECTORY_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace qfleet {

// What a run consists of, as the file `mode` of its folder says.
enum class RunMode { kCluster, kSolo };
absl::Status WriteRunMode(const std::string& run_dir, RunMode mode);
// INVALID_ARGUMENT if the folder is not that of a run that says it.
absl::StatusOr<RunMode> ReadRunMode(const std::string& run_dir);

// Whether a run goes on in a folder: the file `LOCK`, locked by all processes
// of the run that are started while the object lives, for as long as one of
// them lives (the lock goes with the open file, which they inherit).
class RunLock {
 public:
  // INVALID_ARGUMENT if the run is still running.
  static absl::StatusOr<std::unique_ptr<RunLock>> Take(
      const std::string& run_dir);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  explicit RunLock(int fd) : fd_(fd) {}

  const int fd_;
};

// Makes `path` with logs/, checkpoints/ and ready/. INVALID_ARGUMENT if a run
// is there already; otherwise the system's reason.
absl::Status MakeRunDirectory(const std::string& path);

// Makes runs/NAME-YYYYmmdd-HHMMSS in the current folder, NAME being the
// config's without its extension, and returns its path.
absl::StatusOr<std::string> MakeDefaultRunDirectory(
    const std::string& config_path, absl::Time now);

// `path` as it is printed: relative if it lies below the current folder.
std::string ShownPath(const std::string& path);

// A private folder for sockets: RUN_DIR/sockets, also if an earlier life of the
// run has left it, if the paths in it are short
// enough for a socket, else one below /tmp that goes with this object.
class SocketDirectory {
 public:
  static absl::StatusOr<std::unique_ptr<SocketDirectory>> Make(
      const std::string& run_dir);

  SocketDirectory(const SocketDirectory&) = delete;
  SocketDirectory& operator=(const SocketDirectory&) = delete;
  ~SocketDirectory();

  const std::string& path() const { return path_; }  // Absolute.

 private:
  SocketDirectory(std::string path, bool temporary)
      : path_(std::move(path)), temporary_(temporary) {}

  const std::string path_;
  const bool temporary_;
};

}  // namespace qfleet

#endif  // QFLEET_CLI_RUN_DIRECTORY_H_
