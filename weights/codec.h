// The forms in which a network's parameters travel. `layout` says what the flat
// vector consists of: spans, one after another, each a weight matrix with its
// output channels as rows, or something without channels (a bias).
//
//   FP32  vector  = float32 each
//   BF16  vector  = uint16 each, the upper half of the float32, rounded to
//                   nearest even; what is too large for it becomes infinite
//   INT8  vector  = span...
//         span    = largest scale[channels][groups] q[size]   a large matrix
//                 | small[size]                                else
//         largest = float32, max |w| / 127 over the span
//         scale   = uint8 k, of `group` weights of a channel in a row (the last
//                   ones may be fewer): w = q * largest * 2^(-k / 16);
//                   255: NaN
//         q       = int8, -127 to 127
//         small   = float32 or IEEE 754 binary16, rounded to nearest even; what
//                   is too large for it becomes infinite
//
// Small are biases, and of the matrices the smallest (of equal ones the first),
// as long as they have at most a 16th of the vector's elements together: they
// cost few bytes, and errors in a network's first and last layer count most.
// The rest of 27 % of FP32's bytes goes to what makes the errors smaller: small
// spans are float32, all of them, if they fit beside one scale a channel, else
// binary16. Then `group`, the same in all matrices, is the least of 16, 32, 64,
// ... that fits; if none does, a channel is a group.
//
// All numbers are little-endian and without padding. With INT8 a matrix is all
// zeros if its `largest` would be less than 1e-32, and a group all NaN if one
// of its weights is not finite: what went wrong is seen, as it is in the other
// forms. Rounded to nearest no weight is off by more than half its scale; with
// a calibration the outputs are kept instead (weights/rounding.h).
//
// Functions of their arguments alone. Bytes and layout may be anyone's: each is
// checked before something is read or written.

#ifndef QFLEET_WEIGHTS_CODEC_H_
#define QFLEET_WEIGHTS_CODEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "qfleet/v1/weights.pb.h"

namespace qfleet {

using WeightLayout = google::protobuf::RepeatedPtrField<v1::WeightSpan>;

// What a fully connected layer was given for some observations.
struct LayerInputs {
  int span = 0;               // The layer's weights, in the layout.
  std::vector<float> values;  // [rows, inputs]; inputs = size / channels.
};
using Calibration = std::vector<LayerInputs>;

// Elements of the whole vector. INVALID_ARGUMENT if a span's channels do not
// divide it, or if there are more than fit into a message.
absl::StatusOr<uint64_t> CheckLayout(const WeightLayout& layout);

// INVALID_ARGUMENT if it is none of the three.
absl::Status CheckCodec(v1::WeightCodec codec);

// Bytes of the vector in this form. Errors as above.
absl::StatusOr<uint64_t> EncodedBytes(const WeightLayout& layout,
                                      v1::WeightCodec codec);

// For each span whether INT8 has it as integers. `layout` is a checked one.
std::vector<bool> IntegerSpans(const WeightLayout& layout);

// `fp32`: the vector as FP32. `calibration` is for INT8; each layer's bias is
// the span after its weights, if that has no channels and as many elements as
// they have. INVALID_ARGUMENT if the layout is of another size, or as above.
absl::StatusOr<std::string> EncodeWeights(absl::string_view fp32,
                                          const WeightLayout& layout,
                                          v1::WeightCodec codec,
                                          const Calibration& calibration = {});

// DATA_LOSS if `encoded` has not the size of this form; errors as above.
absl::Status CheckEncoded(absl::string_view encoded, const WeightLayout& layout,
                          v1::WeightCodec codec);

// Into all of `values`, or an error and nothing is written: as CheckEncoded, or
// INVALID_ARGUMENT if the layout is not of `values`' size.
absl::Status DecodeWeights(absl::string_view encoded,
                           const WeightLayout& layout, v1::WeightCodec codec,
                           absl::Span<float> values);

}  // namespace qfleet

#endif  // QFLEET_WEIGHTS_CODEC_H_
