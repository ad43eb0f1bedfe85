// What the value-based algorithms share: online networks that are trained by
// gradient, target networks that follow them, an optimizer, noise, checkpoints.
// An algorithm of this kind says its loss, and how its targets follow if not in
// the usual way.
//
// An update: loss -> gradient (-> averaged over the learners that train
// together) -> clipped by its global norm -> optimizer -> targets. If the loss
// or the gradient is not finite nothing of that is done.
//
// The average is what one learner would have with all batches as one: weights
// over the maximum of all, and one sum carries the gradients, the maxima, how
// many had a batch and whether one wants to stop.

#ifndef QFLEET_LEARNER_ALGORITHMS_VALUE_ALGORITHM_H_
#define QFLEET_LEARNER_ALGORITHMS_VALUE_ALGORITHM_H_

#include <memory>
#include <string>
#include <vector>

#include "learner/algorithms/algorithm.h"
#include "model/network.h"
#include "model/optimizer.h"

namespace qfleet {

class ValueAlgorithm : public Algorithm {
 public:
  // Weights and noise are seeded from config.seed(). Targets begin as copies.
  ValueAlgorithm(const v1::Config& config,
                 std::shared_ptr<const Network> network,
                 Collective* collective = nullptr);

  UpdateResult Update(const Batch& batch) override;
  UpdateResult TakePart(bool stop) override;
  int64_t updates() const override { return optimizer_->steps(); }
  std::string Publish() const override;
  const Network& network() const override { return *network_; }
  std::vector<v1::NamedTensor> Save() override;
  absl::Status Load(int64_t updates,
                    const std::vector<v1::NamedTensor>& tensors) override;

 protected:
  struct Loss {
    at::Tensor loss;    // Scalar, with a gradient.
    at::Tensor td;      // [B], the unweighted TD errors.
    at::Tensor values;  // [B, A], of the observations.
  };

  virtual Loss ComputeLoss(const Batch& batch) = 0;

  // After update number `updates`. By default: every target_period updates each
  // target moves to its online network.
  virtual void UpdateTargets(int64_t updates);

  // The networks' outputs, each pass with noise of its own.
  at::Tensor Online(const at::Tensor& observation, int copy = 0);
  at::Tensor Target(const at::Tensor& observation, int copy = 0);

  // The actions that the bootstrap takes, [B]: legal ones, chosen by the online
  // network with double_q, else by the target whose output is given.
  at::Tensor ChooseNext(const Batch& batch, const at::Tensor& target_output,
                        int online_copy = 0);

  // The target of a value: return + discount * next, rescaled if so configured.
  at::Tensor ValueTarget(const Batch& batch, const at::Tensor& next) const;

  // target += tau (online - target), for network `target` of the targets and
  // `online` of the online ones.
  void MoveTarget(int target, int online, double tau);
  // Online network `to` takes the weights of online network `from`.
  void CopyOnline(int to, int from);

  const v1::AlgorithmConfig& config() const { return config_; }

 private:
  // The gradient becomes the average over all learners; false: there is none,
  // because nobody had a batch or `result.stopped`.
  bool Average(double max_weight, bool has_batch, bool stop,
               UpdateResult& result);
  // Norm, optimizer, targets.
  void Apply(UpdateResult& result);

  // The named flat vectors of Save and Load.
  std::vector<Optimizer::Part> Parts();

  const v1::AlgorithmConfig config_;
  const v1::OptimizerConfig optimizer_config_;
  const std::shared_ptr<const Network> network_;
  FlatParameters online_;
  FlatParameters target_;
  const std::unique_ptr<Optimizer> optimizer_;
  NoiseSource noise_;
  Collective* const collective_;
  std::vector<float> shared_;  // What is summed.
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_ALGORITHMS_VALUE_ALGORITHM_H_
