// A Q-network: a pure function of its parameters and an observation.
//
// The parameters of a network are views into one flat vector (see
// FlatParameters): one optimizer pass, one copy to publish, one checksum.
//
//   QFLEET_ASSIGN_OR_RETURN(auto network, Network::Make(config, environment));
//   FlatParameters parameters(*network);
//   parameters.Initialize(random);
//   at::Tensor q = network->Forward(parameters.views(), observation);
//
// Networks: an encoder (multilayer perceptron with ReLU) and a head, plain or
// dueling (Wang et al. 2016: Q = V + A - mean(A)).

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
  std::vector<int64_t> shape;  // Weights are [out, in].
  int64_t offset = 0;          // Into the flat vector, in elements.
  int64_t size = 0;
  // Initial values are uniform in +- 1/sqrt(fan_in), biases too (LibTorch's
  // Linear).
  int64_t fan_in = 0;
};

// Immutable, so thread-safe.
class Network {
 public:
  static absl::StatusOr<std::shared_ptr<const Network>> Make(
      const v1::NetworkConfig& config, const EnvironmentSpec& environment);

  // What two processes compare: "float32[4] mlp 128 128 dueling 2".
  const std::string& signature() const { return signature_; }
  int num_actions() const { return num_actions_; }
  const std::vector<ParameterSpec>& parameters() const { return parameters_; }
  int64_t parameter_count() const { return parameter_count_; }

  // observation [B, observation...] of its dtype (uint8 is scaled to [0, 1])
  // -> Q-values float32 [B, actions].
  at::Tensor Forward(absl::Span<const at::Tensor> views,
                     const at::Tensor& observation) const;

 private:
  Network() = default;
  void AddLinear(const std::string& name, int64_t in, int64_t out);

  std::string signature_;
  v1::DType dtype_ = v1::FLOAT32;
  int64_t observation_size_ = 0;
  int num_actions_ = 0;
  bool dueling_ = false;
  std::vector<ParameterSpec> parameters_;
  int64_t parameter_count_ = 0;
};

// The parameters of a network in one flat float32 vector.
// Thread-compatible.
class FlatParameters {
 public:
  // Zeros. With `trainable` there is a flat gradient as well, which a backward
  // pass adds to.
  explicit FlatParameters(const Network& network, bool trainable = false);

  void Initialize(const Network& network, Random& random);

  // One tensor for each parameter, sharing the flat vector's memory.
  absl::Span<const at::Tensor> views() const { return views_; }

  absl::Span<float> values();
  absl::Span<const float> values() const;
  // Empty unless trainable.
  absl::Span<float> gradient();
  void ZeroGradient();

  void CopyFrom(const FlatParameters& other);

 private:
  at::Tensor flat_;
  at::Tensor gradient_;
  std::vector<at::Tensor> views_;
};

}  // namespace qfleet

#endif  // QFLEET_MODEL_NETWORK_H_
