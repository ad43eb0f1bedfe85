// What a process needs of its machine, looked at before it is missed: file
// descriptors, memory, disk.

#ifndef QFLEET_COMMON_RESOURCES_H_
#define QFLEET_COMMON_RESOURCES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace qfleet {

struct MemoryView {
  uint64_t total = 0;      // The machine's, or the control group's bound.
  uint64_t available = 0;  // Of that, without what can be given back.
};
// Zeros where /proc cannot be read.
MemoryView ReadMemory();

struct DiskView {
  uint64_t total = 0;
  uint64_t available = 0;  // To this user.
};
// Of the file system that holds `path`. As the error of statvfs.
absl::StatusOr<DiskView> ReadDisk(const std::string& path);

// Raises the soft limit of open files to the hard one. RESOURCE_EXHAUSTED, in
// words, if even that is less than `needed`, which `why` explains ("40 actors
// and 2 learners").
absl::Status AllowOpenFiles(uint64_t needed, const std::string& why);

// Of tables that may grow to `bytes`. RESOURCE_EXHAUSTED, in words, if these
// are more than there is memory in all; logs a warning if they are more than is
// available now.
// `name` is the option at fault, "replay.max_bytes". With `on_disk` the rows
// are in mapped files, which may be larger than memory, but slower then: only
// warnings.
absl::Status CheckMemory(uint64_t bytes, const std::string& name, bool on_disk);

// Says when disk or memory come near their end, and again every ten minutes for
// as long as they are. Thread-compatible.
class ResourceWatch {
 public:
  // `path` empty: memory only. Logs what Warnings says.
  void Look(const std::string& path, absl::Time now);

  // Sentences about what is nearly full: less than 5 % left. `disk` may be
  // zeros, for none.
  std::vector<std::string> Warnings(const MemoryView& memory,
                                    const DiskView& disk, absl::Time now);

 private:
  absl::Time said_memory_ = absl::InfinitePast();
  absl::Time said_disk_ = absl::InfinitePast();
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_RESOURCES_H_
