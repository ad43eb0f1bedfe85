#include "learner/batch.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "common/table_spec.h"
#include "model/tensors.h"

namespace qfleet {

Batch::Batch(const v1::TableSignature& signature, const SampleBatch& sample,
             double beta)
    : rows_(sample.rows()) {
  size_t next = 0;
  auto add = [&](const v1::TensorSpec& spec) {
    columns_.emplace_back(spec.name(),
                          WrapRows(spec, sample.columns[next++].data(), rows_));
  };
  for (const v1::TensorSpec& spec : signature.item_columns()) add(spec);
  for (const v1::View& view : signature.views()) {
    add(ViewTensor(signature, view));
  }
  const std::vector<float> weights =
      ImportanceWeights(sample.scaled_probability, beta);
  if (rows_ > 0) {
    // The largest weight is the least probable row's.
    max_weight_ = std::pow(*std::min_element(sample.scaled_probability.begin(),
                                             sample.scaled_probability.end()),
                           -beta);
  }
  weights_ = at::empty({rows_}, at::kFloat);
  std::memcpy(weights_.data_ptr<float>(), weights.data(),
              weights.size() * sizeof(float));
}

Batch Batch::To(at::Device device) const {
  Batch result = *this;
  for (auto& [name, tensor] : result.columns_) tensor = tensor.to(device);
  result.weights_ = weights_.to(device);
  return result;
}

const at::Tensor& Batch::operator[](absl::string_view column) const {
  for (const auto& [name, tensor] : columns_) {
    if (name == column) return tensor;
  }
  throw std::out_of_range("batch column " + std::string(column));
}

at::Tensor Batch::Find(absl::string_view column) const {
  for (const auto& [name, tensor] : columns_) {
    if (name == column) return tensor;
  }
  return {};
}

}  // namespace qfleet
