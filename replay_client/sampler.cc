#include "replay_client/sampler.h"

#include <algorithm>
#include <cmath>

namespace qfleet {

std::vector<float> ImportanceWeights(
    absl::Span<const double> scaled_probability, double beta) {
  std::vector<float> weights(scaled_probability.size());
  if (weights.empty()) return weights;
  // The largest weight belongs to the smallest probability; dividing before
  // the power is the same and cannot overflow.
  const double smallest =
      *std::min_element(scaled_probability.begin(), scaled_probability.end());
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] =
        static_cast<float>(std::pow(smallest / scaled_probability[i], beta));
  }
  return weights;
}

}  // namespace qfleet
