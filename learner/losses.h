// Losses and targets: pure functions of tensors. B: batch, A: actions, N: atoms
// or quantiles of an action. Float32 unless said otherwise.

#ifndef QFLEET_LEARNER_LOSSES_H_
#define QFLEET_LEARNER_LOSSES_H_

#include <ATen/core/Tensor.h>

namespace qfleet {

// The best legal actions, int64 [B]. `mask` uint8 [B, A], 1 = legal, or
// undefined: all are.
at::Tensor Greedy(const at::Tensor& q,      // [B, A]
                  const at::Tensor& mask);  // [B, A]

// Of the actions given: [B], or [B, N] of an output with N numbers an action.
at::Tensor ValueOf(const at::Tensor& output,    // [B, A] or [B, A, N]
                   const at::Tensor& actions);  // [B], int64

// The n-step bootstrap target (Mnih et al. 2015):
//   target = return + discount * next
// with `next` the values of the greedy actions. Double Q-learning (van Hasselt
// et al. 2016) takes the online network's choice of actions.
at::Tensor BootstrapTarget(const at::Tensor& return_,   // [B]
                           const at::Tensor& discount,  // [B]
                           const at::Tensor& next);     // [B]

// Value rescaling (Pohlen et al. 2018): h(x) = sign(x)(sqrt(|x| + 1) - 1) +
// 0.001 x, and its inverse. A network that learns h(Q) has the target
// h(return + discount * h^-1(next)).
at::Tensor Rescale(const at::Tensor& x);
at::Tensor InverseRescale(const at::Tensor& x);

// Huber's function: x^2 / 2 up to `delta`, then linear; its gradient is the TD
// error clipped to +- delta. delta 0: x^2 / 2 everywhere.
at::Tensor Huber(const at::Tensor& x, double delta);

// mean(weight * loss): a clipped gradient is clipped first and weighted then.
at::Tensor WeightedMean(const at::Tensor& losses,    // [B]
                        const at::Tensor& weights);  // [B]

// The distribution of return + discount * Z, Z being distributed by
// `probabilities` over the atoms `support`, projected onto the same atoms
// (Bellemare et al. 2017, algorithm 1): each atom's mass goes to its two
// neighbours in proportion to how near they are; what falls outside goes to the
// ends. Mass is conserved, and the mean where nothing falls outside.
at::Tensor ProjectCategorical(const at::Tensor& return_,        // [B]
                              const at::Tensor& discount,       // [B]
                              const at::Tensor& probabilities,  // [B, N]
                              const at::Tensor& support);       // [N]

// -sum_i target_i log softmax(logits)_i, [B].
at::Tensor CrossEntropy(const at::Tensor& logits,   // [B, N]
                        const at::Tensor& target);  // [B, N]

// The quantile Huber loss (Dabney et al. 2018, equation 10), [B]: over pairs of
// a quantile i (of the fraction (i + 1/2) / N) and a target j,
//   mean_j sum_i |fraction_i - [u_ij < 0]| huber(u_ij) / delta
// with u_ij = target_j - quantile_i. delta 0: |u| instead of Huber's.
at::Tensor QuantileHuber(const at::Tensor& quantiles,  // [B, N]
                         const at::Tensor& targets,    // [B, M]
                         double delta);

}  // namespace qfleet

#endif  // QFLEET_LEARNER_LOSSES_H_
