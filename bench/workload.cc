#include "bench/workload.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/random.h"
#include "common/table_spec.h"
#include "replay_client/batch_builder.h"

namespace qfleet::bench {
namespace {

void SetSpec(const std::string& name, v1::DType dtype,
             const std::vector<int64_t>& shape, v1::TensorSpec* spec) {
  spec->set_name(name);
  spec->set_dtype(dtype);
  for (int64_t size : shape) spec->add_shape(size);
}

void SetView(const std::string& name, v1::View::Anchor anchor, uint32_t stack,
             v1::View* view) {
  view->set_name(name);
  view->set_column("observation");
  view->set_anchor(anchor);
  view->set_stack(stack);
}

v1::TableSignature Signature(v1::DType dtype, const std::vector<int64_t>& shape,
                             uint32_t stack) {
  v1::TableSignature signature;
  SetSpec("observation", dtype, shape, signature.add_step_columns());
  SetSpec("action", v1::INT32, {}, signature.add_item_columns());
  SetSpec("return", v1::FLOAT32, {}, signature.add_item_columns());
  SetSpec("discount", v1::FLOAT32, {}, signature.add_item_columns());
  SetView("observation", v1::View::FIRST, stack, signature.add_views());
  SetView("next_observation", v1::View::LAST, stack, signature.add_views());
  return signature;
}

std::vector<std::string> RandomRows(
    const google::protobuf::RepeatedPtrField<v1::TensorSpec>& specs,
    size_t rows) {
  Random random(1);
  std::vector<std::string> columns;
  for (const v1::TensorSpec& spec : specs) {
    std::string& column = columns.emplace_back();
    column.resize(rows * static_cast<size_t>(RowBytes(spec)));
    for (char& byte : column) byte = static_cast<char>(random.Bits());
  }
  return columns;
}

ColumnRow RowOf(const std::string& column, size_t row, size_t rows) {
  const size_t bytes = column.size() / rows;
  return ColumnRow(column).subspan(row * bytes, bytes);
}

}  // namespace

uint64_t Shape::SampledBytes() const {
  int64_t bytes = 0;
  for (const auto& column : signature.item_columns()) bytes += RowBytes(column);
  for (const auto& view : signature.views()) {
    bytes += RowBytes(ViewTensor(signature, view));
  }
  return static_cast<uint64_t>(bytes);
}

uint64_t Shape::AppendedBytes() const {
  int64_t bytes = 0;
  for (const auto& column : signature.step_columns()) bytes += RowBytes(column);
  for (const auto& column : signature.item_columns()) bytes += RowBytes(column);
  return static_cast<uint64_t>(bytes);
}

Shape AtariShape() {
  return {.name = "84x84 frames",
          .signature = Signature(v1::UINT8, {84, 84}, 4),
          .n_step = 3,
          .max_bytes = uint64_t{2} << 30};
}

Shape SmallShape() {
  return {.name = "4 floats",
          .signature = Signature(v1::FLOAT32, {4}, 1),
          .n_step = 1,
          .max_bytes = uint64_t{1} << 30};
}

Shape MinAtarShape() {
  return {.name = "4x10x10 floats",
          .signature = Signature(v1::FLOAT32, {4, 10, 10}, 1),
          .n_step = 1,
          .max_bytes = uint64_t{1} << 30};
}

Shape StackedFramesShape() {
  return {.name = "4x84x84 bytes",
          .signature = Signature(v1::UINT8, {4, 84, 84}, 1),
          .n_step = 1,
          .max_bytes = uint64_t{2} << 30};
}

v1::TableSpec TableOf(const Shape& shape, uint64_t max_items, int shards) {
  v1::TableSpec table;
  table.set_name("replay");
  *table.mutable_signature() = shape.signature;
  table.mutable_selector()->set_kind(v1::Selector::PRIORITIZED);
  table.mutable_selector()->set_alpha(0.6);
  table.mutable_selector()->set_epsilon(0.01);
  table.set_remover(v1::FIFO);
  table.set_max_items(max_items / shards);
  table.set_max_bytes(shape.max_bytes / shards);
  table.mutable_rate_limiter()->set_tolerance(1);
  table.mutable_rate_limiter()->set_min_size(1);
  return table;
}

Experience::Experience(const Shape& shape, uint32_t streams)
    : streams_(streams),
      n_step_(shape.n_step),
      step_rows_(RandomRows(shape.signature.step_columns(), kRows)),
      item_rows_(RandomRows(shape.signature.item_columns(), kRows)) {
  step_.step_columns.resize(step_rows_.size());
  step_.item_columns.resize(item_rows_.size());
}

const Experience::Step& Experience::Next() {
  const size_t row = count_ % kRows;
  step_.stream = static_cast<uint32_t>(count_ % streams_);
  step_.index = count_ / streams_;
  ++count_;
  const uint64_t in_episode = step_.index % kEpisodeSteps;
  step_.starts_episode = in_episode == 0;
  step_.has_item = in_episode >= n_step_;
  step_.item_first = step_.index - (step_.has_item ? n_step_ : 0);
  step_.priority = static_cast<float>(row + 1) / kRows;
  for (size_t c = 0; c < step_rows_.size(); ++c) {
    step_.step_columns[c] = RowOf(step_rows_[c], row, kRows);
  }
  for (size_t c = 0; c < item_rows_.size(); ++c) {
    step_.item_columns[c] = RowOf(item_rows_[c], row, kRows);
  }
  return step_;
}

std::vector<v1::AppendRequest> BuildRequests(const Shape& shape,
                                             uint32_t streams, uint64_t steps,
                                             uint64_t batch_steps) {
  Experience experience(shape, streams);
  BatchBuilder builder(shape.signature);
  std::vector<v1::AppendRequest> requests;
  for (uint64_t i = 0; i < steps; ++i) {
    // Rows are of the signature's sizes, so that nothing can fail here.
    const Experience::Step& step = experience.Next();
    builder
        .AddStep(step.stream, step.index, step.starts_episode,
                 step.step_columns)
        .IgnoreError();
    if (step.has_item) {
      builder
          .AddItem(step.stream, step.item_first, step.index, step.item_columns,
                   step.priority)
          .IgnoreError();
    }
    if (builder.size().steps < batch_steps && i + 1 < steps) continue;
    const uint64_t sequence = requests.size() + 1;
    *requests.emplace_back().mutable_batch() = builder.Take(sequence);
  }
  return requests;
}

}  // namespace qfleet::bench
