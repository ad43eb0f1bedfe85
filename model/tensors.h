// Columns as LibTorch tensors.

#ifndef QFLEET_MODEL_TENSORS_H_
#define QFLEET_MODEL_TENSORS_H_

#include <ATen/core/Tensor.h>

#include <cstddef>

#include "qfleet/v1/tensor.pb.h"

namespace qfleet {

// [rows, shape...] over memory that the caller keeps alive and unchanged. The
// data must be aligned to the element's size.
at::Tensor WrapRows(const v1::TensorSpec& spec, const void* data, int rows);

// The same over rows that are `stride` bytes apart, a multiple of the element's
// size.
at::Tensor WrapRows(const v1::TensorSpec& spec, const void* data, int rows,
                    size_t stride);

}  // namespace qfleet

#endif  // QFLEET_MODEL_TENSORS_H_
