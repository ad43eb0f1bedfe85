#include "replay_client/batch_builder.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/table_spec.h"

namespace qfleet {
namespace {

// On the wire beside the payload: varints of stream and index and a flag; of
// stream, two indices and a priority.
constexpr uint64_t kStepOverhead = 8;
constexpr uint64_t kItemOverhead = 16;

std::vector<uint64_t> AllRowBytes(
    const google::protobuf::RepeatedPtrField<v1::TensorSpec>& specs) {
  std::vector<uint64_t> bytes;
  for (const v1::TensorSpec& spec : specs) bytes.push_back(RowBytes(spec));
  return bytes;
}

uint64_t Sum(const std::vector<uint64_t>& values) {
  uint64_t sum = 0;
  for (uint64_t value : values) sum += value;
  return sum;
}

absl::Status CheckRow(
    const google::protobuf::RepeatedPtrField<v1::TensorSpec>& specs,
    const std::vector<uint64_t>& row_bytes, absl::string_view kind,
    absl::Span<const ColumnRow> columns) {
  if (columns.size() != row_bytes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(kind, " with ", columns.size(),
                     " columns: the signature has ", row_bytes.size()));
  }
  for (size_t c = 0; c < columns.size(); ++c) {
    if (columns[c].size() == row_bytes[c]) continue;
    const v1::TensorSpec& spec = specs[static_cast<int>(c)];
    return absl::InvalidArgumentError(absl::StrCat(
        kind, " column ", spec.name(), " has ", columns[c].size(),
        " bytes: a row of ", TensorTypeName(spec), " has ", row_bytes[c]));
  }
  return absl::OkStatus();
}

void AppendRow(absl::Span<const ColumnRow> row,
               google::protobuf::RepeatedPtrField<v1::Column>* columns) {
  for (size_t c = 0; c < row.size(); ++c) {
    columns->Mutable(static_cast<int>(c))
        ->mutable_data()
        ->append(row[c].data(), row[c].size());
  }
}

}  // namespace

BatchBuilder::BatchBuilder(const v1::TableSignature& signature)
    : signature_(signature),
      step_row_bytes_(AllRowBytes(signature.step_columns())),
      item_row_bytes_(AllRowBytes(signature.item_columns())),
      step_bytes_(Sum(step_row_bytes_) + kStepOverhead),
      item_bytes_(Sum(item_row_bytes_) + kItemOverhead) {
  Reset();
}

void BatchBuilder::Reset() {
  batch_.Clear();
  bytes_ = 0;
  for (size_t c = 0; c < step_row_bytes_.size(); ++c) batch_.add_step_columns();
  for (size_t c = 0; c < item_row_bytes_.size(); ++c) batch_.add_item_columns();
}

absl::Status BatchBuilder::AddStep(uint32_t stream, uint64_t index,
                                   bool starts_episode,
                                   absl::Span<const ColumnRow> columns) {
  QFLEET_RETURN_IF_ERROR(
      CheckRow(signature_.step_columns(), step_row_bytes_, "step", columns));
  batch_.add_step_stream(stream);
  batch_.add_step_index(index);
  batch_.add_step_starts_episode(starts_episode);
  AppendRow(columns, batch_.mutable_step_columns());
  bytes_ += step_bytes_;
  return absl::OkStatus();
}

absl::Status BatchBuilder::AddItem(uint32_t stream, uint64_t first,
                                   uint64_t last,
                                   absl::Span<const ColumnRow> columns,
                                   float priority) {
  QFLEET_RETURN_IF_ERROR(
      CheckRow(signature_.item_columns(), item_row_bytes_, "item", columns));
  batch_.add_item_stream(stream);
  batch_.add_item_first(first);
  batch_.add_item_last(last);
  batch_.add_item_priority(priority);
  AppendRow(columns, batch_.mutable_item_columns());
  bytes_ += item_bytes_;
  return absl::OkStatus();
}

v1::AppendBatch BatchBuilder::Take(uint64_t sequence) {
  v1::AppendBatch batch = std::move(batch_);
  batch.set_sequence(sequence);
  Reset();
  ReserveAs(batch);
  return batch;
}

// The next batch will be about as large: its columns do not grow step by step.
void BatchBuilder::ReserveAs(const v1::AppendBatch& batch) {
  const auto columns = [](const auto& from, auto* to) {
    for (int c = 0; c < from.size(); ++c) {
      to->Mutable(c)->mutable_data()->reserve(from[c].data().size());
    }
  };
  columns(batch.step_columns(), batch_.mutable_step_columns());
  columns(batch.item_columns(), batch_.mutable_item_columns());
  const int steps = batch.step_index_size();
  batch_.mutable_step_stream()->Reserve(steps);
  batch_.mutable_step_index()->Reserve(steps);
  batch_.mutable_step_starts_episode()->Reserve(steps);
  const int items = batch.item_first_size();
  batch_.mutable_item_stream()->Reserve(items);
  batch_.mutable_item_first()->Reserve(items);
  batch_.mutable_item_last()->Reserve(items);
  batch_.mutable_item_priority()->Reserve(items);
}

}  // namespace qfleet
