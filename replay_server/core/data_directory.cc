#include "replay_server/core/data_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/files.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

// Of which a damaged table may lack some.
constexpr const char* kTableFiles[] = {"header", "state",   "writers",
                                       "steps",  "payload", "items"};

absl::Status InUse(const std::string& path) {
  return absl::FailedPreconditionError(absl::StrCat(
      path, " is in use by another process: allowed is a folder of its own"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::Lock(
    const std::string& path) {
  QFLEET_RETURN_IF_ERROR(MakeWritableDirectory(path));
  const std::string file = path + "/LOCK";
  const int fd = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("open ", file));
  std::unique_ptr<DataDirectory> directory(new DataDirectory(path, fd));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) return InUse(path);
  return directory;
}

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::LockForReading(
    const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    return absl::NotFoundError(
        absl::StrCat("no folder ", path, error ? ": " + error.message() : ""));
  }
  const std::string file = path + "/LOCK";
  const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno != ENOENT) {
    return absl::ErrnoToStatus(errno, absl::StrCat("open ", file));
  }
  std::unique_ptr<DataDirectory> directory(new DataDirectory(path, fd));
  if (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0) return InUse(path);
  return directory;
}

DataDirectory::~DataDirectory() {
  if (fd_ >= 0) close(fd_);  // Which unlocks it.
}

std::vector<std::string> ListTables(const std::string& path) {
  std::vector<std::string> tables;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    const std::string name = entry.path().filename().string();
    // Not a file system's lost+found, nor checkpoints that are kept there.
    if (!absl::StrContains(name, '.') &&
        absl::c_any_of(kTableFiles, [&entry](const char* file) {
          std::error_code ignored;
          return std::filesystem::exists(entry.path() / file, ignored);
        })) {
      tables.push_back(name);
    }
  }
  std::sort(tables.begin(), tables.end());
  return tables;
}

}  // namespace qfleet
