#include "replay_server/core/writer_book.h"

#include <algorithm>
#include <cstddef>

#include "common/hash.h"
#include "replay_server/core/table_state.h"

namespace qfleet {
namespace {

uint32_t CheckOf(const WriterSlot& slot) {
  return Hash32(&slot, offsetof(WriterSlot, check));
}

}  // namespace

WriterBook::WriterBook(char* region)
    : slots_(reinterpret_cast<WriterSlot*>(region)) {}

uint64_t WriterBook::Recover() {
  uint64_t torn = 0;
  uint32_t used = kMaxWriters;  // Those that were ever used come first.
  while (used > 0 && slots_[used - 1].writer_id == 0) --used;
  for (uint32_t s = 0; s < used; ++s) {
    const WriterSlot& slot = slots_[s];
    const bool whole = slot.writer_id != 0 && slot.check == CheckOf(slot);
    if (!whole || writers_.contains(slot.writer_id)) {
      torn += whole ? 0 : 1;
      free_.push_back(s);
      continue;
    }
    WriterState& writer = writers_[slot.writer_id];
    writer.last_sequence = slot.last_sequence;
    writer.last_used = slot.last_used;
    writer.slot = s;
  }
  never_used_ = used;
  return torn;
}

uint32_t WriterBook::FreeSlot() {
  if (!free_.empty()) {
    const uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  if (never_used_ < kMaxWriters) return never_used_++;
  // A search through all, which only a new writer beyond the bound costs.
  auto oldest = std::min_element(
      writers_.begin(), writers_.end(), [](const auto& a, const auto& b) {
        return a.second.last_used < b.second.last_used;
      });
  const uint32_t slot = oldest->second.slot;
  streams_ -= oldest->second.streams.size();
  writers_.erase(oldest);
  return slot;
}

WriterState& WriterBook::Commit(uint64_t writer_id, uint64_t sequence,
                                uint64_t commit) {
  auto found = writers_.find(writer_id);
  if (found == writers_.end()) {
    const uint32_t slot = FreeSlot();
    found = writers_.try_emplace(writer_id).first;
    found->second.slot = slot;
  }
  WriterState& writer = found->second;
  writer.last_sequence = sequence;
  writer.last_used = commit;
  // A slot that is torn belongs to the newest commit, which names its writer
  // and sequence: it is made good when the table is opened again.
  WriterSlot slot = {writer_id, sequence, commit, 0, 0};
  slot.check = CheckOf(slot);
  slots_[writer.slot] = slot;
  StoreBarrier();
  return writer;
}

void WriterBook::BoundStreams(const StepRing& ring) {
  if (streams_ <= ring.size() + kMaxIdleStreams) return;
  // Each that stays has a step of its own there, so that this goes through all
  // only once in kMaxIdleStreams new ones.
  for (auto& [id, writer] : writers_) {
    const size_t before = writer.streams.size();
    absl::erase_if(writer.streams, [&ring](const auto& stream) {
      return !ring.Holds(stream.second.newest_id);
    });
    streams_ -= before - writer.streams.size();
    // A map keeps its room, which the gone streams were most of.
    if (2 * writer.streams.size() < before) {
      writer.streams.rehash(0);
    }
  }
}

}  // namespace qfleet
