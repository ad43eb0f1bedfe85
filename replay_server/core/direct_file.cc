#include "replay_server/core/direct_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/files.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

// What memory, offsets and lengths are multiples of. A file system that wants
// more says EINVAL.
constexpr uint64_t kBlock = 4096;
// A larger piece would occupy a processor for longer while others wait for it.
constexpr uint64_t kBufferBytes = 256 << 10;

DirectBuffer MakeBuffer() {
  return DirectBuffer(
      static_cast<char*>(std::aligned_alloc(kBlock, kBufferBytes)));
}

absl::Status NoMemory(const std::string& path) {
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot open ", path, ": no memory for a buffer"));
}

// Of a direct transfer that an ordinary one may do.
bool IsNotDirect(int error) { return error == EINVAL || error == EOPNOTSUPP; }

}  // namespace

DirectFile::~DirectFile() {
  if (direct_fd_ >= 0) close(direct_fd_);
  if (fd_ >= 0) close(fd_);
}

absl::Status DirectFile::Create(const std::string& path, uint64_t bytes) {
  path_ = path;
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd_ < 0) return FileError("make", path);
  if (ftruncate(fd_, static_cast<off_t>(bytes)) != 0) {
    return FileError("extend", path);
  }
  direct_fd_ = open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC);
  buffer_ = MakeBuffer();
  return buffer_ == nullptr ? NoMemory(path) : absl::OkStatus();
}

uint64_t DirectFile::base() const { return begin_ / kBlock * kBlock; }

absl::Status DirectFile::Write(uint64_t offset, const char* data,
                               uint64_t bytes) {
  if (offset != end_) {
    QFLEET_RETURN_IF_ERROR(Flush());
    begin_ = end_ = offset;
  }
  while (bytes > 0) {
    const uint64_t at = end_ - base();
    const uint64_t count = std::min(bytes, kBufferBytes - at);
    std::memcpy(buffer_.get() + at, data, count);
    data += count;
    bytes -= count;
    end_ += count;
    if (at + count == kBufferBytes) QFLEET_RETURN_IF_ERROR(Flush());
  }
  return absl::OkStatus();
}

absl::Status DirectFile::Flush() {
  // The blocks that the buffer holds as a whole, if there are any.
  const uint64_t last = end_ / kBlock * kBlock;
  const uint64_t first =
      std::min((begin_ + kBlock - 1) / kBlock * kBlock, end_);
  if (first < last) {
    QFLEET_RETURN_IF_ERROR(WritePlain(begin_, first));
    QFLEET_RETURN_IF_ERROR(WriteDirect(first, last));
    QFLEET_RETURN_IF_ERROR(WritePlain(last, end_));
  } else {
    QFLEET_RETURN_IF_ERROR(WritePlain(begin_, end_));
  }
  begin_ = end_;
  return absl::OkStatus();
}

absl::Status DirectFile::WritePlain(uint64_t begin, uint64_t end) {
  return WriteAt(fd_, path_, begin, buffer_.get() + (begin - base()),
                 end - begin);
}

absl::Status DirectFile::WriteDirect(uint64_t begin, uint64_t end) {
  while (begin < end && direct_fd_ >= 0) {
    const ssize_t written = pwrite(direct_fd_, buffer_.get() + (begin - base()),
                                   end - begin, static_cast<off_t>(begin));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && !IsNotDirect(errno)) return FileError("write", path_);
    if (written < 0) {
      close(direct_fd_);
      direct_fd_ = -1;
      break;
    }
    begin += static_cast<uint64_t>(written);
  }
  return WritePlain(begin, end);
}

absl::Status DirectFile::Sync() {
  QFLEET_RETURN_IF_ERROR(Flush());
  // One descriptor of a file syncs what was written by any, on a local disk;
  // elsewhere the other one may have to.
  if (direct_fd_ >= 0 && fsync(direct_fd_) != 0) {
    return FileError("sync", path_);
  }
  return fsync(fd_) == 0 ? absl::OkStatus() : FileError("sync", path_);
}

absl::Status ReadPieces(
    const std::string& path, bool direct,
    const std::function<absl::Status(const char*, size_t)>& take) {
  int fd = direct ? open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC) : -1;
  direct = fd >= 0;
  if (!direct) fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError("open", path);
  const auto close_it = absl::MakeCleanup([&fd] { close(fd); });
  const DirectBuffer buffer = MakeBuffer();
  if (buffer == nullptr) return NoMemory(path);
  for (uint64_t at = 0;;) {
    const ssize_t got =
        pread(fd, buffer.get(), kBufferBytes, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && direct && IsNotDirect(errno)) {
      // Or the end, which is within a block, was reached.
      close(fd);
      fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
      if (fd < 0) return FileError("open", path);
      direct = false;
      continue;
    }
    if (got < 0) return FileError("read", path);
    if (got == 0) return absl::OkStatus();
    QFLEET_RETURN_IF_ERROR(take(buffer.get(), static_cast<size_t>(got)));
    at += static_cast<uint64_t>(got);
  }
}

}  // namespace qfleet
