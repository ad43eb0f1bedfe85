#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/adam.h"
#include "model/network.h"
#include "model/tensors.h"
#include "nlohmann/json.hpp"

namespace qfleet {
namespace {

EnvironmentSpec Spec(v1::DType dtype, std::vector<int64_t> shape,
                     int num_actions) {
  EnvironmentSpec spec;
  spec.observation.set_name("observation");
  spec.observation.set_dtype(dtype);
  for (int64_t dimension : shape) spec.observation.add_shape(dimension);
  spec.num_actions = num_actions;
  return spec;
}

v1::NetworkConfig Config(std::vector<int> hidden, bool dueling) {
  v1::NetworkConfig config;
  for (int size : hidden) config.add_hidden(size);
  config.set_dueling(dueling);
  return config;
}

TEST(NetworkTest, MatchesTheIndependentImplementation) {
  std::ifstream file(QFLEET_SOURCE_DIR "/tests/golden/dqn.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  auto network =
      *Network::Make(Config({8, 8}, true), Spec(v1::FLOAT32, {4}, 3));
  FlatParameters parameters(*network);
  const std::vector<float> end = golden["end"];
  ASSERT_EQ(end.size(), parameters.values().size());
  std::memcpy(parameters.values().data(), end.data(),
              end.size() * sizeof(float));
  for (size_t row = 0; row < golden["probe"].size(); ++row) {
    const std::vector<float> input = golden["probe"][row];
    const std::vector<float> expected = golden["probe_q"][row];
    at::Tensor q =
        network->Forward(parameters.views(), at::tensor(input).view({1, 4}));
    for (int a = 0; a < 3; ++a) {
      EXPECT_NEAR(q[0][a].item<float>(), expected[a], 1e-5);
    }
  }
}

TEST(NetworkTest, DuelingAdvantagesHaveMeanZero) {
  auto network = *Network::Make(Config({16}, true), Spec(v1::FLOAT32, {4}, 3));
  FlatParameters parameters(*network);
  Random random(1);
  parameters.Initialize(*network, random);
  at::Tensor x = at::ones({2, 4});
  at::Tensor before = network->Forward(parameters.views(), x).mean(1);
  // The same amount on each advantage (the head's outputs after V) changes
  // nothing; on V it moves all.
  at::Tensor bias = parameters.views().back();
  bias.narrow(0, 1, 3).add_(5);
  EXPECT_TRUE(at::allclose(network->Forward(parameters.views(), x).mean(1),
                           before, 1e-4, 1e-5));
  bias.narrow(0, 0, 1).add_(5);
  EXPECT_TRUE(at::allclose(network->Forward(parameters.views(), x).mean(1),
                           before + 5, 1e-4, 1e-5));
}

TEST(NetworkTest, BytesAreScaledToOne) {
  auto bytes = *Network::Make(Config({}, false), Spec(v1::UINT8, {2, 2}, 2));
  auto floats = *Network::Make(Config({}, false), Spec(v1::FLOAT32, {4}, 2));
  FlatParameters parameters(*bytes);
  Random random(2);
  parameters.Initialize(*bytes, random);
  const uint8_t row[4] = {0, 51, 102, 255};
  v1::TensorSpec spec = Spec(v1::UINT8, {2, 2}, 2).observation;
  EXPECT_TRUE(at::allclose(
      bytes->Forward(parameters.views(), WrapRows(spec, row, 1)),
      floats->Forward(parameters.views(),
                      at::tensor({0.f, 0.2f, 0.4f, 1.f}).view({1, 4}))));
}

TEST(NetworkTest, SignaturesTellNetworksApart) {
  const EnvironmentSpec spec = Spec(v1::FLOAT32, {4}, 2);
  EXPECT_EQ((*Network::Make(Config({128, 64}, true), spec))->signature(),
            "float32[4] mlp 128 64 dueling 2");
  EXPECT_NE((*Network::Make(Config({128, 64}, false), spec))->signature(),
            (*Network::Make(Config({128, 64}, true), spec))->signature());
}

TEST(NetworkTest, ObservationsOfIntegersAreRefused) {
  auto network = Network::Make(Config({4}, true), Spec(v1::INT32, {4}, 2));
  EXPECT_EQ(network.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(network.status().message()),
              testing::HasSubstr("int32[4]"));
}

TEST(FlatParametersTest, TheBackwardPassFillsTheFlatGradient) {
  auto network = *Network::Make(Config({6}, true), Spec(v1::FLOAT32, {3}, 2));
  FlatParameters parameters(*network, /*trainable=*/true);
  Random random(3);
  parameters.Initialize(*network, random);
  const at::Tensor x = at::tensor({0.3f, -0.7f, 1.1f}).view({1, 3});
  auto loss = [&] {
    return network->Forward(parameters.views(), x).pow(2).sum();
  };
  // Twice: gradients are set, not left over.
  for (int pass = 0; pass < 2; ++pass) {
    parameters.ZeroGradient();
    loss().backward();
  }
  for (size_t i = 0; i < parameters.values().size(); ++i) {
    const float value = parameters.values()[i];
    constexpr float kStep = 1e-2f;
    parameters.values()[i] = value + kStep;
    const double above = loss().item<double>();
    parameters.values()[i] = value - kStep;
    const double below = loss().item<double>();
    parameters.values()[i] = value;
    EXPECT_NEAR(parameters.gradient()[i], (above - below) / (2 * kStep), 2e-3)
        << "parameter " << i;
  }
}

TEST(FlatParametersTest, InitialValuesAreBoundedByTheFanIn) {
  auto network = *Network::Make(Config({256}, true), Spec(v1::FLOAT32, {4}, 2));
  FlatParameters parameters(*network);
  Random random(4);
  parameters.Initialize(*network, random);
  for (const ParameterSpec& spec : network->parameters()) {
    const double bound = 1 / std::sqrt(static_cast<double>(spec.fan_in));
    double largest = 0;
    for (float value : parameters.values().subspan(spec.offset, spec.size)) {
      largest = std::max(largest, std::abs(static_cast<double>(value)));
    }
    EXPECT_LE(largest, bound) << spec.name;
    if (spec.size > 100) {
      EXPECT_GT(largest, 0.9 * bound) << spec.name;
    }
  }
}

// Two steps by hand: m = 0.1 g, v = 0.001 g^2, corrected to g and g^2.
TEST(AdamTest, FirstStepsByHand) {
  Adam adam({.beta1 = 0.9, .beta2 = 0.999, .epsilon = 0.5}, 2);
  std::vector<float> x = {1, 1};
  adam.Step(absl::MakeSpan(x), {4, -2}, /*gradient_scale=*/0.5,
            /*learning_rate=*/0.1);
  EXPECT_NEAR(x[0], 1 - 0.1 * 2 / (2 + 0.5), 1e-6);
  EXPECT_NEAR(x[1], 1 + 0.1 * 1 / (1 + 0.5), 1e-6);
  adam.Step(absl::MakeSpan(x), {0, 0}, 1, 0.1);
  const double m = 0.9 * 0.2 / (1 - 0.81);
  const double v = 0.999 * 0.004 / (1 - 0.998001);
  EXPECT_NEAR(x[0], 1 - 0.08 - 0.1 * m / (std::sqrt(v) + 0.5), 1e-6);
}

TEST(AdamTest, NormCountsEveryElement) {
  std::vector<float> values;
  for (int n = 0; n <= 20; ++n) {
    double expected = 0;
    for (float value : values) expected += value * value;
    EXPECT_NEAR(Norm(values), std::sqrt(expected), 1e-9);
    values.push_back(static_cast<float>(n + 1));
  }
}

}  // namespace
}  // namespace qfleet
