// A file that is written past the page cache, so that a checkpoint neither
// drives what is served out of it nor leaves gigabytes that the kernel writes
// and frees when it likes, while others wait for the processor.
//
//   DirectFile file;
//   QFLEET_RETURN_IF_ERROR(file.Create(path, bytes));
//   QFLEET_RETURN_IF_ERROR(file.Write(offset, data.data(), data.size()));
//   QFLEET_RETURN_IF_ERROR(file.Sync());
//
// Bytes are collected to aligned pieces. Where a file system has no direct
// writes, and for what is less than a block, ordinary writes are made.
//
// Thread-compatible.

#ifndef QFLEET_REPLAY_SERVER_CORE_DIRECT_FILE_H_
#define QFLEET_REPLAY_SERVER_CORE_DIRECT_FILE_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"

namespace qfleet {

// Aligned as direct transfers need it.
struct FreeBuffer {
  void operator()(char* buffer) const { std::free(buffer); }
};
using DirectBuffer = std::unique_ptr<char, FreeBuffer>;

class DirectFile {
 public:
  DirectFile() = default;
  ~DirectFile();
  DirectFile(const DirectFile&) = delete;
  DirectFile& operator=(const DirectFile&) = delete;

  // Makes the file, which is not there yet, of `bytes` zeros that take no room.
  absl::Status Create(const std::string& path, uint64_t bytes);
  // Anywhere in the file; what follows where the last one ended is quickest.
  // Bytes may stay in memory until the next call: an error is of what was
  // written until then, RESOURCE_EXHAUSTED if the disk is full.
  absl::Status Write(uint64_t offset, const char* data, uint64_t bytes);
  // Writes the rest, and all of it to the disk.
  absl::Status Sync();
  // Whether it was written past the page cache so far.
  bool direct() const { return direct_fd_ >= 0; }

 private:
  // Of the file, where the buffer's first byte belongs.
  uint64_t base() const;
  absl::Status Flush();
  absl::Status WritePlain(uint64_t begin, uint64_t end);
  absl::Status WriteDirect(uint64_t begin, uint64_t end);

  std::string path_;
  int fd_ = -1;
  int direct_fd_ = -1;  // -1: none.
  DirectBuffer buffer_;
  // Of the file: what the buffer holds.
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
};

// Gives the file's pieces, in order, past the page cache if `direct` and the
// file system can.
absl::Status ReadPieces(
    const std::string& path, bool direct,
    const std::function<absl::Status(const char*, size_t)>& take);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_DIRECT_FILE_H_
