// How an actor's experience leaves it. Remote: RemoteWriter; in one process:
// solo's LocalWriter.

#ifndef QFLEET_REPLAY_CLIENT_WRITER_H_
#define QFLEET_REPLAY_CLIENT_WRITER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace qfleet {

// A row of one column, C order; its size is the column's row size.
using ColumnRow = absl::Span<const char>;

// Thread-compatible: one actor thread.
class Writer {
 public:
  virtual ~Writer() = default;

  // Adds a step to `stream` (0, 1, 2, ...: an environment instance of this
  // writer) and returns its index in the stream. `columns` in the order of the
  // signature's step columns. Copies. May block, bounded, when the replay
  // holds inserts back: DEADLINE_EXCEEDED says who did not take data for how
  // long. FAILED_PRECONDITION, NOT_FOUND, INVALID_ARGUMENT: a shard refused;
  // every later call returns the same.
  virtual absl::StatusOr<uint64_t> AppendStep(
      uint32_t stream, bool starts_episode,
      absl::Span<const ColumnRow> columns) = 0;

  // Adds an item over steps [first, last] of `stream`, all of one episode.
  // `columns` in the order of the signature's item columns.
  virtual absl::Status AppendItem(uint32_t stream, uint64_t first,
                                  uint64_t last,
                                  absl::Span<const ColumnRow> columns,
                                  float priority) = 0;

  // Sends what is old enough; call once an iteration of the actor's loop.
  virtual absl::Status Poll() = 0;

  // Sends everything and waits until all of it is acknowledged.
  virtual absl::Status Flush() = 0;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_WRITER_H_
