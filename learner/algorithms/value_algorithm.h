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
//
// On a device (value_algorithm_device.cc) the update is one function of tensors
// there: the same operations on the same memory each time, which a CUDA graph
// holds. All that changes from update to update is its input: the batch, the
// noise of its forward passes, and a few scalars that the host computes.
// Whether an update is finite is decided there too; the host learns it one
// update later. Until then it does not know the number of the update that it
// sends, so it sends the scalars of both that are possible, and the device
// takes its pick: an update that is skipped changes nothing, here as there.
//
// Several learners on devices wait for their gradients in each update anyway:
// nothing is captured or late then.

#ifndef QFLEET_LEARNER_ALGORITHMS_VALUE_ALGORITHM_H_
#define QFLEET_LEARNER_ALGORITHMS_VALUE_ALGORITHM_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "learner/algorithms/algorithm.h"
#include "learner/staging.h"
#include "model/device.h"
#include "model/network.h"
#include "model/optimizer.h"

namespace qfleet {

// Where an algorithm computes.
struct Placement {
  at::Device device = at::kCPU;
  // The update as a function of tensors, as on a device, which needs it. On the
  // CPU it shows in tests that both do the same.
  bool staged = false;
  bool bf16 = false;    // Forward passes in bfloat16.
  bool capture = true;  // As a CUDA graph.
};

class ValueAlgorithm : public Algorithm {
 public:
  // Weights and noise are seeded from config.seed(). Targets begin as copies.
  ValueAlgorithm(const v1::Config& config,
                 std::shared_ptr<const Network> network,
                 Collective* collective = nullptr,
                 const Placement& placement = {});

  UpdateResult Update(const Batch& batch) override;
  UpdateResult Finish() override;
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

  // How the networks move after an update, in this order; 0: not at all.
  struct Moves {
    double follow =
        0;             // Each target moves to its online network by this share.
    double shift = 0;  // 1: each online network takes the next one's weights.
    double chain = 0;  // 1: each target takes the online network before it.
  };

  // After update number `updates`. By default: every target_period updates each
  // target moves to its online network by target_tau.
  virtual Moves MovesAfter(int64_t updates) const;

  // The networks' outputs, each pass with noise of its own. The target's have no
  // gradient.
  at::Tensor Target(const Batch& batch, int copy = 0);  // Next observations'.
  struct OnlineOutputs {
    at::Tensor now;   // Of the observations, with a gradient.
    at::Tensor next;  // Of the next ones, without; undefined unless double_q.
  };
  OnlineOutputs Online(const Batch& batch, int copy = 0);

  // The actions that the bootstrap takes, [B]: legal ones, chosen by the online
  // network with double_q, else by the target.
  at::Tensor ChooseNext(const Batch& batch, const at::Tensor& target_output,
                        const OnlineOutputs& online) const;

  // The target of a value: return + discount * next, rescaled if so configured.
  at::Tensor ValueTarget(const Batch& batch, const at::Tensor& next) const;

  const v1::AlgorithmConfig& config() const { return config_; }

 private:
  // ---- On the CPU.

  // Online, and what its backward passes need.
  OnlineOutputs TracedOnline(const Batch& batch, int copy);
  // Sets the gradient.
  void Backward(const at::Tensor& loss);
  // Norm, optimizer, targets.
  void Apply(UpdateResult& result);
  void Move(const Moves& moves);
  // target += tau (online - target), for network `target` of the targets and
  // `online` of the online ones.
  void MoveTarget(int target, int online, double tau);
  // Online network `to` takes the weights of online network `from`.
  void CopyOnline(int to, int from);

  // ---- On a device.

  // An update's scalars: the optimizer's, then its moves.
  static constexpr int kScalars = Optimizer::kScalars + 3;
  // An update's outputs: these, then the priorities.
  enum Output { kLoss, kNorm, kFinite, kMeanQ, kOutputs };

  bool staged() const { return placement_.staged; }
  // Of the update that will be number `update`.
  std::vector<float> ScalarsOf(int64_t update) const;
  int64_t forward_passes() const;
  // Forward passes of the next update, float32 [forward_passes(), noise size].
  void DrawNoise(const at::Tensor& to);
  at::Tensor NextNoise();
  at::Tensor Forward(const FlatParameters& parameters,
                     const at::Tensor& observation, int copy);

  UpdateResult UpdateOnDevice(const Batch& batch);
  void SetUp(const Batch& batch);
  // The function of tensors: inputs_ -> the pipeline's output.
  void Compute();
  // What follows the gradient. Gives the norm and, as 1 or 0, whether the
  // update was finite; if not, nothing has changed.
  struct Applied {
    at::Tensor norm;
    at::Tensor finite;
  };
  Applied ApplyOnDevice(const at::Tensor& loss, const at::Tensor& scalars);
  void MoveOnDevice(const at::Tensor& moves);
  // The result of the oldest run.
  UpdateResult Fetch();
  // Waits until the result of every run is known.
  void Settle();

  // ---- Several learners.

  UpdateResult UpdateTogetherOnDevice(const Batch& batch);
  // ApplyOnDevice, waited for.
  void ApplyOnDeviceNow(const at::Tensor& loss, UpdateResult& result);
  // The gradient becomes the average over all learners; false: there is none,
  // because nobody had a batch or `result.stopped`.
  bool Average(double max_weight, bool has_batch, bool stop,
               UpdateResult& result);

  // The named flat vectors of Save and Load.
  std::vector<Optimizer::Part> Parts();

  const Placement placement_;
  const v1::AlgorithmConfig config_;
  const v1::OptimizerConfig optimizer_config_;
  const std::shared_ptr<const Network> network_;
  FlatParameters online_;
  FlatParameters target_;
  const std::unique_ptr<Optimizer> optimizer_;
  NoiseSource noise_;
  Collective* const collective_;
  at::Tensor shared_;  // What is summed.

  // On the CPU: the forward passes of this update that have a gradient.
  struct Pass {
    Network::Trace trace;
    at::Tensor output;
  };
  std::vector<Pass> passes_;

  // On a device: the inputs of the update that is being made.
  at::Tensor noise_input_;
  int64_t pass_ = 0;  // The next forward pass's row of it.

  // Of one learner on a device, from its first batch on.
  std::optional<InputLayout> layout_;
  std::vector<StagedInputs> host_inputs_;  // Of each slot.
  std::optional<StagedInputs> inputs_;     // On the device.
  at::Tensor finite_before_;  // bool, there: the run before was not skipped.
  std::optional<UpdateResult> settled_;  // Known, and owed by Update.
  std::unique_ptr<DevicePipeline> pipeline_;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_ALGORITHMS_VALUE_ALGORITHM_H_
