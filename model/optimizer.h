// Optimizers over a flat parameter vector, each step in one pass.

#ifndef QFLEET_MODEL_OPTIMIZER_H_
#define QFLEET_MODEL_OPTIMIZER_H_

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

  // State, for checkpoints: the steps so far and vectors by name.
  struct Part {
    const char* name;
    absl::Span<float> values;
  };
  virtual std::vector<Part> State() = 0;
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 protected:
  int64_t steps_ = 0;
};

// The one that `config` names, for `size` parameters.
std::unique_ptr<Optimizer> MakeOptimizer(const v1::OptimizerConfig& config,
                                         int64_t size);

// The learning rate after `updates` updates.
double LearningRate(const v1::OptimizerConfig& config, int64_t updates);

// Euclidean norm.
double Norm(absl::Span<const float> values);

}  // namespace qfleet

#endif  // QFLEET_MODEL_OPTIMIZER_H_
