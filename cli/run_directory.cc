#include "cli/run_directory.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/files.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

namespace fs = std::filesystem;

// sun_path holds 107 characters; some of them stay free.
constexpr size_t kMaxSocketPath = 90;
constexpr char kLongestSocket[] = "/replay-1023.sock";

absl::StatusOr<std::string> AbsolutePath(const std::string& path) {
  std::error_code error;
  fs::path absolute = fs::absolute(path, error).lexically_normal();
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot find ", path, ": ", error.message()));
  }
  return absolute.string();
}

// Makes a folder that may have been there one that only we can enter.
absl::Status MakePrivate(const std::string& path) {
  struct stat info = {};
  if (lstat(path.c_str(), &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot look at ", path));
  }
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid()) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, " is no folder of this user's: allowed is one, for the sockets"));
  }
  if (chmod(path.c_str(), S_IRWXU) != 0) {
    return absl::ErrnoToStatus(
        errno, absl::StrCat("cannot make private the folder ", path));
  }
  return absl::OkStatus();
}

std::string ModePath(const std::string& run_dir) { return run_dir + "/mode"; }

}  // namespace

absl::Status WriteRunMode(const std::string& run_dir, RunMode mode) {
  return WriteFileAtomically(ModePath(run_dir),
                             mode == RunMode::kSolo ? "solo\n" : "cluster\n");
}

absl::StatusOr<RunMode> ReadRunMode(const std::string& run_dir) {
  const absl::StatusOr<std::string> text = ReadFile(ModePath(run_dir));
  if (!text.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "RUN_DIR = \"", run_dir,
        "\" holds no run that says how it was started (mode): allowed is the "
        "run_dir of a qfleet train"));
  }
  if (*text == "solo\n") return RunMode::kSolo;
  if (*text == "cluster\n") return RunMode::kCluster;
  return absl::InvalidArgumentError(absl::StrCat(
      ModePath(run_dir), " = \"", absl::StripAsciiWhitespace(*text),
      "\": allowed is cluster, solo"));
}

absl::StatusOr<std::unique_ptr<RunLock>> RunLock::Take(
    const std::string& run_dir) {
  const std::string path = run_dir + "/LOCK";
  // Not O_CLOEXEC: the processes of the run hold it, too.
  const int fd = open(path.c_str(), O_RDWR | O_CREAT, 0644);
  if (fd < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  }
  std::unique_ptr<RunLock> lock(new RunLock(fd));
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return lock;
  return absl::InvalidArgumentError(
      absl::StrCat("RUN_DIR = \"", run_dir,
                   "\" is still running: allowed is a run whose processes have "
                   "all ended"));
}

RunLock::~RunLock() { close(fd_); }

absl::Status MakeRunDirectory(const std::string& path) {
  for (const char* name : {"config.txtpb", "metrics.jsonl", "checkpoints"}) {
    std::error_code error;
    if (fs::exists(fs::path(path) / name, error)) {
      return absl::InvalidArgumentError(
          absl::StrCat("run_dir = \"", path, "\" already holds a run (", name,
                       "): allowed is a folder without one"));
    }
  }
  QFLEET_RETURN_IF_ERROR(MakeWritableDirectory(path));
  for (const char* name : {"logs", "checkpoints", "ready"}) {
    QFLEET_RETURN_IF_ERROR(
        MakeWritableDirectory(absl::StrCat(path, "/", name)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> MakeDefaultRunDirectory(
    const std::string& config_path, absl::Time now) {
  QFLEET_RETURN_IF_ERROR(MakeWritableDirectory("runs"));
  const std::string base = absl::StrCat(
      "runs/", fs::path(config_path).stem().string(), "-",
      absl::FormatTime("%Y%m%d-%H%M%S", now, absl::LocalTimeZone()));
  // Runs that start within one second get -2, -3, ...
  std::string path = base;
  for (int i = 2; mkdir(path.c_str(), 0777) != 0; ++i) {
    if (errno != EEXIST) {
      return absl::ErrnoToStatus(
          errno, absl::StrCat("cannot make the directory ", path));
    }
    path = absl::StrCat(base, "-", i);
  }
  QFLEET_RETURN_IF_ERROR(MakeRunDirectory(path));
  return path;
}

std::string ShownPath(const std::string& path) {
  std::error_code error;
  const fs::path relative =
      fs::path(path).lexically_proximate(fs::current_path(error));
  if (error || relative.empty() || absl::StartsWith(relative.string(), "..")) {
    return path;
  }
  return relative.string();
}

absl::StatusOr<std::unique_ptr<SocketDirectory>> SocketDirectory::Make(
    const std::string& run_dir) {
  QFLEET_ASSIGN_OR_RETURN(std::string path, AbsolutePath(run_dir + "/sockets"));
  if (path.size() + sizeof(kLongestSocket) <= kMaxSocketPath) {
    if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
      return absl::ErrnoToStatus(
          errno, absl::StrCat("cannot make the directory ", path));
    }
    QFLEET_RETURN_IF_ERROR(MakePrivate(path));
    return std::unique_ptr<SocketDirectory>(new SocketDirectory(path, false));
  }
  path = "/tmp/qfleet-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    return absl::ErrnoToStatus(
        errno, absl::StrCat("cannot make the directory ", path));
  }
  return std::unique_ptr<SocketDirectory>(new SocketDirectory(path, true));
}

SocketDirectory::~SocketDirectory() {
  std::error_code error;
  if (temporary_) fs::remove_all(path_, error);
}

}  // namespace qfleet
