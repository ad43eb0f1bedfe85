// The steps of a table: one ring of rows in the order of their arrival,
// whatever their stream. Step id n = 0, 1, 2, ... lies in row n % capacity; the
// ring holds the newest `capacity` ids that were assigned.
//
// Row: StepHeader (16 bytes), then the step columns (row_layout.h). In memory
// only; the format is this build's.
//
// Thread-compatible, except that rows may be written and read while ids are
// assigned, as table.h says: prev_distance, episode_offset and the columns
// belong to whoever has reserved the row, first_item to the lock's holder.

#ifndef QFLEET_REPLAY_SERVER_CORE_STEP_RING_H_
#define QFLEET_REPLAY_SERVER_CORE_STEP_RING_H_

#include <algorithm>
#include <cstdint>
#include <optional>

#include "replay_server/core/row_layout.h"

namespace qfleet {

struct StepHeader {
  uint32_t prev_distance;   // Ids back to the stream's step before; 0: none.
  uint32_t episode_offset;  // 0: starts the episode. Stays at its maximum.
  uint32_t first_item;      // Slot + 1 of the first item of the list of those
                            // whose oldest step this is; 0: none.
  uint32_t unused;
};
static_assert(sizeof(StepHeader) == 16);

class StepRing {
 public:
  // So many rows at most: distances of ids, those of a reservation that laps
  // the ring by half included, fit in 32 bits.
  static constexpr uint64_t kMaxCapacity = uint64_t{1} << 31;

  // `rows`: capacity * layout.stride bytes, zero when new.
  StepRing(char* rows, uint64_t capacity, RowLayout layout)
      : layout_(std::move(layout)), capacity_(capacity), rows_(rows) {}

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

  char* row(uint64_t id) const {
    return rows_ + (id % capacity_) * layout_.stride;
  }
  StepHeader& header(uint64_t id) const {
    return *reinterpret_cast<StepHeader*>(row(id));
  }

  // The step before `id`, which must be in the ring, in its stream; nothing if
  // there was none or it is not in the ring any more.
  std::optional<uint64_t> Previous(uint64_t id) const {
    const uint32_t distance = header(id).prev_distance;
    if (distance == 0 || id - oldest_id() < distance) return std::nullopt;
    return id - distance;
  }

 private:
  const RowLayout layout_;
  const uint64_t capacity_;
  char* const rows_;
  uint64_t next_id_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_STEP_RING_H_
