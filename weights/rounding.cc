#include "weights/rounding.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace qfleet {
namespace {

// Lambda over the mean of the inputs' squares: how much the weights themselves
// count. Between 1e-5 and 1e-2 little changes.
constexpr double kDamping = 1e-3;
// Rows beyond twice the inputs add little, and the inverse costs their square:
// it may take so many multiplications (0.2 s).
constexpr double kWork = 2.6e8;

}  // namespace

// Adding moves the whole number to the lowest bits of the sum; unlike lrintf()
// it is a vector's operation everywhere.
int8_t RoundToInt8(float x) {
  constexpr float kShift = 0x1.8p23F;
  return static_cast<int8_t>(std::bit_cast<int32_t>(x + kShift) -
                             std::bit_cast<int32_t>(kShift));
}

Rounding::Rounding(absl::Span<const float> inputs, uint64_t width)
    : width_(width),
      rows_(width == 0 ? 0 : inputs.size() / width),
      order_(width) {
  std::iota(order_.begin(), order_.end(), uint64_t{0});
  if (rows_ == 0) return;
  rows_ = std::min(
      {rows_, 2 * width_,
       static_cast<uint64_t>(std::sqrt(kWork / static_cast<double>(width_)))});
  inputs = inputs.first(rows_ * width_);
  std::vector<double> energy(width_);
  for (uint64_t r = 0; r < rows_; ++r) {
    for (uint64_t i = 0; i < width_; ++i) {
      const double x = inputs[r * width_ + i];
      energy[i] += x * x;
    }
  }
  const double squares = std::accumulate(energy.begin(), energy.end(), 0.0);
  if (!(squares > 0) || !std::isfinite(squares)) rows_ = 0;
  if (rows_ == 0) return;
  std::stable_sort(order_.begin(), order_.end(), [&](uint64_t a, uint64_t b) {
    return energy[a] > energy[b];
  });
  x_.resize(width_ * rows_);
  v_.resize(width_ * rows_);
  for (uint64_t r = 0; r < rows_; ++r) {
    for (uint64_t i = 0; i < width_; ++i) {
      x_[i * rows_ + r] = inputs[r * width_ + order_[i]];
    }
  }
  // The inverse grows by one input after the other, from the last to the first
  // (Sherman and Morrison 1950).
  const double lambda = kDamping * squares / static_cast<double>(width_);
  std::vector<double> inverse(rows_ * rows_), y(rows_);
  for (uint64_t r = 0; r < rows_; ++r) inverse[r * rows_ + r] = 1 / lambda;
  for (uint64_t i = width_; i-- > 0;) {
    const float* x = &x_[i * rows_];
    // The matrix is symmetric: its rows are its columns.
    std::fill(y.begin(), y.end(), 0.0);
    for (uint64_t r = 0; r < rows_; ++r) {
      if (x[r] == 0) continue;  // As ReLU leaves many.
      const double* row = &inverse[r * rows_];
      for (uint64_t s = 0; s < rows_; ++s) y[s] += x[r] * row[s];
    }
    double denominator = 1;
    for (uint64_t r = 0; r < rows_; ++r) denominator += y[r] * x[r];
    for (uint64_t r = 0; r < rows_; ++r) {
      const double share = y[r] / denominator;
      v_[i * rows_ + r] = static_cast<float>(share);
      double* row = &inverse[r * rows_];
      for (uint64_t s = 0; s < rows_; ++s) row[s] -= share * y[s];
    }
  }
}

void Rounding::Round(const float* w, uint64_t channels, uint64_t group,
                     const float* scales, int8_t* q, float* due) const {
  const uint64_t groups = (width_ + group - 1) / group;
  // All channels side by side, which is a vector's work.
  std::vector<float> owed(rows_ * channels), wanted(channels);
  for (uint64_t i = 0; i < width_; ++i) {
    const uint64_t input = order_[i];
    for (uint64_t c = 0; c < channels; ++c) wanted[c] = w[c * width_ + input];
    for (uint64_t r = 0; r < rows_; ++r) {
      const float v = v_[i * rows_ + r];
      const float* u = &owed[r * channels];
      for (uint64_t c = 0; c < channels; ++c) wanted[c] += v * u[c];
    }
    for (uint64_t c = 0; c < channels; ++c) {
      int8_t& to = q[c * width_ + input];
      const float scale = scales[c * groups + input / group];
      if (!(scale > 0)) {
        to = 0;
        wanted[c] = 0;
        continue;
      }
      to = RoundToInt8(std::clamp(wanted[c] / scale, -127.0F, 127.0F));
      // From here on: by how much it is off.
      wanted[c] = w[c * width_ + input] - scale * static_cast<float>(to);
    }
    for (uint64_t r = 0; r < rows_; ++r) {
      const float x = x_[i * rows_ + r];
      float* u = &owed[r * channels];
      for (uint64_t c = 0; c < channels; ++c) u[c] += x * wanted[c];
    }
  }
  std::fill(due, due + channels, 0.0F);
  for (uint64_t r = 0; r < rows_; ++r) {
    for (uint64_t c = 0; c < channels; ++c) due[c] += owed[r * channels + c];
  }
  for (uint64_t c = 0; c < channels && rows_ > 0; ++c) {
    due[c] /= static_cast<float>(rows_);
  }
}

}  // namespace qfleet
