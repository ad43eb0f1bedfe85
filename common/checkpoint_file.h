// Checkpoint files: reading, writing, which is the newest, how many stay.
//
// A file is a framed Checkpoint message with the magic "QFLTCKPT"
// (framed_file.h, docs/formats.md). Names are checkpoint-UPDATES.qfckpt with 12
// digits, so that they sort. A run in one process has folders beside them,
// checkpoint-UPDATES.replay-N.

#ifndef QFLEET_COMMON_CHECKPOINT_FILE_H_
#define QFLEET_COMMON_CHECKPOINT_FILE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qfleet/v1/checkpoint.pb.h"

namespace qfleet {

// Writes into `directory` and removes all but the `keep` newest. Atomic.
// Where the checkpoint has a folder beside it (solo().replay(), which is whole
// already), it is the file that counts: folders that no file of those that stay
// can mean are removed.
absl::StatusOr<std::string> WriteCheckpoint(const std::string& directory,
                                            const v1::Checkpoint& checkpoint,
                                            int keep);

// A name that is not in use yet for a folder beside the checkpoint of so many
// updates. A folder that is not finished has ".tmp" at its end.
std::string NewCheckpointFolder(const std::string& directory, uint64_t updates);

// DATA_LOSS naming the file if it is cut short, changed or of another format.
absl::StatusOr<v1::Checkpoint> ReadCheckpoint(const std::string& path);

// Paths, newest first.
std::vector<std::string> ListCheckpoints(const std::string& directory);

// The newest that can be read and that `accept` takes, if given. NOT_FOUND if
// there are no checkpoints at all; FAILED_PRECONDITION saying why the newest
// was refused if none can be used. `skipped`, if not null, gets a line for each
// that was refused.
using AcceptCheckpoint = std::function<absl::Status(const v1::Checkpoint&)>;
absl::StatusOr<v1::Checkpoint> ReadNewestCheckpoint(
    const std::string& directory, std::vector<std::string>* skipped = nullptr,
    const AcceptCheckpoint& accept = nullptr);

// Renames checkpoints of more updates to NAME.refused. For a run that goes on
// from an older one: they would else count as the newest of those that stay.
void SetAsideNewerCheckpoints(const std::string& directory, uint64_t updates);

}  // namespace qfleet

#endif  // QFLEET_COMMON_CHECKPOINT_FILE_H_
