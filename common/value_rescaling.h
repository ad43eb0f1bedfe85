// Value rescaling (Pohlen et al. 2018, "Observe and Look Further"): values are
// learned as h(Q), which squashes large returns without clipping rewards:
//
//   h(x)    = sign(x) (sqrt(|x| + 1) - 1) + epsilon x
//   h^-1(y) = sign(y) (((sqrt(1 + 4 epsilon (|y| + 1 + epsilon)) - 1) /
//                       (2 epsilon))^2 - 1)
//
// A target is h(return + discount h^-1(max_a q)), q being a network's output.

#ifndef QFLEET_COMMON_VALUE_RESCALING_H_
#define QFLEET_COMMON_VALUE_RESCALING_H_

#include <cmath>

namespace qfleet {

inline constexpr double kRescalingEpsilon = 1e-3;

inline double RescaleValue(double x) {
  const double size = std::abs(x);
  // sqrt(size + 1) - 1, without its loss of digits near 0.
  const double root = size / (std::sqrt(size + 1) + 1);
  return std::copysign(root, x) + kRescalingEpsilon * x;
}

inline double UnscaleValue(double y) {
  const double size = std::abs(y);
  const double sum = size + 1 + kRescalingEpsilon;
  // (sqrt(1 + 4 epsilon sum) - 1) / (2 epsilon), likewise.
  const double root =
      2 * sum / (std::sqrt(1 + 4 * kRescalingEpsilon * sum) + 1);
  return std::copysign(root * root - 1, y);
}

}  // namespace qfleet

#endif  // QFLEET_COMMON_VALUE_RESCALING_H_
