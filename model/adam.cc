// Compiled with -fno-math-errno -fno-trapping-math, without which the square
// root keeps the loop from being vectorised.

#include "model/adam.h"

#include <cmath>

namespace qfleet {

void Adam::Step(absl::Span<float> parameters, absl::Span<const float> gradient,
                double gradient_scale, double learning_rate) {
  ++steps_;
  const double correction1 = 1 - std::pow(options_.beta1, steps_);
  const double correction2 = 1 - std::pow(options_.beta2, steps_);
  const float scale = static_cast<float>(gradient_scale);
  const float beta1 = static_cast<float>(options_.beta1);
  const float beta2 = static_cast<float>(options_.beta2);
  const float rest1 = 1 - beta1;
  const float rest2 = 1 - beta2;
  const float step = static_cast<float>(learning_rate / correction1);
  const float root_scale = static_cast<float>(1 / std::sqrt(correction2));
  const float epsilon = static_cast<float>(options_.epsilon);
  const int64_t size = static_cast<int64_t>(parameters.size());
  float* __restrict x = parameters.data();
  const float* __restrict g = gradient.data();
  float* __restrict m = first_.data();
  float* __restrict v = second_.data();
  for (int64_t i = 0; i < size; ++i) {
    const float gi = g[i] * scale;
    m[i] = beta1 * m[i] + rest1 * gi;
    v[i] = beta2 * v[i] + rest2 * gi * gi;
    x[i] -= step * m[i] / (std::sqrt(v[i]) * root_scale + epsilon);
  }
}

double Norm(absl::Span<const float> values) {
  // Eight partial sums: vectorises without reassociating one.
  double sums[8] = {};
  size_t i = 0;
  for (; i + 8 <= values.size(); i += 8) {
    for (int j = 0; j < 8; ++j) {
      sums[j] += static_cast<double>(values[i + j]) * values[i + j];
    }
  }
  double total = 0;
  for (; i < values.size(); ++i) {
    total += static_cast<double>(values[i]) * values[i];
  }
  for (double sum : sums) total += sum;
  return std::sqrt(total);
}

}  // namespace qfleet
