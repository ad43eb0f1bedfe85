// Checkpoints of a shard: a folder that holds copies of its tables' files and,
// written last, a manifest with their checksums. A folder with its final name
// is whole.
//
//   CHECKPOINT/MANIFEST
//   CHECKPOINT/TABLE/{header,state,writers,steps,payload,items}
//
// docs/formats.md says what is in them.

#ifndef QFLEET_REPLAY_SERVER_CORE_CHECKPOINT_H_
#define QFLEET_REPLAY_SERVER_CORE_CHECKPOINT_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qfleet/v1/storage.pb.h"
#include "replay_server/core/direct_file.h"

namespace qfleet {

// One table's files, written where and when the caller likes.
// Thread-compatible.
class TableFilesWriter {
 public:
  // Makes `directory`, the header and empty files of full size.
  absl::Status Open(const std::string& directory,
                    const v1::TableHeader& header);
  // As DirectFile's.
  absl::Status Write(int region, uint64_t offset, const char* data,
                     uint64_t bytes);
  absl::Status Sync();

 private:
  std::deque<DirectFile> files_;  // Of the regions.
};

// Makes `directory`/shard-N-TIME.tmp for a checkpoint that begins now; its
// path.
absl::StatusOr<std::string> BeginCheckpoint(const std::string& directory,
                                            uint32_t shard);

// Writes the manifest over all files, syncs, gives the folder its final name,
// which is returned, and removes all but the newest `keep` of this shard (0:
// none is removed). CANCELLED once `stopped`, if there is one, says so.
absl::StatusOr<std::string> FinishCheckpoint(
    const std::string& temporary, uint32_t shard, absl::string_view version,
    uint32_t keep, const std::function<bool()>& stopped);

// Of one shard, newest first.
std::vector<std::string> ListShardCheckpoints(const std::string& directory,
                                              uint32_t shard);

// DATA_LOSS naming the file if the manifest or, with `contents`, any file is
// not as it was written.
absl::StatusOr<v1::CheckpointManifest> CheckCheckpoint(const std::string& path,
                                                       bool contents);

// Copies tables of a checkpoint, whose files are verified meanwhile, to folders
// that are not there yet: preallocated, synced, and given their names once all
// are copied. On an error none is there; if the files of one cannot serve what
// is wanted of it (CheckTableHeader) nothing is copied at all.
struct RestoredTable {
  v1::TableHeader wanted;
  std::string directory;
};
absl::Status RestoreTables(const std::string& checkpoint,
                           const std::vector<RestoredTable>& tables);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_CHECKPOINT_H_
