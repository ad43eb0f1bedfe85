// What a network's flat vector consists of, for those who encode it
// (weights/codec.h).

#ifndef QFLEET_MODEL_WEIGHT_LAYOUT_H_
#define QFLEET_MODEL_WEIGHT_LAYOUT_H_

#include "model/network.h"
#include "weights/codec.h"

namespace qfleet {

// A span for each parameter: weights (and what a noisy layer adds to them) have
// their first extent as channels, biases none.
WeightLayout LayoutOf(const Network& network);

// What the fully connected layers that INT8 has as integers are given for these
// observations [rows, observation...], at most kCalibrationRows of them: with
// the parameters `views` and, of several networks, for each.
inline constexpr int64_t kCalibrationRows = 512;
Calibration CalibrationOf(const Network& network,
                          absl::Span<const at::Tensor> views,
                          const at::Tensor& observations);

}  // namespace qfleet

#endif  // QFLEET_MODEL_WEIGHT_LAYOUT_H_
