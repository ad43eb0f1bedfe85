// Centred RMSProp (Graves 2013; Mnih et al. 2015):
//   m = decay m + (1 - decay) g          v = decay v + (1 - decay) g^2
//   x -= lr * g / (sqrt(v - m^2) + epsilon)
// which is torch.optim.RMSprop(centered=True)'s form: epsilon outside the root
// (TensorFlow and the original have it inside). v - m^2 is a variance; where
// rounding makes it negative it counts as 0.

#ifndef QFLEET_MODEL_RMSPROP_H_
#define QFLEET_MODEL_RMSPROP_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "model/optimizer.h"

namespace qfleet {

class RmsProp : public Optimizer {
 public:
  struct Options {
    double decay = 0.95;
    double epsilon = 0.01;
  };

  RmsProp(const Options& options, int64_t size, at::Device device = at::kCPU);

  void Step(absl::Span<float> parameters, absl::Span<const float> gradient,
            double gradient_scale, double learning_rate) override;
  std::array<float, kScalars> Scalars(int64_t step,
                                      double learning_rate) const override;
  void StepTensors(const at::Tensor& parameters, const at::Tensor& gradient,
                   const at::Tensor& finite,
                   const at::Tensor& scalars) override;
  std::vector<Part> State() override {
    return {{"rmsprop.mean", mean_}, {"rmsprop.mean_square", square_}};
  }

 private:
  const Options options_;
  at::Tensor mean_;
  at::Tensor square_;
};

}  // namespace qfleet

#endif  // QFLEET_MODEL_RMSPROP_H_
