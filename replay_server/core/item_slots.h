// The items of a table: one ring of slots, first in, first out. Each slot has
// a record and the item columns; a live item is also in the list of its oldest
// step (StepHeader::first_item), doubly linked, so that it can go at once.
//
// Row: ItemRecord (32 bytes), then the item columns (row_layout.h). In memory
// only.
//
// Thread-compatible.

#ifndef QFLEET_REPLAY_SERVER_CORE_ITEM_SLOTS_H_
#define QFLEET_REPLAY_SERVER_CORE_ITEM_SLOTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "replay_server/core/row_layout.h"
#include "replay_server/core/step_ring.h"

namespace qfleet {

// The steps of an item, as ids of the ring.
struct ItemSpan {
  uint64_t last_id = 0;
  uint32_t first_distance = 0;   // last - first.
  uint32_t oldest_distance = 0;  // last - oldest that any view reads.

  uint64_t first_id() const { return last_id - first_distance; }
  uint64_t oldest_id() const { return last_id - oldest_distance; }
};

struct ItemRecord {
  ItemSpan span;
  uint32_t generation;
  uint32_t next;  // Slot + 1 in the list of the oldest step; 0: none.
  uint32_t prev;  // Likewise; 0: this one is the list's first.
  uint32_t live;  // 0 or 1.
};
static_assert(sizeof(ItemRecord) == 32);

class ItemSlots {
 public:
  // `rows`: capacity * layout.stride bytes, zero when new. `steps` must
  // outlive this.
  ItemSlots(char* rows, uint32_t capacity, RowLayout layout,
            uint32_t first_generation, StepRing& steps);

  const RowLayout& layout() const { return layout_; }
  uint32_t capacity() const { return capacity_; }
  uint64_t size() const { return size_; }          // Live items.
  uint64_t inserted() const { return inserted_; }  // Ever.

  const ItemRecord& record(uint32_t slot) const { return Record(slot); }
  // The slot's row, the record first.
  char* row(uint32_t slot) const { return rows_ + slot * layout_.stride; }

  // Takes the next slot of the ring, whose occupant goes, and a generation
  // that the slot never had in 2^32 rounds. The caller writes the columns.
  uint32_t Insert(const ItemSpan& span);

  // Removes the items whose oldest step is `step_id`, which must be in the
  // ring, and adds their slots to `removed`.
  void RemoveAt(uint64_t step_id, std::vector<uint32_t>& removed);

  // INTERNAL if lists, links and counters do not agree.
  absl::Status CheckInvariants() const;

 private:
  ItemRecord& Record(uint32_t slot) const {
    return *reinterpret_cast<ItemRecord*>(row(slot));
  }
  void Link(uint32_t slot);
  void Unlink(uint32_t slot);

  const RowLayout layout_;
  const uint32_t capacity_;
  const uint32_t first_generation_;
  char* const rows_;
  StepRing& steps_;
  uint64_t size_ = 0;
  uint64_t inserted_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_ITEM_SLOTS_H_
