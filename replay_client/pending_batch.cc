#include "replay_client/pending_batch.h"

#include <cstddef>
#include <string>

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

using Parts = std::vector<const PendingBatch::Part*>;
using Columns = const std::vector<ColumnBytes>& (SampleAnswer::*)() const;

// Appends one column for each of `columns`, with the rows of all parts.
void MergeColumns(const Parts& parts, Columns columns,
                  std::vector<std::string>& to) {
  const SampleAnswer& first = *parts.front()->answer;
  uint64_t rows = 0;
  for (const PendingBatch::Part* part : parts) rows += part->count;
  for (size_t c = 0; c < (first.*columns)().size(); ++c) {
    // Checked: the same in all answers.
    const uint64_t row_bytes =
        (first.*columns)()[c].size() / first.lists().slot_size();
    std::string& column = to.emplace_back();
    column.reserve(rows * row_bytes);
    for (const PendingBatch::Part* part : parts) {
      ((*part->answer).*columns)()[c].Read(
          part->first_row * row_bytes, part->count * row_bytes,
          [&column](absl::string_view piece) {
            column.append(piece.data(), piece.size());
          });
    }
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

std::unique_ptr<SampleBatch> MergeParts(const PendingBatch& batch,
                                        uint64_t size) {
  Parts parts;
  uint32_t rows = 0;
  for (const PendingBatch::Part& part : batch.parts) {
    if (part.count == 0) continue;
    parts.push_back(&part);
    rows += part.count;
  }
  auto merged = std::make_unique<SampleBatch>();
  merged->keys.reserve(rows);
  merged->scaled_probability.reserve(rows);
  for (const PendingBatch::Part* part : parts) {
    const v1::SampleResponse& lists = part->answer->lists();
    const double scale =
        static_cast<double>(size) * part->share / lists.stats().mass();
    for (uint32_t i = 0; i < part->count; ++i) {
      const int j = static_cast<int>(part->first_row + i);
      merged->keys.push_back({static_cast<uint32_t>(part->shard), lists.slot(j),
                              lists.generation(j)});
      merged->scaled_probability.push_back(scale * lists.mass(j));
    }
  }
  MergeColumns(parts, &SampleAnswer::item_columns, merged->columns);
  MergeColumns(parts, &SampleAnswer::views, merged->columns);
  return merged;
}

}  // namespace qfleet
