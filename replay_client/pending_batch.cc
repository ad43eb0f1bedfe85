#include "replay_client/pending_batch.h"

#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/table_spec.h"

namespace qfleet {
namespace {

absl::Status CheckColumn(const v1::TensorSpec& spec, uint32_t count,
                         const ColumnBytes& column) {
  const uint64_t bytes = count * static_cast<uint64_t>(RowBytes(spec));
  if (column.size() == bytes) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(
      "sampled column ", spec.name(), " has ", column.size(), " bytes: ", count,
      " rows of ", TensorTypeName(spec), " have ", bytes));
}

// To the columns of the batch from column `first` on.
void AppendColumns(const ArrivedPart& arrived,
                   const std::vector<ColumnBytes>& columns, size_t first,
                   uint32_t batch_size) {
  std::vector<std::string>& to = arrived.batch->rows->columns;
  const auto answered =
      static_cast<uint64_t>(arrived.answer->lists().slot_size());
  for (size_t c = 0; c < columns.size(); ++c) {
    const uint64_t row_bytes = columns[c].size() / answered;
    std::string& column = to[first + c];
    column.reserve(batch_size * row_bytes);
    columns[c].Read(arrived.first_row * row_bytes,
                    arrived.part.count * row_bytes,
                    [&column](absl::string_view piece) {
                      column.append(piece.data(), piece.size());
                    });
  }
}

}  // namespace

absl::Status CheckAnswer(const v1::TableSignature& signature, uint32_t count,
                         const SampleAnswer& answer) {
  const v1::SampleResponse& lists = answer.lists();
  const int rows = static_cast<int>(count);
  if (lists.slot_size() != rows || lists.generation_size() != rows ||
      lists.mass_size() != rows) {
    return absl::InternalError(
        absl::StrCat("a draw of ", count, " was answered with ",
                     lists.slot_size(), " slots, ", lists.generation_size(),
                     " generations and ", lists.mass_size(), " masses"));
  }
  const int item_columns = static_cast<int>(answer.item_columns().size());
  const int views = static_cast<int>(answer.views().size());
  if (item_columns != signature.item_columns_size() ||
      views != signature.views_size()) {
    return absl::InternalError(absl::StrCat(
        "a draw was answered with ", item_columns, " item columns and ", views,
        " views: the signature has ", signature.item_columns_size(), " and ",
        signature.views_size()));
  }
  for (int c = 0; c < item_columns; ++c) {
    absl::Status status =
        CheckColumn(signature.item_columns(c), count, answer.item_columns()[c]);
    if (!status.ok()) return status;
  }
  for (int c = 0; c < views; ++c) {
    absl::Status status = CheckColumn(ViewTensor(signature, signature.views(c)),
                                      count, answer.views()[c]);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

void AppendRows(const ArrivedPart& arrived, uint32_t batch_size) {
  const BatchPart& part = arrived.part;
  const SampleAnswer& answer = *arrived.answer;
  const v1::SampleResponse& lists = answer.lists();
  SampleBatch& rows = *arrived.batch->rows;
  rows.keys.reserve(batch_size);
  rows.scaled_probability.reserve(batch_size);
  const double scale = part.share / lists.stats().mass();
  for (uint32_t i = 0; i < part.count; ++i) {
    const int j = static_cast<int>(arrived.first_row + i);
    rows.keys.push_back({static_cast<uint32_t>(part.shard), lists.slot(j),
                         lists.generation(j)});
    rows.scaled_probability.push_back(scale * lists.mass(j));
  }
  const size_t items = answer.item_columns().size();
  rows.columns.resize(items + answer.views().size());
  AppendColumns(arrived, answer.item_columns(), 0, batch_size);
  AppendColumns(arrived, answer.views(), items, batch_size);
}

std::unique_ptr<SampleBatch> FinishBatch(PendingBatch& batch, uint64_t size) {
  for (double& probability : batch.rows->scaled_probability) {
    probability *= static_cast<double>(size);
  }
  return std::move(batch.rows);
}

}  // namespace qfleet
