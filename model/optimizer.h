// Optimizers over a flat parameter vector. A step has two forms that do the
// same but for rounding: Step, one pass on the CPU, and StepTensors, a few
// tensor operations on any device, which decide nothing on the host and take
// all that changes from step to step as tensors, so that a CUDA graph can hold
// them.

#ifndef QFLEET_MODEL_OPTIMIZER_H_
#define QFLEET_MODEL_OPTIMIZER_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// Thread-compatible.
class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // `gradient` times `gradient_scale` is applied to `parameters`.
  virtual void Step(absl::Span<float> parameters,
                    absl::Span<const float> gradient, double gradient_scale,
                    double learning_rate) = 0;

  // What step number `step` (1, 2, ...) has of its own, for StepTensors.
  static constexpr int kScalars = 2;
  virtual std::array<float, kScalars> Scalars(int64_t step,
                                              double learning_rate) const = 0;
  // float32 [size] where the state is; `scalars`: float32 [kScalars] there.
  // `finite`: float32 of no dimension, 1 or 0; 0: the gradient is 0, and
  // neither parameters nor state change. Does not count the step.
  virtual void StepTensors(const at::Tensor& parameters,
                           const at::Tensor& gradient, const at::Tensor& finite,
                           const at::Tensor& scalars) = 0;

  // State, for checkpoints: the steps so far and flat vectors by name, which
  // share the memory.
  struct Part {
    const char* name;
    at::Tensor values;
  };
  virtual std::vector<Part> State() = 0;
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 protected:
  int64_t steps_ = 0;
};

// The one that `config` names, for `size` parameters on `device`.
std::unique_ptr<Optimizer> MakeOptimizer(const v1::OptimizerConfig& config,
                                         int64_t size,
                                         at::Device device = at::kCPU);

// The learning rate after `updates` updates.
double LearningRate(const v1::OptimizerConfig& config, int64_t updates);

// Euclidean norm.
double Norm(absl::Span<const float> values);

}  // namespace qfleet

#endif  // QFLEET_MODEL_OPTIMIZER_H_
