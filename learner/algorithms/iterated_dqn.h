// Iterated Q-network, i-DQN (Vincent et al. 2024): K Bellman iterations are
// learned at once. Online network k (1 .. K) fits the Bellman image of target
// k - 1:
//   loss = sum_k mean(weight * huber(return + discount * max Qbar_{k-1}(s') -
//                                    Q_k(s, a)))
// Target k (1 .. K - 1) stands for online network k and takes its weights every
// sync_period updates. Every target_period updates the chain moves on by one:
// target k takes the weights of online network k + 1 (0 .. K - 1), and online
// network k those of k + 1 (1 .. K - 1).
//
// TD errors are those of the first network, whose target is fixed; with K = 1
// this is DQN to the bit. With double_q, network k chooses the action.

#ifndef QFLEET_LEARNER_ALGORITHMS_ITERATED_DQN_H_
#define QFLEET_LEARNER_ALGORITHMS_ITERATED_DQN_H_

#include "learner/algorithms/value_algorithm.h"

namespace qfleet {

// `network` must have config.algorithm().i_dqn().networks() copies.
class IteratedDqn : public ValueAlgorithm {
 public:
  using ValueAlgorithm::ValueAlgorithm;

 protected:
  Loss ComputeLoss(const Batch& batch) override;
  Moves MovesAfter(int64_t updates) const override;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_ALGORITHMS_ITERATED_DQN_H_
