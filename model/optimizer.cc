// Compiled with -fno-math-errno -fno-trapping-math, without which the square
// roots keep the loops from being vectorised.

#include "model/optimizer.h"

#include <ATen/ATen.h>

#include <cmath>

#include "common/schedule.h"
#include "model/adam.h"
#include "model/rmsprop.h"

// The loops over all parameters, for the widest vectors that the processor has,
// chosen when the program starts.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define QFLEET_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define QFLEET_CLONES
#endif

namespace qfleet {

std::unique_ptr<Optimizer> MakeOptimizer(const v1::OptimizerConfig& config,
                                         int64_t size, at::Device device) {
  if (config.has_rmsprop()) {
    return std::make_unique<RmsProp>(
        RmsProp::Options{.decay = config.rmsprop().decay(),
                         .epsilon = config.rmsprop().epsilon()},
        size, device);
  }
  return std::make_unique<Adam>(
      Adam::Options{.beta1 = config.adam().beta1(),
                    .beta2 = config.adam().beta2(),
                    .epsilon = config.adam().epsilon()},
      size, device);
}

namespace {

QFLEET_CLONES void AdamLoop(int64_t size, float* __restrict x,
                            const float* __restrict g, float* __restrict m,
                            float* __restrict v, float scale, float beta1,
                            float beta2, float step, float root_scale,
                            float epsilon) {
  const float rest1 = 1 - beta1;
  const float rest2 = 1 - beta2;
  for (int64_t i = 0; i < size; ++i) {
    const float gi = g[i] * scale;
    m[i] = beta1 * m[i] + rest1 * gi;
    v[i] = beta2 * v[i] + rest2 * gi * gi;
    x[i] -= step * m[i] / (std::sqrt(v[i]) * root_scale + epsilon);
  }
}

QFLEET_CLONES void RmsPropLoop(int64_t size, float* __restrict x,
                               const float* __restrict g, float* __restrict m,
                               float* __restrict v, float scale, float decay,
                               float step, float epsilon) {
  const float rest = 1 - decay;
  for (int64_t i = 0; i < size; ++i) {
    const float gi = g[i] * scale;
    m[i] = decay * m[i] + rest * gi;
    v[i] = decay * v[i] + rest * gi * gi;
    const float variance = v[i] - m[i] * m[i];
    x[i] -= step * gi / (std::sqrt(variance > 0 ? variance : 0.0f) + epsilon);
  }
}

at::Tensor Zeros(int64_t size, at::Device device) {
  return at::zeros({size}, at::TensorOptions(at::kFloat).device(device));
}

// Of a running mean, what it keeps of itself: all of it where not finite.
at::Tensor Kept(const at::Tensor& finite, float decay) {
  return finite * (decay - 1) + 1;
}

}  // namespace

Adam::Adam(const Options& options, int64_t size, at::Device device)
    : options_(options),
      first_(Zeros(size, device)),
      second_(Zeros(size, device)) {}

std::array<float, Optimizer::kScalars> Adam::Scalars(
    int64_t step, double learning_rate) const {
  const double t = static_cast<double>(step);
  const double correction1 = 1 - std::pow(options_.beta1, t);
  const double correction2 = 1 - std::pow(options_.beta2, t);
  return {static_cast<float>(learning_rate / correction1),
          static_cast<float>(1 / std::sqrt(correction2))};
}

void Adam::StepTensors(const at::Tensor& parameters, const at::Tensor& gradient,
                       const at::Tensor& finite, const at::Tensor& scalars) {
  const float beta1 = static_cast<float>(options_.beta1);
  const float beta2 = static_cast<float>(options_.beta2);
  first_.mul_(Kept(finite, beta1)).add_(gradient, 1 - beta1);
  second_.mul_(Kept(finite, beta2)).addcmul_(gradient, gradient, 1 - beta2);
  const at::Tensor divisor =
      second_.sqrt().mul_(scalars[1]).add_(options_.epsilon);
  parameters.sub_(first_.div(divisor).mul_(scalars[0] * finite));
}

void Adam::Step(absl::Span<float> parameters, absl::Span<const float> gradient,
                double gradient_scale, double learning_rate) {
  ++steps_;
  const auto [step, root_scale] = Scalars(steps_, learning_rate);
  const float scale = static_cast<float>(gradient_scale);
  const float beta1 = static_cast<float>(options_.beta1);
  const float beta2 = static_cast<float>(options_.beta2);
  const float epsilon = static_cast<float>(options_.epsilon);
  AdamLoop(static_cast<int64_t>(parameters.size()), parameters.data(),
           gradient.data(), first_.data_ptr<float>(), second_.data_ptr<float>(),
           scale, beta1, beta2, step, root_scale, epsilon);
}

RmsProp::RmsProp(const Options& options, int64_t size, at::Device device)
    : options_(options),
      mean_(Zeros(size, device)),
      square_(Zeros(size, device)) {}

std::array<float, Optimizer::kScalars> RmsProp::Scalars(
    int64_t /*step*/, double learning_rate) const {
  return {static_cast<float>(learning_rate), 0};
}

void RmsProp::StepTensors(const at::Tensor& parameters,
                          const at::Tensor& gradient, const at::Tensor& finite,
                          const at::Tensor& scalars) {
  const float decay = static_cast<float>(options_.decay);
  const at::Tensor kept = Kept(finite, decay);
  mean_.mul_(kept).add_(gradient, 1 - decay);
  square_.mul_(kept).addcmul_(gradient, gradient, 1 - decay);
  const at::Tensor divisor = at::addcmul(square_, mean_, mean_, -1)
                                 .clamp_min_(0)
                                 .sqrt_()
                                 .add_(options_.epsilon);
  parameters.sub_(gradient.div(divisor).mul_(scalars[0]));
}

void RmsProp::Step(absl::Span<float> parameters,
                   absl::Span<const float> gradient, double gradient_scale,
                   double learning_rate) {
  ++steps_;
  const float scale = static_cast<float>(gradient_scale);
  const float decay = static_cast<float>(options_.decay);
  RmsPropLoop(static_cast<int64_t>(parameters.size()), parameters.data(),
              gradient.data(), mean_.data_ptr<float>(),
              square_.data_ptr<float>(), scale, decay,
              static_cast<float>(learning_rate),
              static_cast<float>(options_.epsilon));
}

double LearningRate(const v1::OptimizerConfig& config, int64_t updates) {
  return config.learning_rate() * Linear(1, config.final_learning_rate_share(),
                                         config.decay_updates(), updates);
}

QFLEET_CLONES double Norm(absl::Span<const float> values) {
  // Eight partial sums: vectorises without reassociating one.
  double sums[8] = {};
  size_t i = 0;
  for (; i + 8 <= values.size(); i += 8) {
    for (int j = 0; j < 8; ++j) {
      sums[j] += static_cast<double>(values[i + j]) * values[i + j];
    }
  }
  double total = 0;
  for (; i < values.size(); ++i) {
    total += static_cast<double>(values[i]) * values[i];
  }
  for (double sum : sums) total += sum;
  return std::sqrt(total);
}

}  // namespace qfleet
