#include "replay_server/core/item_slots.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace qfleet {

ItemSlots::ItemSlots(char* rows, uint32_t capacity, RowLayout layout,
                     uint32_t first_generation, StepRing& steps)
    : layout_(std::move(layout)),
      capacity_(capacity),
      first_generation_(first_generation),
      rows_(rows),
      steps_(steps) {}

uint32_t ItemSlots::Insert(const ItemSpan& span) {
  const auto slot = static_cast<uint32_t>(inserted_ % capacity_);
  ItemRecord& record = Record(slot);
  if (record.live) Unlink(slot);
  record.span = span;
  // All slots change their generation once a round of the ring.
  record.generation =
      first_generation_ + static_cast<uint32_t>(inserted_ / capacity_);
  Link(slot);
  ++inserted_;
  return slot;
}

void ItemSlots::RemoveAt(uint64_t step_id, std::vector<uint32_t>& removed) {
  uint32_t& first = steps_.header(step_id).first_item;
  while (first != 0) {
    removed.push_back(first - 1);
    Unlink(first - 1);
  }
}

void ItemSlots::Link(uint32_t slot) {
  ItemRecord& record = Record(slot);
  uint32_t& first = steps_.header(record.span.oldest_id()).first_item;
  record.next = first;
  record.prev = 0;
  if (first != 0) Record(first - 1).prev = slot + 1;
  first = slot + 1;
  record.live = 1;
  ++size_;
}

void ItemSlots::Unlink(uint32_t slot) {
  ItemRecord& record = Record(slot);
  if (record.prev != 0) {
    Record(record.prev - 1).next = record.next;
  } else {
    steps_.header(record.span.oldest_id()).first_item = record.next;
  }
  if (record.next != 0) Record(record.next - 1).prev = record.prev;
  record.live = 0;
  --size_;
}

absl::Status ItemSlots::CheckInvariants() const {
  uint64_t live = 0;
  for (uint32_t slot = 0; slot < capacity_; ++slot) {
    live += record(slot).live;
  }
  if (live != size_) {
    return absl::InternalError(
        absl::StrCat("items: ", live, " are live, counted were ", size_));
  }
  uint64_t listed = 0;
  for (uint64_t id = steps_.oldest_id(); id < steps_.next_id(); ++id) {
    uint32_t before = 0;
    for (uint32_t at = steps_.header(id).first_item; at != 0;) {
      const ItemRecord& item = record(at - 1);
      // Also ends a list that runs in a circle.
      if (!item.live || item.span.oldest_id() != id || item.prev != before ||
          ++listed > size_) {
        return absl::InternalError(
            absl::StrCat("items: slot ", at - 1, " in the list of step ", id,
                         " is not live, not in its place, or listed twice"));
      }
      before = at;
      at = item.next;
    }
  }
  if (listed != size_) {
    return absl::InternalError(
        absl::StrCat("items: ", listed, " are in lists of ", size_));
  }
  return absl::OkStatus();
}

}  // namespace qfleet
