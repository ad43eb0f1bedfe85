// Deep Q-learning (Mnih et al. 2015), or Double DQN (van Hasselt et al. 2016):
//   target = return + discount * Qbar(s', a*)
//   loss   = mean(weight * huber(target - Q(s, a)))
// with a* the best legal action of Q (double) or of Qbar, the target network.

#ifndef QFLEET_LEARNER_ALGORITHMS_DQN_H_
#define QFLEET_LEARNER_ALGORITHMS_DQN_H_

#include <memory>
#include <utility>

#include "learner/algorithms/value_algorithm.h"

namespace qfleet {

class Dqn : public ValueAlgorithm {
 public:
  // The delta of config.algorithm().dqn(), or another algorithm's.
  Dqn(const v1::Config& config, std::shared_ptr<const Network> network,
      Collective* collective = nullptr, const Placement& placement = {})
      : Dqn(config, std::move(network), collective, placement,
            config.algorithm().dqn().huber_delta()) {}
  Dqn(const v1::Config& config, std::shared_ptr<const Network> network,
      Collective* collective, const Placement& placement, double huber_delta)
      : ValueAlgorithm(config, std::move(network), collective, placement),
        huber_delta_(huber_delta) {}

 protected:
  Loss ComputeLoss(const Batch& batch) override;

 private:
  const double huber_delta_;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_ALGORITHMS_DQN_H_
