#include "common/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace qfleet {
namespace {

std::string ParentOf(const std::string& path) {
  std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

absl::Status FileError(absl::string_view what, const std::string& path) {
  const int error = errno;
  return absl::ErrnoToStatus(error, absl::StrCat("cannot ", what, " ", path));
}

absl::Status WriteAt(int fd, const std::string& path, uint64_t offset,
                     const char* data, uint64_t bytes) {
  while (bytes > 0) {
    const ssize_t written = pwrite(fd, data, bytes, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError("write", path);
    data += written;
    offset += static_cast<uint64_t>(written);
    bytes -= static_cast<uint64_t>(written);
  }
  return absl::OkStatus();
}

absl::Status SyncDirectory(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError("open", path);
  int result = fsync(fd);
  close(fd);
  return result == 0 ? absl::OkStatus() : FileError("sync", path);
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return FileError("open", path);
  std::ostringstream data;
  data << file.rdbuf();
  if (file.bad()) return FileError("read", path);
  return std::move(data).str();
}

absl::Status WriteFileAtomically(const std::string& path,
                                 absl::string_view data) {
  const std::string temporary = path + ".tmp";
  int fd =
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return FileError("create", temporary);
  while (!data.empty()) {
    ssize_t written = write(fd, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      absl::Status status = FileError("write", temporary);
      close(fd);
      unlink(temporary.c_str());
      return status;
    }
    data.remove_prefix(written);
  }
  if (fsync(fd) != 0) {
    absl::Status status = FileError("sync", temporary);
    close(fd);
    return status;
  }
  close(fd);
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    return FileError("rename to", path);
  }
  return SyncDirectory(ParentOf(path));
}

absl::Status RenameDirectory(const std::string& from, const std::string& to) {
  absl::Status status = SyncDirectory(from);
  if (!status.ok()) return status;
  if (rename(from.c_str(), to.c_str()) != 0) return FileError("rename to", to);
  return SyncDirectory(ParentOf(to));
}

absl::Status PreallocateFile(const std::string& path, uint64_t bytes) {
  const int fd =
      open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("make ", path));
  int error = fallocate(fd, 0, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
  if (error == EOPNOTSUPP) {
    error = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  }
  if (error == 0 && fsync(fd) != 0) error = errno;
  close(fd);
  if (error == 0) return absl::OkStatus();
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    std::error_code ignored;
    const auto space = std::filesystem::space(
        std::filesystem::path(path).parent_path(), ignored);
    return absl::ResourceExhaustedError(absl::StrCat(
        path, ": no room for ", bytes, " bytes (", std::strerror(error),
        "); free are ", ignored ? 0 : space.available));
  }
  return absl::ErrnoToStatus(error, absl::StrCat("cannot preallocate ", path));
}

absl::Status MakeWritableDirectory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot make the directory ", path, ": ", error.message()));
  }
  if (access(path.c_str(), W_OK | X_OK) != 0)
    return FileError("write to", path);
  return absl::OkStatus();
}

}  // namespace qfleet
