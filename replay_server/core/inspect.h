// What a table's files hold, without a shard: the files are mapped privately,
// opened as a shard would and verified to the last row. They are not changed.

#ifndef QFLEET_REPLAY_SERVER_CORE_INSPECT_H_
#define QFLEET_REPLAY_SERVER_CORE_INSPECT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "qfleet/v1/replay.pb.h"
#include "qfleet/v1/storage.pb.h"
#include "replay_server/core/table.h"

namespace qfleet {

struct TableReport {
  v1::TableHeader header;
  v1::TableStats stats;
  Table::Recovery recovery;
  Table::Verified verified;
  uint64_t writers = 0;     // Whose sequences are known.
  uint64_t file_bytes = 0;  // Of all regions.

  bool intact() const {
    return recovery.dropped == 0 && recovery.damaged_steps == 0 &&
           recovery.damaged_writers == 0 && verified.damaged_steps == 0;
  }
};

// Errors as Table::Create.
absl::StatusOr<TableReport> InspectTable(const std::string& directory);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_INSPECT_H_
