// Table: from a batch to rows and items.

#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"
#include "common/table_layout.h"
#include "common/table_spec.h"
#include "replay_server/core/table.h"

namespace qfleet {
namespace {

// How many rows ahead the eviction prefetches their headers.
constexpr uint64_t kAhead = 8;
// Of a batch, all of which are inserted under one hold of the lock.
constexpr int kMaxBatchItems = 65536;
// Keeps indices plus a batch far from overflow.
constexpr uint64_t kMaxIndex = uint64_t{1} << 62;

absl::Status CheckLength(absl::string_view field, int length, int expected,
                         absl::string_view as) {
  if (length == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      field, " = ", length, " entries: allowed is ", expected, ", as in ", as));
}

absl::Status CheckColumns(
    absl::string_view field,
    const google::protobuf::RepeatedPtrField<v1::TensorSpec>& specs,
    const std::vector<ColumnBytes>& columns, int rows) {
  if (static_cast<int>(columns.size()) != specs.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " = ", columns.size(), " columns: allowed is ",
                     specs.size(), ", as in the signature"));
  }
  for (int c = 0; c < specs.size(); ++c) {
    const uint64_t row_bytes = static_cast<uint64_t>(RowBytes(specs[c]));
    const uint64_t expected = row_bytes * static_cast<uint64_t>(rows);
    if (columns[c].size() == expected) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(field, "[", c, "] = ", columns[c].size(),
                     " bytes: allowed is ", expected, ", ", rows, " rows of ",
                     specs[c].name(), " ", TensorTypeName(specs[c])));
  }
  return absl::OkStatus();
}

// Row `row` of each column, into a row of that layout.
void CopyColumns(const std::vector<ColumnBytes>& columns, uint64_t row,
                 const RowLayout& layout, char* to) {
  for (size_t c = 0; c < layout.columns.size(); ++c) {
    const ColumnLayout& column = layout.columns[c];
    columns[c].Copy(row * column.bytes, column.bytes, to + column.offset);
  }
}

}  // namespace

absl::Status Table::CheckBatch(const AppendInput& batch) const {
  QFLEET_RETURN_IF_ERROR(CheckSteps(batch));
  return CheckItems(batch);
}

absl::Status Table::CheckSteps(const AppendInput& input) const {
  const v1::AppendBatch& batch = *input.lists;
  const int count = batch.step_stream_size();
  QFLEET_RETURN_IF_ERROR(
      CheckLength("step_index", batch.step_index_size(), count, "step_stream"));
  QFLEET_RETURN_IF_ERROR(CheckLength("step_starts_episode",
                                     batch.step_starts_episode_size(), count,
                                     "step_stream"));
  if (static_cast<uint64_t>(count) > step_capacity_ / 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("step_stream = ", count, " steps: allowed is at most ",
                     step_capacity_ / 2, ", half of what the table holds"));
  }
  for (int j = 0; j < count; ++j) {
    if (batch.step_index(j) <= kMaxIndex) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("step_index[", j, "] = ", batch.step_index(j),
                     ": allowed is at most ", kMaxIndex));
  }
  return CheckColumns("step_columns", spec_.signature().step_columns(),
                      input.step_columns, count);
}

absl::Status Table::CheckItems(const AppendInput& input) const {
  const v1::AppendBatch& batch = *input.lists;
  const int count = batch.item_stream_size();
  if (count > kMaxBatchItems) {
    return absl::InvalidArgumentError(
        absl::StrCat("item_stream = ", count, " items: allowed is at most ",
                     kMaxBatchItems));
  }
  QFLEET_RETURN_IF_ERROR(
      CheckLength("item_first", batch.item_first_size(), count, "item_stream"));
  QFLEET_RETURN_IF_ERROR(
      CheckLength("item_last", batch.item_last_size(), count, "item_stream"));
  QFLEET_RETURN_IF_ERROR(CheckLength(
      "item_priority", batch.item_priority_size(), count, "item_stream"));
  for (int j = 0; j < count; ++j) {
    const uint64_t last = batch.item_last(j);
    if (batch.item_first(j) > last ||
        last - batch.item_first(j) > kMaxItemReach) {
      return absl::InvalidArgumentError(
          absl::StrCat("item_first[", j, "] = ", batch.item_first(j),
                       ": allowed is ", last - std::min(last, kMaxItemReach),
                       " to ", last, ", the item's last step"));
    }
    const float priority = batch.item_priority(j);
    if (!std::isfinite(priority) || priority < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("item_priority[", j, "] = ", priority,
                       ": allowed is finite and at least 0"));
    }
  }
  return CheckColumns("item_columns", spec_.signature().item_columns(),
                      input.item_columns, count);
}

uint64_t Table::LastSequence(uint64_t writer_id) const {
  const WriterState* writer = writers_.Find(writer_id);
  return writer == nullptr ? 0 : writer->last_sequence;
}

absl::StatusOr<std::unique_ptr<Table::Reservation>> Table::Reserve(
    uint64_t writer_id, AppendInput batch) {
  QFLEET_ASSIGN_OR_RETURN(
      AppendPlan plan,
      PlanAppend(*batch.lists, writers_.Find(writer_id), steps_, reach_));
  auto reservation = std::make_unique<Reservation>();
  const uint64_t count = plan.steps.size();
  EvictRows(steps_.next_id(), steps_.next_id() + count);
  reservation->writer_id = writer_id;
  reservation->batch = std::move(batch);
  reservation->first_id = steps_.Assign(count);
  reservation->end_id = reservation->first_id + count;
  reservation->plan = std::move(plan);
  reservation->pin = pins_.insert(reservation->first_id);
  return reservation;
}

void Table::EvictRows(uint64_t first_id, uint64_t end_id) {
  slots_.clear();
  for (uint64_t id = first_id; id < end_id; ++id) {
    if (id < step_capacity_) continue;  // A row that was never used.
    __builtin_prefetch(&steps_.header(id + kAhead), 1);
    items_.RemoveAt(id - step_capacity_, slots_);
  }
  masses_.assign(slots_.size(), 0.0);
  tree_.Set(slots_, masses_);
}

bool Table::Writable(const Reservation& reservation) const {
  // Ids below this one lie in rows that the reservation takes, or are gone for
  // longer. Its own pin is not among them, as it has half the ring at most.
  const uint64_t end = reservation.end_id;
  return end <= step_capacity_ || *pins_.begin() >= end - step_capacity_;
}

void Table::Write(const Reservation& reservation) {
  const std::vector<PlannedStep>& planned = reservation.plan.steps;
  for (size_t j = 0; j < planned.size(); ++j) {
    const uint64_t id = reservation.first_id + j;
    const v1::AppendBatch& batch = *reservation.batch.lists;
    const auto row = static_cast<int>(planned[j].row);
    StepHeader& header = steps_.BeginWrite(id);
    header.writer_id = reservation.writer_id;
    header.sequence = batch.sequence();
    header.index = batch.step_index(row);
    header.stream = batch.step_stream(row);
    header.prev_distance = planned[j].prev_distance;
    header.episode_offset = planned[j].episode_offset;
    CopyColumns(reservation.batch.step_columns, planned[j].row, steps_.layout(),
                steps_.row(id));
    steps_.EndWrite(id);
  }
}

v1::AppendResponse Table::Commit(std::unique_ptr<Reservation> reservation) {
  const AppendPlan& plan = reservation->plan;
  const v1::AppendBatch& batch = *reservation->batch.lists;
  slots_.clear();
  masses_.clear();
  for (const PlannedItem& item : plan.items) {
    // Since Reserve, others may have taken the rows of older steps.
    if (item.span.oldest_id() < steps_.oldest_id()) continue;
    slots_.push_back(InsertItem(reservation->batch, item));
    masses_.push_back(Mass(batch.item_priority(static_cast<int>(item.row))));
  }
  tree_.Set(slots_, masses_);
  const auto stored = static_cast<uint32_t>(slots_.size());
  const uint32_t skipped =
      plan.skipped_items + static_cast<uint32_t>(plan.items.size()) - stored;

  CommitRecord commit = state_.commit();
  commit.inserted = items_.inserted();
  commit.steps += plan.steps.size();
  commit.episodes += plan.episodes;
  commit.skipped += skipped;
  commit.writer_id = reservation->writer_id;
  commit.sequence = batch.sequence();
  state_.Commit(commit);
  WriterState& writer = writers_.Commit(commit.writer_id, commit.sequence,
                                        state_.commit().number);
  for (const auto& [stream, state] : plan.streams) {
    writers_.SetStream(writer, stream, state);
  }
  writers_.BoundStreams(steps_);
  pins_.erase(reservation->pin);

  v1::AppendResponse response;
  response.set_sequence(batch.sequence());
  response.set_items_stored(stored);
  response.set_items_skipped(skipped);
  return response;
}

uint32_t Table::InsertItem(const AppendInput& batch, const PlannedItem& item) {
  const uint32_t slot = items_.TakeSlot();
  if (snapshot_ != nullptr) KeepForSnapshot(slot);
  items_.BeginInsert(slot, item.span);
  CopyColumns(batch.item_columns, item.row, items_.layout(), items_.row(slot));
  items_.EndInsert(slot,
                   batch.lists->item_priority(static_cast<int>(item.row)));
  return slot;
}

}  // namespace qfleet
