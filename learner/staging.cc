#include "learner/staging.h"

#include <ATen/ATen.h>

#include <utility>

namespace qfleet {
namespace {

// Of a part's beginning: enough for any type and for vector loads.
constexpr int64_t kAlignment = 256;

}  // namespace

InputLayout::InputLayout(const Batch& batch, std::vector<int64_t> noise,
                         std::vector<int64_t> scalars) {
  for (const auto& [name, tensor] : batch.columns()) {
    Add(name, tensor.scalar_type(), tensor.sizes().vec());
  }
  Add("weights", at::kFloat, batch.weights().sizes().vec());
  Add("noise", at::kFloat, std::move(noise));
  Add("scalars", at::kFloat, std::move(scalars));
}

void InputLayout::Add(std::string name, at::ScalarType type,
                      std::vector<int64_t> shape) {
  int64_t bytes = static_cast<int64_t>(c10::elementSize(type));
  for (int64_t extent : shape) bytes *= extent;
  parts_.push_back({std::move(name), type, std::move(shape), bytes_, bytes});
  bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

bool InputLayout::Fits(const Batch& batch) const {
  if (parts_.size() != batch.columns().size() + 3) return false;
  for (size_t i = 0; i < batch.columns().size(); ++i) {
    const auto& [name, tensor] = batch.columns()[i];
    const Part& part = parts_[i];
    if (part.name != name || part.type != tensor.scalar_type() ||
        tensor.sizes() != part.shape) {
      return false;
    }
  }
  return true;
}

at::Tensor InputLayout::ViewOf(const Part& part, const at::Tensor& block) {
  return block.narrow(0, part.offset, part.bytes)
      .view(part.type)
      .view(part.shape);
}

StagedInputs InputLayout::Views(const at::Tensor& block) const {
  const size_t columns = parts_.size() - 3;
  Batch::Columns views;
  for (size_t i = 0; i < columns; ++i) {
    views.emplace_back(parts_[i].name, ViewOf(parts_[i], block));
  }
  return {.batch = Batch(std::move(views), ViewOf(parts_[columns], block)),
          .noise = ViewOf(parts_[columns + 1], block),
          .scalars = ViewOf(parts_[columns + 2], block)};
}

void CopyColumns(const Batch& batch, const StagedInputs& to) {
  for (size_t i = 0; i < batch.columns().size(); ++i) {
    to.batch.columns()[i].second.copy_(batch.columns()[i].second);
  }
  to.batch.weights().copy_(batch.weights());
}

}  // namespace qfleet
