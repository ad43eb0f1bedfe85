#include "model/network.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/table_spec.h"

namespace qfleet {

absl::StatusOr<std::shared_ptr<const Network>> Network::Make(
    const v1::NetworkConfig& config, const EnvironmentSpec& environment) {
  std::shared_ptr<Network> network(new Network);
  const v1::TensorSpec& observation = environment.observation;
  if (observation.dtype() != v1::FLOAT32 && observation.dtype() != v1::UINT8) {
    return absl::InvalidArgumentError(absl::StrCat(
        "network: the observation is ", TensorTypeName(observation),
        ": allowed is float32 or uint8"));
  }
  network->dtype_ = observation.dtype();
  network->observation_size_ =
      RowBytes(observation) / DTypeBytes(observation.dtype());
  network->num_actions_ = environment.num_actions;
  network->dueling_ = config.dueling();
  network->signature_ = absl::StrCat(TensorTypeName(observation), " mlp");
  int64_t width = network->observation_size_;
  for (int i = 0; i < config.hidden_size(); ++i) {
    absl::StrAppend(&network->signature_, " ", config.hidden(i));
    network->AddLinear(absl::StrCat("encoder.", i), width, config.hidden(i));
    width = config.hidden(i);
  }
  absl::StrAppend(&network->signature_,
                  network->dueling_ ? " dueling " : " plain ",
                  network->num_actions_);
  // A dueling head is one layer whose first output is V, the rest A: one
  // matrix product instead of two.
  network->AddLinear("head", width,
                     network->num_actions_ + (network->dueling_ ? 1 : 0));
  return network;
}

void Network::AddLinear(const std::string& name, int64_t in, int64_t out) {
  auto add = [&](const char* part, std::vector<int64_t> shape, int64_t size) {
    parameters_.push_back({.name = absl::StrCat(name, ".", part),
                           .shape = std::move(shape),
                           .offset = parameter_count_,
                           .size = size,
                           .fan_in = in});
    parameter_count_ += size;
  };
  add("weight", {out, in}, out * in);
  add("bias", {out}, out);
}

at::Tensor Network::Forward(absl::Span<const at::Tensor> views,
                            const at::Tensor& observation) const {
  at::Tensor x = observation.reshape({observation.size(0), observation_size_});
  if (dtype_ == v1::UINT8) x = x.to(at::kFloat).mul_(1.0 / 255);
  const size_t layers = views.size() / 2;
  for (size_t i = 0; i + 1 < layers; ++i) {
    x = at::linear(x, views[2 * i], views[2 * i + 1]).relu_();
  }
  x = at::linear(x, views[2 * layers - 2], views[2 * layers - 1]);
  if (!dueling_) return x;
  at::Tensor value = x.narrow(1, 0, 1);                 // [B, 1]
  at::Tensor advantage = x.narrow(1, 1, num_actions_);  // [B, A]
  return value + advantage - advantage.mean(1, /*keepdim=*/true);
}

FlatParameters::FlatParameters(const Network& network, bool trainable)
    : flat_(at::zeros({network.parameter_count()}, at::kFloat)) {
  if (trainable) gradient_ = at::zeros_like(flat_);
  for (const ParameterSpec& spec : network.parameters()) {
    // A leaf of its own that shares memory: a differentiable view of the flat
    // vector would make each backward pass build full-size gradients.
    at::Tensor view =
        flat_.narrow(0, spec.offset, spec.size).view(spec.shape).detach();
    if (trainable) {
      view.requires_grad_(true);
      view.mutable_grad() =
          gradient_.narrow(0, spec.offset, spec.size).view(spec.shape);
    }
    views_.push_back(std::move(view));
  }
}

void FlatParameters::Initialize(const Network& network, Random& random) {
  absl::Span<float> all = values();
  for (const ParameterSpec& spec : network.parameters()) {
    const double bound = 1 / std::sqrt(static_cast<double>(spec.fan_in));
    for (float& value : all.subspan(spec.offset, spec.size)) {
      value = static_cast<float>(random.Uniform(-bound, bound));
    }
  }
}

absl::Span<float> FlatParameters::values() {
  return absl::MakeSpan(flat_.data_ptr<float>(), flat_.numel());
}

absl::Span<const float> FlatParameters::values() const {
  return absl::MakeConstSpan(flat_.data_ptr<float>(), flat_.numel());
}

absl::Span<float> FlatParameters::gradient() {
  if (!gradient_.defined()) return {};
  return absl::MakeSpan(gradient_.data_ptr<float>(), gradient_.numel());
}

void FlatParameters::ZeroGradient() {
  absl::Span<float> all = gradient();
  std::memset(all.data(), 0, all.size() * sizeof(float));
}

void FlatParameters::CopyFrom(const FlatParameters& other) {
  absl::Span<const float> from = other.values();
  std::memcpy(values().data(), from.data(), from.size() * sizeof(float));
}

}  // namespace qfleet
