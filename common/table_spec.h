// What TableSpec, TableSignature and TensorSpec mean: sizes, validity, and the
// difference of two signatures in words.

#ifndef QFLEET_COMMON_TABLE_SPEC_H_
#define QFLEET_COMMON_TABLE_SPEC_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "qfleet/v1/replay.pb.h"
#include "qfleet/v1/tensor.pb.h"

namespace qfleet {

// Bytes of one element; 0 for DTYPE_UNSPECIFIED.
int64_t DTypeBytes(v1::DType dtype);

// Bytes of one row.
int64_t RowBytes(const v1::TensorSpec& spec);

// "float32[4]", "uint8[84,84]", "int64[]".
std::string TensorTypeName(const v1::TensorSpec& spec);

// Bytes of a sampled row: its item columns and views. `signature` must be
// valid.
uint64_t SampledRowBytes(const v1::TableSignature& signature);

// The most rows of one draw: 65,536, or what an answer has room for.
uint32_t MaxDraw(const v1::TableSignature& signature);

// A view's type: the step column's, with a leading dimension `stack` where
// that is more than 1. `signature` must be valid.
v1::TensorSpec ViewTensor(const v1::TableSignature& signature,
                          const v1::View& view);

// OK, or INVALID_ARGUMENT naming the field under `path`, its value and what is
// allowed.
absl::Status ValidateTableSpec(const v1::TableSpec& spec,
                               absl::string_view path);

// Likewise of a part of it, beside the selector.
absl::Status ValidateRateLimiter(const v1::RateLimiter& limiter,
                                 const v1::Selector& selector,
                                 absl::string_view path);

// FAILED_PRECONDITION saying in words how `theirs` differs from `ours`; OK if
// they are equal. `who` names the other side: "the writer".
absl::Status CheckSameSignature(const v1::TableSignature& ours,
                                const v1::TableSignature& theirs,
                                absl::string_view who);

}  // namespace qfleet

#endif  // QFLEET_COMMON_TABLE_SPEC_H_
