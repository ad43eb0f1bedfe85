// The items of a table, one a slot. A live item is also in the list of its
// oldest step (StepRing::first_item), doubly linked, so that it can go at once.
//
// With remover FIFO slots are a ring: item number n, counted from 0, lies in
// slot n % capacity. With LOWEST_PRIORITY a new item takes a free slot, or that
// of the item with the lowest priority, of these the oldest.
//
// Region "items", little-endian: rows of an ItemRecord and the item columns
// (common/table_layout.h). A row is written once (BeginInsert, the columns,
// EndInsert); only its value changes later, by one store of 8 bytes. An item is
// part of the table if its row is whole, its number is less than the committed
// count, it is not marked as removed and its steps are there. Lists, order and
// who is live are known in memory only.
//
// Thread-compatible.

#ifndef QFLEET_REPLAY_SERVER_CORE_ITEM_SLOTS_H_
#define QFLEET_REPLAY_SERVER_CORE_ITEM_SLOTS_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/status/status.h"
#include "common/table_layout.h"
#include "qfleet/v1/replay.pb.h"
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

// What changes of an item.
struct ItemValue {
  float priority;
  uint16_t sampled;  // Times; kRemoved: the item is gone for good.
  uint16_t check;    // Of the fields before.

  static constexpr uint16_t kRemoved = 0xffff;
};
static_assert(sizeof(ItemValue) == 8);

struct ItemRecord {
  ItemValue value;
  uint64_t tag;     // Item number + 1; 0: empty.
  uint32_t check;   // Of the tag, of the fields that follow and of the columns.
  uint32_t rounds;  // How many items the slot has had, this one included.
  ItemSpan span;
};
static_assert(sizeof(ItemRecord) == TableLayout::kItemHeader);

class ItemSlots {
 public:
  struct Options {
    uint32_t capacity = 0;
    uint32_t first_generation = 0;
    v1::Remover remover = v1::FIFO;
    bool by_age = false;  // Keep the order of by_age().
  };

  // `rows`: capacity * layout.stride bytes, zero when new. `steps` must
  // outlive this.
  ItemSlots(char* rows, RowLayout layout, const Options& options,
            StepRing& steps);

  const RowLayout& layout() const { return layout_; }
  uint32_t capacity() const { return options_.capacity; }
  uint64_t size() const { return size_; }          // Live items.
  uint64_t inserted() const { return inserted_; }  // Ever.

  bool live(uint32_t slot) const { return links_[slot].prev != kDead; }
  const ItemRecord& record(uint32_t slot) const { return Record(slot); }
  // With the slot it names the item for ever (2^32 rounds).
  uint32_t generation(uint32_t slot) const {
    return options_.first_generation + record(slot).rounds;
  }
  // The slot's row, the record first.
  char* row(uint32_t slot) const { return rows_ + slot * layout_.stride; }

  // A slot for a new item: its occupant goes, but its row stays as it is until
  // BeginInsert, which gives it a generation that the slot never had. The
  // caller writes the columns and then calls EndInsert.
  uint32_t TakeSlot();
  void BeginInsert(uint32_t slot, const ItemSpan& span);
  void EndInsert(uint32_t slot, float priority);

  // Of a live item.
  void SetPriority(uint32_t slot, float priority);
  void SetSampled(uint32_t slot, uint16_t times);

  // Removes a live item, now and for later lives.
  void Remove(uint32_t slot);
  // Removes the items whose oldest step is `step_id`, which must be in the
  // ring, and adds their slots to `removed`.
  void RemoveAt(uint64_t step_id, std::vector<uint32_t>& removed);

  // Number and slot of the live items, oldest first; only with by_age.
  using ByAge = absl::btree_set<std::pair<uint64_t, uint32_t>>;
  const ByAge& by_age() const { return by_age_; }
  uint32_t Oldest() const { return by_age_.begin()->second; }

  // Takes the items with a number below `inserted` that an earlier life left
  // whole and whose steps are all there: if there are empty rows it looks at
  // every step of an item, else only whether its span is in the ring. Returns
  // how many were dropped because of damage, not counting those whose steps had
  // left the ring, or were about to: a kill in the midst of a batch that takes
  // their rows leaves these empty.
  uint64_t Recover(uint64_t inserted, const StepRing::Recovered& steps);

  // Removes the live items that read a step that is not there any more; adds
  // their slots to `removed`. Looks at all items.
  void RemoveBroken(std::vector<uint32_t>& removed);

  // The free slots in the order in which they are taken, last first; only with
  // remover LOWEST_PRIORITY. Set: false, and nothing has changed, unless these
  // are the same slots in another order.
  const std::vector<uint32_t>& free_slots() const { return free_; }
  bool SetFreeSlots(std::vector<uint32_t> slots);

  // INTERNAL if lists, links and counters do not agree.
  absl::Status CheckInvariants() const;

 private:
  static constexpr uint32_t kDead = 0xffffffff;
  struct Links {
    uint32_t next = 0;      // Slot + 1 in the list of the oldest step; 0: none.
    uint32_t prev = kDead;  // Likewise; 0: this one is the list's first.
  };

  ItemRecord& Record(uint32_t slot) const {
    return *reinterpret_cast<ItemRecord*>(row(slot));
  }
  uint32_t CheckOf(uint32_t slot, uint64_t tag) const;
  void SetValue(uint32_t slot, float priority, uint16_t sampled);
  bool StepsAreThere(const ItemSpan& span) const;
  // Whether a row of its steps was being overwritten. Looks at all rows
  // between.
  bool WasEvicted(const ItemSpan& span) const;
  void Link(uint32_t slot);
  void Unlink(uint32_t slot);

  // What the lowest priority is looked up in.
  struct Rank {
    float priority;
    uint64_t number;
    uint32_t slot;
    friend auto operator<=>(const Rank&, const Rank&) = default;
  };
  Rank RankOf(uint32_t slot) const {
    const ItemRecord& item = record(slot);
    return {item.value.priority, item.tag - 1, slot};
  }

  const RowLayout layout_;
  const Options options_;
  char* const rows_;
  StepRing& steps_;
  std::vector<Links> links_;
  ByAge by_age_;
  // With LOWEST_PRIORITY.
  absl::btree_set<Rank> by_priority_;
  std::vector<uint32_t> free_;
  uint64_t size_ = 0;
  uint64_t inserted_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_ITEM_SLOTS_H_
