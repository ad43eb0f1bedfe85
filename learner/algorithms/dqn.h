// Deep Q-learning (Mnih et al. 2015): with Double Q-learning, n-step returns,
// importance weights, Huber loss and Adam. The table's columns: observation
// and next_observation (views), action, return, discount.

#ifndef QFLEET_LEARNER_ALGORITHMS_DQN_H_
#define QFLEET_LEARNER_ALGORITHMS_DQN_H_

#include <memory>
#include <string>
#include <vector>

#include "learner/algorithms/algorithm.h"
#include "model/adam.h"
#include "model/network.h"

namespace qfleet {

class Dqn : public Algorithm {
 public:
  // Weights are initialised from config.seed().
  Dqn(const v1::Config& config, std::shared_ptr<const Network> network);

  UpdateResult Update(const Batch& batch) override;
  int64_t updates() const override { return optimizer_.steps(); }
  std::string Publish() const override;
  const Network& network() const override { return *network_; }
  std::vector<v1::NamedTensor> Save() override;
  absl::Status Load(int64_t updates,
                    const std::vector<v1::NamedTensor>& tensors) override;

 private:
  // The named flat vectors of Save and Load.
  struct Part {
    const char* name;
    absl::Span<float> values;
  };
  std::vector<Part> Parts();

  const v1::AlgorithmConfig config_;
  const v1::OptimizerConfig optimizer_config_;
  const std::shared_ptr<const Network> network_;
  FlatParameters online_;
  FlatParameters target_;
  Adam optimizer_;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_ALGORITHMS_DQN_H_
