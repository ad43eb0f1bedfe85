#include "cli/run_directory.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

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

}  // namespace

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
    if (mkdir(path.c_str(), 0700) != 0) {
      return absl::ErrnoToStatus(
          errno, absl::StrCat("cannot make the directory ", path));
    }
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
