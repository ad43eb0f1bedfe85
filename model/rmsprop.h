// Centred RMSProp (Graves 2013; Mnih et al. 2015):
//   m = decay m + (1 - decay) g          v = decay v + (1 - decay) g^2
//   x -= lr * g / (sqrt(v - m^2) + epsilon)
// which is torch.optim.RMSprop(centered=True)'s form: epsilon outside the root
// (TensorFlow and the original have it inside). v - m^2 is a variance; where
// rounding makes it negative it counts as 0.

#ifndef QFLEET_MODEL_RMSPROP_H_
#define QFLEET_MODEL_RMSPROP_H_

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

  RmsProp(const Options& options, int64_t size)
      : options_(options), mean_(size), square_(size) {}

  void Step(absl::Span<float> parameters, absl::Span<const float> gradient,
            double gradient_scale, double learning_rate) override;
  std::vector<Part> State() override {
    return {{"rmsprop.mean", absl::MakeSpan(mean_)},
            {"rmsprop.mean_square", absl::MakeSpan(square_)}};
  }

 private:
  const Options options_;
  std::vector<float> mean_;
  std::vector<float> square_;
};

}  // namespace qfleet

#endif  // QFLEET_MODEL_RMSPROP_H_
