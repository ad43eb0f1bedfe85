// What is published: a network's parameters, in each form that somebody asks
// for.

#ifndef QFLEET_WEIGHTS_PUBLICATION_H_
#define QFLEET_WEIGHTS_PUBLICATION_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qfleet/v1/weights.pb.h"
#include "weights/codec.h"

namespace qfleet {

// The same publication in another form, with the hash of that. `fp32` is in
// FP32; INVALID_ARGUMENT as EncodeWeights.
absl::StatusOr<v1::Publication> EncodePublication(
    const v1::Publication& fp32, v1::WeightCodec codec,
    const Calibration& calibration = {});

// OK if the parameters are whole: of the size that `layout` has in the
// publication's form, and with its hash. Else DATA_LOSS or INVALID_ARGUMENT in
// words.
absl::Status CheckWhole(const v1::Publication& publication,
                        const WeightLayout& layout);

}  // namespace qfleet

#endif  // QFLEET_WEIGHTS_PUBLICATION_H_
