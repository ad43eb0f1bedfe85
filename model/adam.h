// Adam (Kingma and Ba 2015, algorithm 1) over a flat parameter vector, in one
// pass:
//   m = beta1 m + (1 - beta1) g          v = beta2 v + (1 - beta2) g^2
//   x -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
// which is torch.optim.Adam's form: epsilon outside the root.

#ifndef QFLEET_MODEL_ADAM_H_
#define QFLEET_MODEL_ADAM_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace qfleet {

// Thread-compatible.
class Adam {
 public:
  struct Options {
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-8;
  };

  Adam(const Options& options, int64_t size)
      : options_(options), first_(size), second_(size) {}

  // `gradient` times `gradient_scale` is applied.
  void Step(absl::Span<float> parameters, absl::Span<const float> gradient,
            double gradient_scale, double learning_rate);

  // State, for checkpoints.
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  std::vector<float>& first_moment() { return first_; }
  std::vector<float>& second_moment() { return second_; }

 private:
  const Options options_;
  int64_t steps_ = 0;
  std::vector<float> first_;
  std::vector<float> second_;
};

// Euclidean norm.
double Norm(absl::Span<const float> values);

}  // namespace qfleet

#endif  // QFLEET_MODEL_ADAM_H_
