// The forms in which a network's parameters travel. `layout` says what the flat
// vector consists of: spans, one after another, each a weight matrix with its
// output channels as rows, or something without channels (a bias).
//
//   FP32  vector  = float32 each
//   BF16  vector  = uint16 each, the upper half of the float32, rounded to
//                   nearest even; what is too large for it becomes infinite
//   INT8  vector  = span...
//         span    = scale[channels] q[size]   with channels, else float32[size]
//         scale   = float32, the channel's max |w| / 127
//         q       = int8, w / scale rounded to nearest even, -127 to 127
//
// All numbers are little-endian and without padding. With INT8 a channel is all
// zeros if its scale would be less than the smallest normal number (its weights
// are below 2e-36), and all NaN if one of its weights is not finite: what went
// wrong is seen, as it is in the other forms. Else no weight is off by more
// than scale / 2, but for the last bits of a float32.
//
// Functions of their arguments alone. Bytes and layout may be anyone's: each is
// checked before something is read or written.

#ifndef QFLEET_WEIGHTS_CODEC_H_
#define QFLEET_WEIGHTS_CODEC_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "qfleet/v1/weights.pb.h"

namespace qfleet {

using WeightLayout = google::protobuf::RepeatedPtrField<v1::WeightSpan>;

// Elements of the whole vector. INVALID_ARGUMENT if a span's channels do not
// divide it, or if there are more than fit into a message.
absl::StatusOr<uint64_t> CheckLayout(const WeightLayout& layout);

// INVALID_ARGUMENT if it is none of the three.
absl::Status CheckCodec(v1::WeightCodec codec);

// Bytes of the vector in this form. Errors as above.
absl::StatusOr<uint64_t> EncodedBytes(const WeightLayout& layout,
                                      v1::WeightCodec codec);

// `fp32`: the vector as FP32. INVALID_ARGUMENT if the layout is of another
// size, or as above.
absl::StatusOr<std::string> EncodeWeights(absl::string_view fp32,
                                          const WeightLayout& layout,
                                          v1::WeightCodec codec);

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
