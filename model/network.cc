#include "model/network.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/table_spec.h"

namespace qfleet {

absl::StatusOr<std::shared_ptr<const Network>> Network::Make(
    const v1::Config& all, const EnvironmentSpec& environment) {
  const v1::NetworkConfig& config = all.network();
  const v1::AlgorithmConfig& algorithm = all.algorithm();
  std::shared_ptr<Network> network(new Network);
  const v1::TensorSpec observation = StackedObservation(environment);
  if (observation.dtype() != v1::FLOAT32 && observation.dtype() != v1::UINT8) {
    return absl::InvalidArgumentError(absl::StrCat(
        "network: the observation is ", TensorTypeName(observation),
        ": allowed is float32 or uint8"));
  }
  network->dtype_ = observation.dtype();
  network->num_actions_ = environment.num_actions;
  network->dueling_ = config.dueling();
  std::string& signature = network->signature_;
  signature = absl::StrCat(TensorTypeName(observation));
  QFLEET_RETURN_IF_ERROR(network->AddConvolutions(config, observation));
  int64_t width = 1;
  if (network->layers_.empty()) {
    width = RowBytes(observation) / DTypeBytes(observation.dtype());
    network->input_shape_ = {width};
  } else {
    width = network->layers_.back().out;
  }
  absl::StrAppend(&signature, " mlp");
  for (int i = 0; i < config.hidden_size(); ++i) {
    absl::StrAppend(&signature, " ", config.hidden(i));
    network->AddLinear(absl::StrCat("encoder.", i), width, config.hidden(i),
                       config);
    width = config.hidden(i);
  }
  absl::StrAppend(&signature, network->dueling_ ? " dueling " : " plain ",
                  network->num_actions_);
  if (algorithm.has_rainbow() && algorithm.rainbow().distributional()) {
    const v1::RainbowConfig& rainbow = algorithm.rainbow();
    network->head_ = Head::kCategorical;
    network->atoms_ = rainbow.atoms();
    network->support_ =
        at::linspace(rainbow.v_min(), rainbow.v_max(), rainbow.atoms());
    absl::StrAppend(&signature, " atoms ", rainbow.atoms(), " from ",
                    rainbow.v_min(), " to ", rainbow.v_max());
  } else if (algorithm.has_qr_dqn()) {
    network->head_ = Head::kQuantiles;
    network->atoms_ = algorithm.qr_dqn().quantiles();
    absl::StrAppend(&signature, " quantiles ", network->atoms_);
  }
  // A dueling head is one layer whose first outputs are V, the rest A: one
  // matrix product instead of two.
  network->AddLinear(
      "head", width,
      (network->num_actions_ + (network->dueling_ ? 1 : 0)) * network->atoms_,
      config);
  if (config.noisy()) absl::StrAppend(&signature, " noisy");
  if (algorithm.has_i_dqn()) network->Repeat(algorithm.i_dqn().networks());
  return network;
}

absl::Status Network::AddConvolutions(const v1::NetworkConfig& config,
                                      const v1::TensorSpec& observation) {
  if (config.convolutions().empty()) return absl::OkStatus();
  const int rank = observation.shape_size();
  if (rank != 2 && rank != 3) {
    return absl::InvalidArgumentError(absl::StrCat(
        "network.convolutions: the observation is ",
        TensorTypeName(observation),
        ": allowed is [height, width] or [channels, height, width]"));
  }
  int64_t channels = rank == 3 ? observation.shape(0) : 1;
  int64_t height = observation.shape(rank - 2);
  int64_t width = observation.shape(rank - 1);
  input_shape_ = {channels, height, width};
  absl::StrAppend(&signature_, " conv");
  for (int i = 0; i < config.convolutions_size(); ++i) {
    const v1::ConvolutionConfig& layer = config.convolutions(i);
    const int64_t kernel = layer.kernel();
    if (kernel > std::min(height, width)) {
      return absl::InvalidArgumentError(
          absl::StrCat("network.convolutions[", i, "].kernel = ", kernel,
                       ": allowed is at most ", std::min(height, width)));
    }
    absl::StrAppend(&signature_, " ", layer.channels(), "@", kernel, "s",
                    layer.stride());
    const int64_t fan_in = channels * kernel * kernel;
    const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
    const std::string name = absl::StrCat("convolution.", i);
    AddParameter(name + ".weight", {layer.channels(), channels, kernel, kernel},
                 bound);
    AddParameter(name + ".bias", {layer.channels()}, bound);
    channels = layer.channels();
    height = (height - kernel) / layer.stride() + 1;
    width = (width - kernel) / layer.stride() + 1;
    layers_.push_back({.stride = layer.stride(),
                       .channels = channels,
                       .height = height,
                       .width = width,
                       .in = fan_in,
                       .out = channels * height * width});
  }
  return absl::OkStatus();
}

void Network::AddLinear(const std::string& name, int64_t in, int64_t out,
                        const v1::NetworkConfig& config) {
  Layer layer{.in = in, .out = out};
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  AddParameter(name + ".weight", {out, in}, bound);
  AddParameter(name + ".bias", {out}, bound);
  if (config.noisy()) {
    // Biases' noise starts at sigma / sqrt(in) too, as in the paper.
    const double sigma = config.noisy_sigma() * bound;
    AddParameter(name + ".weight_sigma", {out, in}, 0, sigma);
    AddParameter(name + ".bias_sigma", {out}, 0, sigma);
    layer.noise_offset = noise_size_;
    noise_size_ += in + out;
  }
  layers_.push_back(layer);
}

void Network::AddParameter(const std::string& name, std::vector<int64_t> shape,
                           double bound, double constant) {
  int64_t size = 1;
  for (int64_t extent : shape) size *= extent;
  parameters_.push_back({.name = name,
                         .shape = std::move(shape),
                         .offset = parameter_count_,
                         .size = size,
                         .bound = bound,
                         .constant = constant});
  parameter_count_ += size;
}

void Network::Repeat(int copies) {
  copies_ = copies;
  if (copies == 1) return;
  absl::StrAppend(&signature_, " x", copies);
  const std::vector<ParameterSpec> one = std::exchange(parameters_, {});
  const int64_t size = std::exchange(parameter_count_, 0);
  for (int k = 0; k < copies; ++k) {
    for (ParameterSpec spec : one) {
      spec.name = absl::StrCat("network.", k, ".", spec.name);
      spec.offset += k * size;
      parameters_.push_back(std::move(spec));
    }
  }
  parameter_count_ = copies * size;
}

at::Tensor Network::InputNoise(const Layer& layer,
                               const at::Tensor& noise) const {
  return noise.narrow(0, layer.noise_offset, layer.in);
}

at::Tensor Network::OutputNoise(const Layer& layer,
                                const at::Tensor& noise) const {
  return noise.narrow(0, layer.noise_offset + layer.in, layer.out);
}

at::Tensor Network::Linear(const Layer& layer, const at::Tensor* parameters,
                           const at::Tensor& x, const at::Tensor& noise,
                           Trace* trace) const {
  if (layer.noise_offset < 0 || !noise.defined()) {
    if (trace != nullptr) trace->weights.push_back(parameters[0]);
    return at::linear(x, parameters[0], parameters[1]);
  }
  const at::Tensor in = InputNoise(layer, noise);
  const at::Tensor out = OutputNoise(layer, noise);
  const at::Tensor weight =
      at::addcmul(parameters[0], parameters[2], at::outer(out, in));
  if (trace != nullptr) trace->weights.push_back(weight);
  return at::linear(x, weight, at::addcmul(parameters[1], parameters[3], out));
}

at::Tensor Network::Forward(absl::Span<const at::Tensor> views,
                            const at::Tensor& observation,
                            const at::Tensor& noise, int copy,
                            Trace* trace) const {
  const int64_t rows = observation.size(0);
  std::vector<int64_t> shape = {rows};
  shape.insert(shape.end(), input_shape_.begin(), input_shape_.end());
  at::Tensor x = observation.reshape(shape);
  if (dtype_ == v1::UINT8) x = x.to(at::kFloat).mul_(1.0 / 255);
  if (trace != nullptr) *trace = {.copy = copy, .noise = noise};
  const at::Tensor* parameters = &views[copy * (views.size() / copies_)];
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    if (layer.stride == 0 && x.dim() > 2) x = x.reshape({rows, layer.in});
    if (trace != nullptr) trace->inputs.push_back(x);
    if (layer.stride > 0) {
      if (trace != nullptr) trace->weights.push_back(parameters[0]);
      x = at::conv2d(x, parameters[0], parameters[1], layer.stride).relu_();
    } else {
      x = Linear(layer, parameters, x, noise, trace);
      if (i + 1 < layers_.size()) x = x.relu_();
    }
    parameters += layer.noise_offset < 0 ? 2 : 4;
  }
  if (head_ != Head::kValue) x = x.view({rows, -1, atoms_});
  if (!dueling_) return x;
  at::Tensor value = x.narrow(1, 0, 1);                 // [B, 1] or [B, 1, N]
  at::Tensor advantage = x.narrow(1, 1, num_actions_);  // [B, A] or [B, A, N]
  return value + advantage - advantage.mean(1, /*keepdim=*/true);
}

int Network::WeightIndex(int copy, size_t layer) const {
  size_t index = copy * (parameters_.size() / copies_);
  for (size_t i = 0; i < layer; ++i) {
    index += layers_[i].noise_offset < 0 ? 2 : 4;
  }
  return static_cast<int>(index);
}

void Network::Backward(absl::Span<const at::Tensor> views, const Trace& trace,
                       at::Tensor output,
                       absl::Span<const at::Tensor> gradients) const {
  const int64_t rows = output.size(0);
  if (dueling_) {
    output = at::cat({output.sum(1, /*keepdim=*/true),
                      output - output.mean(1, /*keepdim=*/true)},
                     1);
  }
  at::Tensor g = output.reshape({rows, -1});
  const size_t per_copy = views.size() / copies_;
  const at::Tensor* end =
      gradients.data() + (trace.copy + 1) * per_copy;  // Of the layer.
  for (size_t i = layers_.size(); i-- > 0;) {
    const Layer& layer = layers_[i];
    const at::Tensor* own = end - (layer.noise_offset < 0 ? 2 : 4);
    const at::Tensor x = trace.inputs[i].narrow(0, 0, rows);
    at::Tensor inputs;
    if (layer.stride > 0) {
      at::Tensor weight, bias;
      std::tie(inputs, weight, bias) = at::convolution_backward(
          g, x, trace.weights[i], own[1].sizes(), {layer.stride, layer.stride},
          {0, 0}, {1, 1}, /*transposed=*/false, {0, 0}, /*groups=*/1,
          {i > 0, true, true});
      own[0].copy_(weight);
      own[1].copy_(bias);
    } else {
      inputs = LinearBackward(layer, own, x, trace.weights[i], trace.noise, g,
                              /*inputs=*/i > 0);
    }
    if (i == 0) break;
    // Through the layer before's ReLU, whose output x is.
    g = at::threshold_backward(inputs, x, 0);
    if (layers_[i - 1].stride > 0 && g.dim() == 2) {
      const Layer& before = layers_[i - 1];
      g = g.view({rows, before.channels, before.height, before.width});
    }
    end = own;
  }
}

at::Tensor Network::LinearBackward(
    const Layer& layer, const at::Tensor* gradients, const at::Tensor& x,
    const at::Tensor& weight, const at::Tensor& noise, const at::Tensor& output,
    bool inputs) const {
  at::Tensor of_weight = gradients[0], of_bias = gradients[1];
  at::mm_out(of_weight, output.t(), x);
  at::sum_out(of_bias, output, 0);
  if (layer.noise_offset >= 0) {
    at::Tensor of_sigma = gradients[2], of_bias_sigma = gradients[3];
    if (noise.defined()) {
      const at::Tensor out = OutputNoise(layer, noise);
      at::mul_out(of_sigma, of_weight,
                  at::outer(out, InputNoise(layer, noise)));
      at::mul_out(of_bias_sigma, of_bias, out);
    } else {
      of_sigma.zero_();
      of_bias_sigma.zero_();
    }
  }
  return inputs ? output.mm(weight) : at::Tensor();
}

std::shared_ptr<const Network> Network::On(at::Device device) const {
  std::shared_ptr<Network> copy(new Network(*this));
  if (support_.defined()) copy->support_ = support_.to(device);
  return copy;
}

at::Tensor Network::Values(const at::Tensor& output) const {
  switch (head_) {
    case Head::kCategorical:
      return output.softmax(2).matmul(support_);
    case Head::kQuantiles:
      return output.mean(2);
    case Head::kValue:
      break;
  }
  return output;
}

FlatParameters::FlatParameters(const Network& network, bool trainable,
                               at::Device device)
    : flat_(at::zeros({network.parameter_count()},
                      at::TensorOptions(at::kFloat).device(device))) {
  if (trainable) gradient_ = at::zeros_like(flat_);
  for (const ParameterSpec& spec : network.parameters()) {
    // A leaf of its own that shares memory: a differentiable view of the flat
    // vector would make each backward pass build full-size gradients.
    at::Tensor view =
        flat_.narrow(0, spec.offset, spec.size).view(spec.shape).detach();
    if (trainable) {
      view.requires_grad_(true);
      gradient_views_.push_back(
          gradient_.narrow(0, spec.offset, spec.size).view(spec.shape));
      view.mutable_grad() = gradient_views_.back();
    }
    views_.push_back(std::move(view));
  }
}

void FlatParameters::Initialize(const Network& network, Random& random) {
  const at::Tensor host = flat_.to(at::kCPU);  // Itself, on the CPU.
  const auto all = absl::MakeSpan(host.data_ptr<float>(), host.numel());
  for (const ParameterSpec& spec : network.parameters()) {
    for (float& value : all.subspan(spec.offset, spec.size)) {
      value = static_cast<float>(spec.bound > 0
                                     ? random.Uniform(-spec.bound, spec.bound)
                                     : spec.constant);
    }
  }
  if (!flat_.is_cpu()) flat_.copy_(host);
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
  if (!gradient_.is_cpu()) {
    gradient_.zero_();
    return;
  }
  absl::Span<float> all = gradient();
  std::memset(all.data(), 0, all.size() * sizeof(float));
}

void FlatParameters::CopyFrom(const FlatParameters& other) {
  flat_.copy_(other.flat_);
}

at::Tensor NoiseSource::Sample() {
  if (size_ == 0) return {};
  at::Tensor noise = at::empty({size_}, at::kFloat);
  Sample(noise.data_ptr<float>());
  return noise;
}

void NoiseSource::Sample(float* values) {
  for (int64_t i = 0; i < size_; i += 2) {
    // Box and Muller's pair of standard normals; 1 - u is never 0.
    const double radius = std::sqrt(-2 * std::log(1 - random_.Uniform()));
    const double angle = 2 * std::numbers::pi * random_.Uniform();
    const double pair[2] = {radius * std::cos(angle), radius * std::sin(angle)};
    for (int64_t j = i; j < std::min(i + 2, size_); ++j) {
      const double x = pair[j - i];
      values[j] = static_cast<float>(std::copysign(std::sqrt(std::abs(x)), x));
    }
  }
}

}  // namespace qfleet
