// Rounds a weight matrix to integers such that a layer's outputs change little,
// not its weights: an error is made up for by the weights that are rounded
// after it, in the way that is right for what the layer is given.
//
// For each output channel, over the inputs i from the largest sum of squares to
// the least, with X [rows, inputs] what the layer was given for a few
// observations and u [rows] the outputs that the weights rounded so far owe:
//   q_i = round((w_i + v_i . u) / scale_i)     u += (w_i - scale_i q_i) X_i
//   v_i = (sum over j from i on of X_j X_j^T + lambda I)^-1 X_i
// which is GPTQ's rounding (Frantar et al. 2022; Hassibi and Stork 1992) in its
// dual form: the inverse is one of [rows, rows], however many inputs there are.
// What is owed in the end, on average, goes into the bias (Nagel et al. 2019).

#ifndef QFLEET_WEIGHTS_ROUNDING_H_
#define QFLEET_WEIGHTS_ROUNDING_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace qfleet {

// To nearest even, of |x| below 2^21.
int8_t RoundToInt8(float x);

// Immutable, so thread-safe.
class Rounding {
 public:
  // `inputs`: X as above, row by row, finite. Without rows, or where they are
  // all zeros: to nearest.
  Rounding(absl::Span<const float> inputs, uint64_t width);

  // w [channels, width] -> q, likewise, -127 to 127. `scales` [channels,
  // ceil(width / group)]: of each `group` inputs of a channel in a row; where
  // one is not above 0 there are zeros, which owe nothing. `due` [channels]:
  // what the outputs owe on average, which is the bias's due.
  void Round(const float* w, uint64_t channels, uint64_t group,
             const float* scales, int8_t* q, float* due) const;

 private:
  const uint64_t width_;
  uint64_t rows_;
  std::vector<uint64_t> order_;  // The inputs as they are rounded.
  std::vector<float> x_;         // [width, rows], in that order.
  std::vector<float> v_;         // [width, rows], in that order.
};

}  // namespace qfleet

#endif  // QFLEET_WEIGHTS_ROUNDING_H_
