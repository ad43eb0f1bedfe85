#include "model/tensors.h"

#include <ATen/ATen.h>

#include <vector>

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

}  // namespace qfleet
