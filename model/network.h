// A Q-network: a pure function of its parameters and an observation.
//
// The parameters of a network are views into one flat vector (see
// FlatParameters): one optimizer pass, one copy to publish, one checksum.
//
//   QFLEET_ASSIGN_OR_RETURN(auto network, Network::Make(config, environment));
//   FlatParameters parameters(*network);
//   parameters.Initialize(*network, random);
//   at::Tensor q = network->Values(
//       network->Forward(parameters.views(), observation));
//
// A backward pass is autograd's, where gradients are enabled, or Backward of a
// Trace.
//
// Layers: convolutions and fully connected ones, each with ReLU, then the head,
// plain or dueling (Wang et al. 2016: Q = V + A - mean(A)). What the head gives
// for an action is a value, or N numbers that describe a distribution of
// returns: logits of a categorical one over fixed atoms (Bellemare et al. 2017)
// or its quantiles (Dabney et al. 2018).
//
// With noise (Fortunato et al. 2018) a fully connected layer's weights are
//   w = mu + sigma * f(e_out) f(e_in)^T    b = mu_b + sigma_b * f(e_out)
// with f(x) = sign(x) sqrt(|x|) and e standard normal; see NoiseSource.
//
// An algorithm may learn several networks of this shape at once (i-DQN): the
// flat vector then holds their parameters one after another.

#ifndef QFLEET_MODEL_NETWORK_H_
#define QFLEET_MODEL_NETWORK_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/random.h"
#include "envs/environment.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

struct ParameterSpec {
  std::string name;            // "encoder.0.weight"
  std::vector<int64_t> shape;  // Weights are [out, in] or [out, in, k, k].
  int64_t offset = 0;          // Into the flat vector, in elements.
  int64_t size = 0;
  // Initial values are uniform in +- bound, or all `constant` if that is 0.
  // The bound is 1/sqrt(fan-in), biases' too, as in LibTorch's layers.
  double bound = 0;
  double constant = 0;
};

// Immutable, so thread-safe.
class Network {
 public:
  // What the head gives for each action.
  enum class Head { kValue, kCategorical, kQuantiles };

  // The network that config.network() and config.algorithm() ask for.
  // INVALID_ARGUMENT if it does not fit the observation.
  static absl::StatusOr<std::shared_ptr<const Network>> Make(
      const v1::Config& config, const EnvironmentSpec& environment);

  // What two processes compare: "float32[4] mlp 128 128 dueling 2".
  const std::string& signature() const { return signature_; }
  int num_actions() const { return num_actions_; }
  // Networks of this shape in one flat vector.
  int copies() const { return copies_; }
  // Of all copies.
  const std::vector<ParameterSpec>& parameters() const { return parameters_; }
  int64_t parameter_count() const { return parameter_count_; }
  // Elements of one copy; copy k begins at k times that.
  int64_t copy_size() const { return parameter_count_ / copies_; }
  // Elements of the noise of one forward pass; 0: the network has none.
  int64_t noise_size() const { return noise_size_; }

  Head head() const { return head_; }
  // The same network for tensors on `device`. (Parameters are not its own.)
  std::shared_ptr<const Network> On(at::Device device) const;

  // Returns of the categorical head's atoms, float32 [N].
  const at::Tensor& support() const { return support_; }

  // What a forward pass leaves for the backward pass.
  struct Trace {
    int copy = 0;
    at::Tensor noise;
    // Of each layer: what it was given, [B, in...], and, with noise, its
    // weights.
    std::vector<at::Tensor> inputs;
    std::vector<at::Tensor> weights;
  };

  // observation [B, observation...] of its dtype (uint8 is scaled to [0, 1])
  // -> what the head gives, float32 [B, actions] or [B, actions, N].
  // `noise`: of NoiseSource::Sample(), or undefined: the mean weights.
  at::Tensor Forward(absl::Span<const at::Tensor> views,
                     const at::Tensor& observation,
                     const at::Tensor& noise = {}, int copy = 0,
                     Trace* trace = nullptr) const;

  // The gradient of a scalar by the parameters of the trace's copy, from that
  // by the output of the first rows of its forward pass, as many as `output`
  // has. It is set in `gradients`, views as `views`. For small networks on the
  // CPU: without autograd, whose bookkeeping is a good part of their update.
  void Backward(absl::Span<const at::Tensor> views, const Trace& trace,
                at::Tensor output,
                absl::Span<const at::Tensor> gradients) const;

  // Which of parameters() is the weight of a copy's layer, whose input is
  // Trace::inputs[layer].
  int WeightIndex(int copy, size_t layer) const;

  // The expected returns of what Forward gave, float32 [B, actions].
  at::Tensor Values(const at::Tensor& output) const;

 private:
  struct Layer {
    int64_t stride = 0;  // Of a convolution; 0: fully connected.
    int64_t channels = 0, height = 0, width = 0;  // Of its output.
    int64_t in = 0;
    int64_t out = 0;
    int64_t noise_offset = -1;  // -1: no noise.
  };

  Network() = default;
  absl::Status AddConvolutions(const v1::NetworkConfig& config,
                               const v1::TensorSpec& observation);
  void AddLinear(const std::string& name, int64_t in, int64_t out,
                 const v1::NetworkConfig& config);
  void AddParameter(const std::string& name, std::vector<int64_t> shape,
                    double bound, double constant = 0);
  void Repeat(int copies);
  at::Tensor Linear(const Layer& layer, const at::Tensor* parameters,
                    const at::Tensor& x, const at::Tensor& noise,
                    Trace* trace) const;
  // Of the layer's outer product of noise, [out, in], and its outputs', [out].
  at::Tensor InputNoise(const Layer& layer, const at::Tensor& noise) const;
  at::Tensor OutputNoise(const Layer& layer, const at::Tensor& noise) const;
  // Of a layer, from `output` by its outputs to that by its inputs (undefined
  // where `inputs` is false).
  at::Tensor LinearBackward(const Layer& layer, const at::Tensor* gradients,
                            const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& noise, const at::Tensor& output,
                            bool inputs) const;

  std::string signature_;
  v1::DType dtype_ = v1::FLOAT32;
  std::vector<int64_t> input_shape_;  // Of a row, for the first layer.
  int num_actions_ = 0;
  bool dueling_ = false;
  Head head_ = Head::kValue;
  int64_t atoms_ = 1;
  at::Tensor support_;
  std::vector<Layer> layers_;
  std::vector<ParameterSpec> parameters_;
  int64_t parameter_count_ = 0;
  int64_t noise_size_ = 0;
  int copies_ = 1;
};

// The parameters of a network in one flat float32 vector, on the CPU unless a
// device is named. Thread-compatible.
class FlatParameters {
 public:
  // Zeros. With `trainable` there is a flat gradient as well, which a backward
  // pass adds to.
  explicit FlatParameters(const Network& network, bool trainable = false,
                          at::Device device = at::kCPU);

  void Initialize(const Network& network, Random& random);

  // One tensor for each parameter, sharing the flat vector's memory.
  absl::Span<const at::Tensor> views() const { return views_; }

  // On the CPU only.
  absl::Span<float> values();
  absl::Span<const float> values() const;
  // Empty unless trainable. On the CPU only.
  absl::Span<float> gradient();

  // The same as tensors, wherever they are.
  const at::Tensor& tensor() const { return flat_; }
  const at::Tensor& gradient_tensor() const { return gradient_; }

  // As views(), of the gradient. Empty unless trainable.
  absl::Span<const at::Tensor> gradient_views() const {
    return gradient_views_;
  }

  void ZeroGradient();

  void CopyFrom(const FlatParameters& other);

 private:
  at::Tensor flat_;
  at::Tensor gradient_;
  std::vector<at::Tensor> views_;
  std::vector<at::Tensor> gradient_views_;
};

// Noise for the forward passes of a noisy network. Thread-compatible.
class NoiseSource {
 public:
  NoiseSource(const Network& network, uint64_t seed)
      : size_(network.noise_size()), random_(seed) {}

  // A new draw, float32 [network.noise_size()]; undefined if that is 0.
  at::Tensor Sample();
  // The same into memory of that size.
  void Sample(float* values);

  Random& random() { return random_; }

 private:
  const int64_t size_;
  Random random_;
};

}  // namespace qfleet

#endif  // QFLEET_MODEL_NETWORK_H_
