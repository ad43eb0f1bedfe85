// The steps of a table: one ring of rows in the order of their arrival,
// whatever their stream. Step id n = 0, 1, 2, ... lies in row n % capacity; the
// ring holds the newest `capacity` ids that were assigned.
//
// A row has two parts. Region "steps" holds its StepHeader, which says all but
// the observation and is small, so that a table that is opened again reads
// little; region "payload" holds its columns (common/table_layout.h). Which
// items read it is known in memory only.
//
// A row is written once: BeginWrite, the fields and columns, EndWrite. Between
// the two it counts as empty, and so it does for ever if the writer is killed.
//
// Thread-compatible, except that rows may be written and read while ids are
// assigned, as table.h says: headers and columns belong to whoever has reserved
// the row, first_item to the lock's holder.

#ifndef QFLEET_REPLAY_SERVER_CORE_STEP_RING_H_
#define QFLEET_REPLAY_SERVER_CORE_STEP_RING_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/table_layout.h"

namespace qfleet {

struct StepHeader {
  uint64_t tag;  // Step id + 1; 0: empty.
  uint64_t writer_id;
  uint64_t sequence;  // Of the batch.
  uint64_t index;     // In the writer's stream.
  uint32_t stream;
  uint32_t prev_distance;   // Ids back to the stream's step before; 0: none.
  uint32_t episode_offset;  // 0: starts the episode. Stays at its maximum.
  uint32_t payload_check;   // XXH3, lower 32 bits, of the columns.
  uint32_t check;           // The same of the fields before.
  uint32_t unused[3];
};
static_assert(sizeof(StepHeader) == TableLayout::kStepHeader);

class StepRing {
 public:
  // `headers` and `payload`: capacity rows each, zero when new.
  StepRing(char* headers, char* payload, uint64_t capacity, RowLayout layout);

  const RowLayout& layout() const { return layout_; }
  uint64_t capacity() const { return capacity_; }

  // Ids from oldest_id() to next_id() - 1 are in the ring.
  uint64_t next_id() const { return next_id_; }
  uint64_t oldest_id() const {
    return next_id_ < capacity_ ? 0 : next_id_ - capacity_;
  }
  uint64_t size() const { return std::min(next_id_, capacity_); }
  bool Holds(uint64_t id) const { return id >= oldest_id() && id < next_id_; }

  // The first of `count` new ids. Lists of items in the rows that they take
  // must be empty.
  uint64_t Assign(uint64_t count) {
    const uint64_t first = next_id_;
    next_id_ += count;
    return first;
  }

  // Columns.
  char* row(uint64_t id) const {
    return payload_ + (id % capacity_) * layout_.stride;
  }
  StepHeader& header(uint64_t id) const { return headers_[id % capacity_]; }
  // Slot + 1 of the first item of the list of those whose oldest step this is;
  // 0: none.
  uint32_t& first_item(uint64_t id) { return first_item_[id % capacity_]; }
  uint32_t first_item(uint64_t id) const { return first_item_[id % capacity_]; }

  // The row of `id` is empty until EndWrite, which sets tag and checks.
  StepHeader& BeginWrite(uint64_t id);
  void EndWrite(uint64_t id);

  // Whether the row of `id`, which is in the ring, holds that step: not so if
  // its writer was killed, or the row is damaged.
  bool Has(uint64_t id) const { return header(id).tag == id + 1; }
  bool PayloadIsWhole(uint64_t id) const;

  // The step before `id`, which must be in the ring, in its stream; nothing if
  // there was none or it is not in the ring any more.
  std::optional<uint64_t> Previous(uint64_t id) const {
    const uint32_t distance = header(id).prev_distance;
    if (distance == 0 || id - oldest_id() < distance || !Has(id - distance)) {
      return std::nullopt;
    }
    return id - distance;
  }

  // Takes what an earlier life left: next_id.
  struct Recovered {
    bool empty_rows = false;  // Amid the ids of the ring.
    uint64_t damaged = 0;     // Rows whose header was whole once; now empty.
  };
  Recovered Recover();

  // Makes the row of `id` empty: its payload is damaged.
  void Drop(uint64_t id) { header(id).tag = 0; }

 private:
  const RowLayout layout_;
  const uint64_t capacity_;
  StepHeader* const headers_;
  char* const payload_;
  std::vector<uint32_t> first_item_;
  uint64_t next_id_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_STEP_RING_H_
