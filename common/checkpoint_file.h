// Checkpoint files: reading, writing, which is the newest, how many stay.
//
// A file is a framed Checkpoint message with the magic "QFLTCKPT"
// (framed_file.h, docs/formats.md). Names are checkpoint-UPDATES.qfckpt with 12
// digits, so that they sort.

#ifndef QFLEET_COMMON_CHECKPOINT_FILE_H_
#define QFLEET_COMMON_CHECKPOINT_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qfleet/v1/checkpoint.pb.h"

namespace qfleet {

// Writes into `directory` and removes all but the `keep` newest. Atomic.
absl::StatusOr<std::string> WriteCheckpoint(const std::string& directory,
                                            const v1::Checkpoint& checkpoint,
                                            int keep);

// DATA_LOSS naming the file if it is cut short, changed or of another format.
absl::StatusOr<v1::Checkpoint> ReadCheckpoint(const std::string& path);

// Paths, newest first.
std::vector<std::string> ListCheckpoints(const std::string& directory);

// The newest that can be read; NOT_FOUND if there is none. `skipped`, if not
// null, gets a line for each newer one that could not.
absl::StatusOr<v1::Checkpoint> ReadNewestCheckpoint(
    const std::string& directory, std::vector<std::string>* skipped = nullptr);

}  // namespace qfleet

#endif  // QFLEET_COMMON_CHECKPOINT_FILE_H_
