// QR-DQN (Dabney et al. 2018): N quantiles of the return, learned by quantile
// regression against those of return + discount * Zbar(s', a*). TD errors are
// of the means.

#ifndef QFLEET_LEARNER_ALGORITHMS_QR_DQN_H_
#define QFLEET_LEARNER_ALGORITHMS_QR_DQN_H_

#include "learner/algorithms/value_algorithm.h"

namespace qfleet {

// `network` must have quantile heads.
class QrDqn : public ValueAlgorithm {
 public:
  using ValueAlgorithm::ValueAlgorithm;

 protected:
  Loss ComputeLoss(const Batch& batch) override;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_ALGORITHMS_QR_DQN_H_
