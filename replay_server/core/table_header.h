// The header of a table: what it is, and the regions of memory that it needs.
// A table in memory makes one and forgets it; a table in files has it as the
// file `header` and compares it when it is opened again.

#ifndef QFLEET_REPLAY_SERVER_CORE_TABLE_HEADER_H_
#define QFLEET_REPLAY_SERVER_CORE_TABLE_HEADER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qfleet/v1/replay.pb.h"
#include "qfleet/v1/storage.pb.h"

namespace qfleet {

// The regions, in this order.
enum TableRegion : int {
  kStateRegion,    // table_state.h
  kWritersRegion,  // writer_book.h
  kStepsRegion,    // Step headers (step_ring.h).
  kPayloadRegion,  // Step columns.
  kItemsRegion,    // item_slots.h
  kRegionCount,
};

inline constexpr uint32_t kTableFormat = 1;

// Of a new table. INVALID_ARGUMENT if the spec is not valid, or max_bytes too
// small for the items and 64 steps.
absl::StatusOr<v1::TableHeader> MakeTableHeader(const v1::TableSpec& spec,
                                                uint32_t shard,
                                                uint32_t first_generation);

// Whether the files of `stored`, found in `directory`, can serve `wanted`:
// FAILED_PRECONDITION saying what differs. Selector, limiter and generation may
// differ; what the rows mean and how many there are may not.
absl::Status CheckTableHeader(const v1::TableHeader& stored,
                              const v1::TableHeader& wanted,
                              absl::string_view directory);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_TABLE_HEADER_H_
