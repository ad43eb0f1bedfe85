#include "learner/losses.h"

#include <ATen/ATen.h>

namespace qfleet {

at::Tensor BootstrapTarget(const at::Tensor& return_,
                           const at::Tensor& discount,
                           const at::Tensor& q_choose,
                           const at::Tensor& q_next) {
  at::Tensor best = q_choose.argmax(1);               // [B]
  return return_ + discount * ValueOf(q_next, best);  // [B]
}

at::Tensor ValueOf(const at::Tensor& q, const at::Tensor& actions) {
  return q.gather(1, actions.unsqueeze(1)).squeeze(1);  // [B]
}

at::Tensor Huber(const at::Tensor& x, double delta) {
  at::Tensor size = x.abs();
  at::Tensor quadratic = size.clamp_max(delta);
  return quadratic * (size - quadratic * 0.5);
}

at::Tensor WeightedHuber(const at::Tensor& td, const at::Tensor& weights,
                         double delta) {
  return (weights * Huber(td, delta)).mean();
}

}  // namespace qfleet
