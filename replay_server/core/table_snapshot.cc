// Table: a copy of itself as of one moment, while it goes on.

#include <algorithm>
#include <utility>

#include "replay_server/core/table.h"
#include "replay_server/core/table_header.h"

namespace qfleet {

// Older steps are of no item any more.
uint64_t Table::OldestNeeded() const {
  uint64_t id = steps_.oldest_id();
  if (items_.size() == 0) return id;  // Where streams stand is needed at least.
  while (steps_.first_item(id) == 0) ++id;
  return id;
}

std::unique_ptr<Table::Snapshot> Table::BeginSnapshot() {
  auto snapshot = std::make_unique<Snapshot>();
  snapshot->header = header_;
  *snapshot->header.mutable_spec() = spec_;
  snapshot->state.assign(regions_[kStateRegion], TableState::kBytes);
  snapshot->writers.assign(regions_[kWritersRegion], writers_.used_bytes());
  // What inserts overwrite first is steps that are left out, as a rule a fifth
  // of a full ring.
  snapshot->next_id = OldestNeeded();
  snapshot->pin = pins_.insert(snapshot->next_id);
  snapshot->end_id = steps_.next_id();
  // From the item that goes first when others come.
  snapshot->next_slot =
      spec_.remover() == v1::LOWEST_PRIORITY
          ? 0
          : static_cast<uint32_t>(items_.inserted() % items_.capacity());
  snapshot->slots_left = items_.capacity();
  snapshot->inserted = items_.inserted();
  snapshot_ = snapshot.get();
  return snapshot;
}

void Table::KeepForSnapshot(uint32_t slot) {
  const uint64_t tag = items_.record(slot).tag;
  const uint32_t capacity = items_.capacity();
  const uint32_t ahead = (slot + capacity - snapshot_->next_slot) % capacity;
  if (tag == 0 || tag > snapshot_->inserted || ahead >= snapshot_->slots_left) {
    return;
  }
  const uint64_t stride = items_.layout().stride;
  snapshot_->kept.push_back(
      {slot * stride, std::string(items_.row(slot), stride)});
}

bool Table::CopyItems(Snapshot& snapshot, uint64_t max_bytes,
                      std::vector<Piece>& pieces) const {
  if (snapshot.slots_left == 0) return false;
  const uint64_t stride = items_.layout().stride;
  const uint64_t count = std::min<uint64_t>(
      {std::max<uint64_t>(max_bytes / stride, 1), snapshot.slots_left,
       items_.capacity() - snapshot.next_slot});
  const char* from = items_.row(snapshot.next_slot);
  const uint64_t offset = snapshot.next_slot * stride;
  pieces.push_back({offset, std::string(from, count * stride)});
  snapshot.next_slot =
      static_cast<uint32_t>((snapshot.next_slot + count) % items_.capacity());
  snapshot.slots_left -= static_cast<uint32_t>(count);
  return true;
}

bool Table::NextSteps(const Snapshot& snapshot, uint64_t max_bytes,
                      StepRows& rows) const {
  if (snapshot.next_id == snapshot.end_id) return false;
  const uint64_t first = snapshot.next_id;
  const uint64_t row = first % step_capacity_;
  rows.count = std::min({std::max<uint64_t>(max_bytes / layout_.step_bytes, 1),
                         snapshot.end_id - first, step_capacity_ - row});
  rows.headers = reinterpret_cast<const char*>(&steps_.header(first));
  rows.header_offset = row * TableLayout::kStepHeader;
  rows.header_bytes = rows.count * TableLayout::kStepHeader;
  rows.payload = steps_.row(first);
  rows.payload_offset = row * layout_.step.stride;
  rows.payload_bytes = rows.count * layout_.step.stride;
  return true;
}

void Table::StepsCopied(Snapshot& snapshot, const StepRows& rows) {
  pins_.erase(snapshot.pin);
  snapshot.next_id += rows.count;
  snapshot.pin = pins_.insert(snapshot.next_id);
}

void Table::ItemsCopied(Snapshot& snapshot, std::vector<Piece>& kept) {
  kept = std::move(snapshot.kept);
  snapshot_ = nullptr;
}

void Table::EndSnapshot(std::unique_ptr<Snapshot> snapshot) {
  snapshot_ = nullptr;  // Also if not all were copied.
  pins_.erase(snapshot->pin);
}

v1::TableVolatile Table::SaveVolatile() const {
  v1::TableVolatile saved;
  saved.set_generator(random_.Save());
  saved.mutable_free_slots()->Assign(items_.free_slots().begin(),
                                     items_.free_slots().end());
  return saved;
}

absl::Status Table::RestoreVolatile(const v1::TableVolatile& saved) {
  Random random(0);
  if (!random.Load(saved.generator())) {
    return absl::DataLossError("table: the generator's state cannot be read");
  }
  if (!items_.SetFreeSlots(
          {saved.free_slots().begin(), saved.free_slots().end()})) {
    return absl::DataLossError(
        "table: the list of free slots is not that of these files");
  }
  random_ = random;
  return absl::OkStatus();
}

}  // namespace qfleet
