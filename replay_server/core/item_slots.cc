#include "replay_server/core/item_slots.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/hash.h"
#include "replay_server/core/table_state.h"

namespace qfleet {
namespace {

// 16 bits of a multiplicative hash: an item's value has no room for more.
uint16_t CheckOfValue(float priority, uint16_t sampled) {
  uint32_t bits;
  std::memcpy(&bits, &priority, sizeof(bits));
  const uint64_t both = (uint64_t{bits} << 16 | sampled) + 1;
  return static_cast<uint16_t>((both * 0x9e3779b97f4a7c15ULL) >> 48);
}

bool IsWhole(const ItemValue& value) {
  return value.check == CheckOfValue(value.priority, value.sampled) &&
         std::isfinite(value.priority) && value.priority >= 0;
}

}  // namespace

ItemSlots::ItemSlots(char* rows, RowLayout layout, const Options& options,
                     StepRing& steps)
    : layout_(std::move(layout)),
      options_(options),
      rows_(rows),
      steps_(steps),
      links_(options.capacity) {
  if (options_.remover != v1::LOWEST_PRIORITY) return;
  for (uint32_t slot = options_.capacity; slot-- > 0;) free_.push_back(slot);
}

uint32_t ItemSlots::CheckOf(uint32_t slot, uint64_t tag) const {
  constexpr size_t kFrom = offsetof(ItemRecord, rounds);
  return Hash32(row(slot) + kFrom, layout_.header + layout_.payload - kFrom) +
         static_cast<uint32_t>((tag * 0x9e3779b97f4a7c15ULL) >> 32);
}

// ----------------------------------------------------------------- insert ---

uint32_t ItemSlots::TakeSlot() {
  if (options_.remover != v1::LOWEST_PRIORITY) {
    const auto slot = static_cast<uint32_t>(inserted_ % options_.capacity);
    if (live(slot)) Unlink(slot);
    return slot;
  }
  if (free_.empty()) Unlink(by_priority_.begin()->slot);
  const uint32_t slot = free_.back();
  free_.pop_back();
  return slot;
}

void ItemSlots::BeginInsert(uint32_t slot, const ItemSpan& span) {
  ItemRecord& item = Record(slot);
  item.tag = 0;
  StoreBarrier();
  item.span = span;
  ++item.rounds;
}

void ItemSlots::EndInsert(uint32_t slot, float priority) {
  ItemRecord& item = Record(slot);
  const uint64_t tag = ++inserted_;
  SetValue(slot, priority, 0);
  item.check = CheckOf(slot, tag);
  StoreBarrier();
  item.tag = tag;
  Link(slot);
}

// ------------------------------------------------------------------ value ---

void ItemSlots::SetValue(uint32_t slot, float priority, uint16_t sampled) {
  const ItemValue value = {priority, sampled, CheckOfValue(priority, sampled)};
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  // At once, so that it is never torn.
  __atomic_store_n(reinterpret_cast<uint64_t*>(&Record(slot).value), bits,
                   __ATOMIC_RELAXED);
}

void ItemSlots::SetPriority(uint32_t slot, float priority) {
  const bool ranked = options_.remover == v1::LOWEST_PRIORITY;
  if (ranked) by_priority_.erase(RankOf(slot));
  SetValue(slot, priority, record(slot).value.sampled);
  if (ranked) by_priority_.insert(RankOf(slot));
}

void ItemSlots::SetSampled(uint32_t slot, uint16_t times) {
  SetValue(slot, record(slot).value.priority, times);
}

// ----------------------------------------------------------------- remove ---

void ItemSlots::Remove(uint32_t slot) {
  Unlink(slot);
  SetSampled(slot, ItemValue::kRemoved);
}

void ItemSlots::RemoveAt(uint64_t step_id, std::vector<uint32_t>& removed) {
  const uint32_t& first = steps_.first_item(step_id);
  while (first != 0) {
    removed.push_back(first - 1);
    Unlink(first - 1);
  }
}

void ItemSlots::Link(uint32_t slot) {
  Links& links = links_[slot];
  uint32_t& first = steps_.first_item(record(slot).span.oldest_id());
  links.next = first;
  links.prev = 0;
  if (first != 0) links_[first - 1].prev = slot + 1;
  first = slot + 1;
  ++size_;
  if (options_.by_age) by_age_.emplace(record(slot).tag - 1, slot);
  if (options_.remover == v1::LOWEST_PRIORITY) {
    by_priority_.insert(RankOf(slot));
  }
}

void ItemSlots::Unlink(uint32_t slot) {
  Links& links = links_[slot];
  if (links.prev != 0) {
    links_[links.prev - 1].next = links.next;
  } else {
    steps_.first_item(record(slot).span.oldest_id()) = links.next;
  }
  if (links.next != 0) links_[links.next - 1].prev = links.prev;
  links.prev = kDead;
  --size_;
  if (options_.by_age) by_age_.erase({record(slot).tag - 1, slot});
  if (options_.remover == v1::LOWEST_PRIORITY) {
    by_priority_.erase(RankOf(slot));
    free_.push_back(slot);
  }
}

// --------------------------------------------------------------- recovery ---

bool ItemSlots::StepsAreThere(const ItemSpan& span) const {
  uint64_t id = span.last_id;
  if (!steps_.Holds(id) || !steps_.Has(id)) return false;
  bool saw_first = id == span.first_id();
  while (id != span.oldest_id()) {
    const std::optional<uint64_t> previous = steps_.Previous(id);
    if (!previous.has_value() || *previous < span.oldest_id()) return false;
    id = *previous;
    saw_first |= id == span.first_id();
  }
  return saw_first;
}

bool ItemSlots::WasEvicted(const ItemSpan& span) const {
  for (uint64_t id = span.last_id;; --id) {
    // Of a row that is being written the tag alone is 0; a page that was lost
    // is zeros.
    const StepHeader& step = steps_.header(id);
    if (step.tag == 0 && step.sequence != 0) return true;
    if (id == span.oldest_id()) return false;
  }
}

uint64_t ItemSlots::Recover(uint64_t inserted,
                            const StepRing::Recovered& steps) {
  inserted_ = inserted;
  uint64_t dropped = 0;
  uint32_t most_rounds = 0;
  uint64_t last_drawn = 0;  // The tag of the newest item that was drawn.
  std::vector<uint32_t> damaged;
  free_.clear();
  for (uint32_t slot = 0; slot < options_.capacity; ++slot) {
    ItemRecord& item = Record(slot);
    const bool ranked = options_.remover == v1::LOWEST_PRIORITY;
    bool keep = false;
    if (item.tag == 0) {
      // Never used, or being written when the writer was killed.
    } else if (item.check != CheckOf(slot, item.tag) ||
               item.span.oldest_distance > item.span.last_id ||
               item.span.first_distance > item.span.oldest_distance ||
               (!ranked && (item.tag - 1) % options_.capacity != slot)) {
      damaged.push_back(slot);
      ++dropped;
    } else {
      most_rounds = std::max(most_rounds, item.rounds);
      const bool committed = item.tag <= inserted;
      if (committed && IsWhole(item.value) && item.value.sampled > 0) {
        last_drawn = std::max(last_drawn, item.tag);
      }
      const bool in_ring = item.span.oldest_id() >= steps_.oldest_id();
      bool lost = false;
      if (committed && in_ring && item.value.sampled != ItemValue::kRemoved) {
        const bool whole =
            IsWhole(item.value) && item.span.last_id < steps_.next_id();
        keep = whole && (!steps.empty_rows || StepsAreThere(item.span));
        lost = !keep;
        const bool damaged =
            lost && !(whole && steps.damaged == 0 && WasEvicted(item.span));
        dropped += damaged ? 1 : 0;
      }
      // Its number, or the ids of its steps that are lost, will be others', and
      // then it would count as well, or be of those steps.
      if (!committed || lost) item.tag = 0;
    }
    if (keep) {
      Link(slot);
    } else if (ranked) {
      free_.push_back(slot);
    }
  }
  // Items are drawn in order: those before one that was drawn are used up, but
  // were not all marked when the process was killed, or that was not written
  // when the power failed.
  while (!by_age_.empty() && by_age_.begin()->first + 1 < last_drawn) {
    Remove(Oldest());
  }
  for (uint32_t slot : damaged) {
    Record(slot).tag = 0;
    Record(slot).rounds = most_rounds + 1;
  }
  return dropped;
}

void ItemSlots::RemoveBroken(std::vector<uint32_t>& removed) {
  for (uint32_t slot = 0; slot < options_.capacity; ++slot) {
    if (!live(slot) || StepsAreThere(record(slot).span)) continue;
    Unlink(slot);
    removed.push_back(slot);
  }
}

bool ItemSlots::SetFreeSlots(std::vector<uint32_t> slots) {
  std::vector<uint32_t> ours = free_;
  std::vector<uint32_t> theirs = slots;
  std::sort(ours.begin(), ours.end());
  std::sort(theirs.begin(), theirs.end());
  if (ours != theirs) return false;
  free_ = std::move(slots);
  return true;
}

absl::Status ItemSlots::CheckInvariants() const {
  uint64_t live_slots = 0;
  for (uint32_t slot = 0; slot < options_.capacity; ++slot) {
    live_slots += live(slot);
  }
  if (live_slots != size_) {
    return absl::InternalError(
        absl::StrCat("items: ", live_slots, " are live, counted were ", size_));
  }
  uint64_t listed = 0;
  for (uint64_t id = steps_.oldest_id(); id < steps_.next_id(); ++id) {
    uint32_t before = 0;
    for (uint32_t at = std::as_const(steps_).first_item(id); at != 0;) {
      const uint32_t slot = at - 1;
      // Also ends a list that runs in a circle.
      if (!live(slot) || record(slot).span.oldest_id() != id ||
          links_[slot].prev != before || ++listed > size_) {
        return absl::InternalError(
            absl::StrCat("items: slot ", slot, " in the list of step ", id,
                         " is not live, not in its place, or listed twice"));
      }
      before = at;
      at = links_[slot].next;
    }
  }
  if (listed != size_) {
    return absl::InternalError(
        absl::StrCat("items: ", listed, " are in lists of ", size_));
  }
  for (uint32_t slot = 0; slot < options_.capacity; ++slot) {
    const ItemRecord& item = record(slot);
    if (!live(slot)) continue;
    if (item.check != CheckOf(slot, item.tag) || !IsWhole(item.value) ||
        item.tag > inserted_) {
      return absl::InternalError(
          absl::StrCat("items: the row of slot ", slot, " is not whole"));
    }
  }
  const bool ranked = options_.remover == v1::LOWEST_PRIORITY;
  if (ranked && (by_priority_.size() != size_ ||
                 free_.size() != options_.capacity - size_)) {
    return absl::InternalError(absl::StrCat("items: ", by_priority_.size(),
                                            " ranked and ", free_.size(),
                                            " free of ", size_, " live"));
  }
  if (options_.by_age && by_age_.size() != size_) {
    return absl::InternalError(absl::StrCat("items: ", by_age_.size(),
                                            " are ordered by age of ", size_));
  }
  return absl::OkStatus();
}

}  // namespace qfleet
