#include "learner/losses.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace qfleet {
namespace {

constexpr double kRescaleEpsilon = 1e-3;

}  // namespace

at::Tensor Greedy(const at::Tensor& q, const at::Tensor& mask) {
  if (!mask.defined()) return q.argmax(1);  // [B]
  return q.masked_fill(mask.eq(0), -std::numeric_limits<float>::infinity())
      .argmax(1);
}

at::Tensor ValueOf(const at::Tensor& output, const at::Tensor& actions) {
  at::Tensor index = actions.unsqueeze(1);                           // [B, 1]
  if (output.dim() == 2) return output.gather(1, index).squeeze(1);  // [B]
  index = index.unsqueeze(2).expand({-1, 1, output.size(2)});  // [B, 1, N]
  return output.gather(1, index).squeeze(1);                   // [B, N]
}

at::Tensor BootstrapTarget(const at::Tensor& return_,
                           const at::Tensor& discount, const at::Tensor& next) {
  return return_ + discount * next;  // [B]
}

at::Tensor Rescale(const at::Tensor& x) {
  return x.sign() * ((x.abs() + 1).sqrt() - 1) + kRescaleEpsilon * x;
}

// Solved in double precision: the closed form takes the difference of two
// numbers that are close to each other.
at::Tensor InverseRescale(const at::Tensor& x) {
  const at::Tensor y = x.to(at::kDouble);
  const at::Tensor root =
      (1 + 4 * kRescaleEpsilon * (y.abs() + 1 + kRescaleEpsilon)).sqrt();
  const at::Tensor base = (root - 1) / (2 * kRescaleEpsilon);
  return (y.sign() * (base * base - 1)).to(x.scalar_type());
}

at::Tensor Huber(const at::Tensor& x, double delta) {
  if (delta == 0) return 0.5 * x * x;
  return at::huber_loss(x, at::zeros({1}, x.options()), at::Reduction::None,
                        delta);
}

at::Tensor WeightedMean(const at::Tensor& losses, const at::Tensor& weights) {
  return (weights * losses).mean();
}

at::Tensor ProjectCategorical(const at::Tensor& return_,
                              const at::Tensor& discount,
                              const at::Tensor& probabilities,
                              const at::Tensor& support) {
  const int64_t atoms = support.size(0);
  const at::Tensor first = support[0];
  const at::Tensor step = (support[atoms - 1] - first) / (atoms - 1);
  const at::Tensor moved =
      return_.unsqueeze(1) + discount.unsqueeze(1) * support;  // [B, N]
  // Where each atom falls, in steps from the first.
  const at::Tensor at_ = ((moved - first) / step).clamp(0, atoms - 1);
  const at::Tensor below = at_.floor();
  const at::Tensor share = at_ - below;  // Of the mass, for the one above.
  // NaN has no index; its share makes the loss NaN.
  const at::Tensor lower = below.to(at::kLong).clamp(0, atoms - 1);
  const at::Tensor upper = (lower + 1).clamp_max(atoms - 1);
  at::Tensor projected = at::zeros_like(probabilities);
  projected.scatter_add_(1, lower, probabilities * (1 - share));
  projected.scatter_add_(1, upper, probabilities * share);
  return projected;
}

at::Tensor CrossEntropy(const at::Tensor& logits, const at::Tensor& target) {
  return -(target * logits.log_softmax(1)).sum(1);
}

at::Tensor QuantileHuber(const at::Tensor& quantiles, const at::Tensor& targets,
                         double delta) {
  const int64_t n = quantiles.size(1);
  const at::Tensor fractions =
      (at::arange(n, quantiles.options()) + 0.5) / static_cast<double>(n);
  const at::Tensor u =
      targets.unsqueeze(1) - quantiles.unsqueeze(2);  // [B, N, M]
  const at::Tensor side = u.detach().lt(0).to(u.scalar_type());
  const at::Tensor weight = (fractions.view({1, n, 1}) - side).abs();
  const at::Tensor size = delta == 0 ? u.abs() : Huber(u, delta) / delta;
  return (weight * size).mean(2).sum(1);
}

}  // namespace qfleet
