// Losses and targets: pure functions of tensors. B: batch, A: actions.

#ifndef QFLEET_LEARNER_LOSSES_H_
#define QFLEET_LEARNER_LOSSES_H_

#include <ATen/core/Tensor.h>

namespace qfleet {

// The n-step bootstrap target (Mnih et al. 2015; Double: van Hasselt et al.
// 2016):
//   target = return + discount * q_next[argmax_a q_choose[a]]
// Double Q-learning gives the online network's values as `q_choose`, plain
// Q-learning the target network's own.
at::Tensor BootstrapTarget(const at::Tensor& return_,   // [B]
                           const at::Tensor& discount,  // [B]
                           const at::Tensor& q_choose,  // [B, A]
                           const at::Tensor& q_next);   // [B, A]

// The values of the actions taken.
at::Tensor ValueOf(const at::Tensor& q,         // [B, A]
                   const at::Tensor& actions);  // [B], int64

// Huber's function: x^2 / 2 up to `delta`, then linear; its gradient is the TD
// error clipped to +- delta.
at::Tensor Huber(const at::Tensor& x, double delta);

// mean(weight * huber(td)): the gradient is clipped first and weighted then.
at::Tensor WeightedHuber(const at::Tensor& td,       // [B]
                         const at::Tensor& weights,  // [B]
                         double delta);

}  // namespace qfleet

#endif  // QFLEET_LEARNER_LOSSES_H_
