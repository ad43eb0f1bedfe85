// Small file work: every error names the path and the system's reason.

#ifndef QFLEET_COMMON_FILES_H_
#define QFLEET_COMMON_FILES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qfleet {

// "cannot WHAT PATH: REASON" of errno; RESOURCE_EXHAUSTED if the disk is full.
absl::Status FileError(absl::string_view what, const std::string& path);

// Writes all of it, `path`'s, at that offset.
absl::Status WriteAt(int fd, const std::string& path, uint64_t offset,
                     const char* data, uint64_t bytes);

absl::StatusOr<std::string> ReadFile(const std::string& path);

// Writes PATH.tmp, syncs it, renames it to PATH and syncs the folder: after a
// crash PATH holds the old content or the new, whole.
absl::Status WriteFileAtomically(const std::string& path,
                                 absl::string_view data);

// Syncs the folder `from`, renames it to `to`, which is not there, and syncs
// the folder around it.
absl::Status RenameDirectory(const std::string& from, const std::string& to);

// So that what was made or renamed in the folder stays after a crash.
absl::Status SyncDirectory(const std::string& path);

// Makes the file, of `bytes` zeros whose room on the disk is its own:
// RESOURCE_EXHAUSTED if there is not so much.
absl::Status PreallocateFile(const std::string& path, uint64_t bytes);

// With its parents; OK if it is there already and can be written to.
absl::Status MakeWritableDirectory(const std::string& path);

}  // namespace qfleet

#endif  // QFLEET_COMMON_FILES_H_
