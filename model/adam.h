// Adam (Kingma and Ba 2015, algorithm 1):
//   m = beta1 m + (1 - beta1) g          v = beta2 v + (1 - beta2) g^2
//   x -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
// which is torch.optim.Adam's form: epsilon outside the root.

#ifndef QFLEET_MODEL_ADAM_H_
#define QFLEET_MODEL_ADAM_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "model/optimizer.h"

namespace qfleet {

class Adam : public Optimizer {
 public:
  struct Options {
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-8;
  };

  Adam(const Options& options, int64_t size, at::Device device = at::kCPU);

  void Step(absl::Span<float> parameters, absl::Span<const float> gradient,
            double gradient_scale, double learning_rate) override;
  std::array<float, kScalars> Scalars(int64_t step,
                                      double learning_rate) const override;
  void StepTensors(const at::Tensor& parameters, const at::Tensor& gradient,
                   const at::Tensor& finite,
                   const at::Tensor& scalars) override;
  std::vector<Part> State() override {
    return {{"adam.first_moment", first_}, {"adam.second_moment", second_}};
  }

 private:
  const Options options_;
  at::Tensor first_;
  at::Tensor second_;
};

}  // namespace qfleet

#endif  // QFLEET_MODEL_ADAM_H_
