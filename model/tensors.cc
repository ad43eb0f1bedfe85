#include "model/tensors.h"

#include <ATen/ATen.h>

#include <vector>

#include "common/table_spec.h"

namespace qfleet {
namespace {

at::ScalarType ScalarType(v1::DType dtype) {
  switch (dtype) {
    case v1::UINT8:
      return at::kByte;
    case v1::INT32:
      return at::kInt;
    case v1::INT64:
      return at::kLong;
    case v1::FLOAT64:
      return at::kDouble;
    default:
      return at::kFloat;
  }
}

}  // namespace

at::Tensor WrapRows(const v1::TensorSpec& spec, const void* data, int rows) {
  std::vector<int64_t> shape = {rows};
  shape.insert(shape.end(), spec.shape().begin(), spec.shape().end());
  return at::from_blob(const_cast<void*>(data), shape,
                       at::TensorOptions().dtype(ScalarType(spec.dtype())));
}

at::Tensor WrapRows(const v1::TensorSpec& spec, const void* data, int rows,
                    size_t stride) {
  std::vector<int64_t> shape = {rows};
  shape.insert(shape.end(), spec.shape().begin(), spec.shape().end());
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size() - 1; i > 1; --i) {
    strides[i - 1] = strides[i] * shape[i];
  }
  strides[0] = static_cast<int64_t>(stride / DTypeBytes(spec.dtype()));
  return at::from_blob(const_cast<void*>(data), shape, strides,
                       at::TensorOptions().dtype(ScalarType(spec.dtype())));
}

}  // namespace qfleet
