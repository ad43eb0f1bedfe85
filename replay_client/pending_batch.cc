#include "replay_client/pending_batch.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/table_spec.h"

namespace qfleet {
namespace {

absl::Status CheckColumn(const v1::TensorSpec& spec, uint32_t count,
                         const v1::Column& column) {
  const uint64_t bytes = count * static_cast<uint64_t>(RowBytes(spec));
  if (column.data().size() == bytes) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(
      "sampled column ", spec.name(), " has ", column.data().size(),
      " bytes: ", count, " rows of ", TensorTypeName(spec), " have ", bytes));
}

// The item columns, then the views.
std::vector<std::string*> ColumnsOf(v1::SampleResponse& response) {
  std::vector<std::string*> columns;
  for (v1::Column& column : *response.mutable_item_columns()) {
    columns.push_back(column.mutable_data());
  }
  for (v1::Column& column : *response.mutable_views()) {
    columns.push_back(column.mutable_data());
  }
  return columns;
}

// Where a part's rows of one column are.
struct Slice {
  std::string* column;
  size_t begin;
  size_t size;
};

Slice SliceOf(const PendingBatch::Part& part, std::string* column) {
  const size_t row_bytes = column->size() / part.response->slot_size();
  return {column, part.first_row * row_bytes, part.count * row_bytes};
}

void MergeColumns(const std::vector<PendingBatch::Part*>& parts,
                  std::vector<std::string>& columns) {
  std::vector<std::vector<std::string*>> sources;
  for (PendingBatch::Part* part : parts) {
    sources.push_back(ColumnsOf(*part->response));
  }
  columns.resize(sources.front().size());
  for (size_t c = 0; c < columns.size(); ++c) {
    std::vector<Slice> slices;
    size_t bytes = 0;
    for (size_t p = 0; p < parts.size(); ++p) {
      slices.push_back(SliceOf(*parts[p], sources[p][c]));
      bytes += slices.back().size;
    }
    if (slices.size() == 1 && bytes == slices[0].column->size()) {
      columns[c] = std::move(*slices[0].column);  // All of it is ours.
      continue;
    }
    columns[c].reserve(bytes);
    for (const Slice& slice : slices) {
      columns[c].append(*slice.column, slice.begin, slice.size);
    }
  }
}

}  // namespace

absl::Status CheckResponse(const v1::TableSignature& signature, uint32_t count,
                           const v1::SampleResponse& response) {
  const int rows = static_cast<int>(count);
  if (response.slot_size() != rows || response.generation_size() != rows ||
      response.mass_size() != rows) {
    return absl::InternalError(absl::StrCat(
        "a draw of ", count, " was answered with ", response.slot_size(),
        " slots, ", response.generation_size(), " generations and ",
        response.mass_size(), " masses"));
  }
  if (response.item_columns_size() != signature.item_columns_size() ||
      response.views_size() != signature.views_size()) {
    return absl::InternalError(absl::StrCat(
        "a draw was answered with ", response.item_columns_size(),
        " item columns and ", response.views_size(),
        " views: the signature has ", signature.item_columns_size(), " and ",
        signature.views_size()));
  }
  for (int c = 0; c < signature.item_columns_size(); ++c) {
    absl::Status status =
        CheckColumn(signature.item_columns(c), count, response.item_columns(c));
    if (!status.ok()) return status;
  }
  for (int c = 0; c < signature.views_size(); ++c) {
    absl::Status status = CheckColumn(ViewTensor(signature, signature.views(c)),
                                      count, response.views(c));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

std::unique_ptr<SampleBatch> MergeParts(PendingBatch& batch, uint64_t size) {
  std::vector<PendingBatch::Part*> parts;
  uint32_t rows = 0;
  for (PendingBatch::Part& part : batch.parts) {
    if (part.count == 0) continue;
    parts.push_back(&part);
    rows += part.count;
  }
  auto merged = std::make_unique<SampleBatch>();
  merged->keys.reserve(rows);
  merged->scaled_probability.reserve(rows);
  for (const PendingBatch::Part* part : parts) {
    const v1::SampleResponse& response = *part->response;
    const double scale =
        static_cast<double>(size) * part->share / response.stats().mass();
    for (uint32_t i = 0; i < part->count; ++i) {
      const int j = static_cast<int>(part->first_row + i);
      merged->keys.push_back({static_cast<uint32_t>(part->shard),
                              response.slot(j), response.generation(j)});
      merged->scaled_probability.push_back(scale * response.mass(j));
    }
  }
  MergeColumns(parts, merged->columns);
  return merged;
}

}  // namespace qfleet
