// C51 (Bellemare et al. 2017), Rainbow's loss: the distribution of returns of
// the action that the bootstrap takes, moved and projected, against the
// network's by cross entropy:
//   loss = mean(weight * CE(projected(return + discount * Zbar(s', a*)), Z(s,
//   a)))
// TD errors, and with them priorities, are of the distributions' means, as the
// actors' initial priorities are. (Hessel et al. prioritise by the loss.)

#ifndef QFLEET_LEARNER_ALGORITHMS_CATEGORICAL_DQN_H_
#define QFLEET_LEARNER_ALGORITHMS_CATEGORICAL_DQN_H_

#include "learner/algorithms/value_algorithm.h"

namespace qfleet {

// `network` must have a categorical head.
class CategoricalDqn : public ValueAlgorithm {
 public:
  using ValueAlgorithm::ValueAlgorithm;

 protected:
  Loss ComputeLoss(const Batch& batch) override;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_ALGORITHMS_CATEGORICAL_DQN_H_
