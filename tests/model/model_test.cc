#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/adam.h"
#include "model/network.h"
#include "model/rmsprop.h"
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

v1::Config Config(std::vector<int> hidden, bool dueling) {
  v1::Config config;
  for (int size : hidden) config.mutable_network()->add_hidden(size);
  config.mutable_network()->set_dueling(dueling);
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

TEST(NetworkTest, TheGradientIsThatOfDifferences) {
  auto network = *Network::Make(Config({6}, true), Spec(v1::FLOAT32, {3}, 2));
  FlatParameters parameters(*network, /*trainable=*/true);
  Random random(3);
  parameters.Initialize(*network, random);
  const at::Tensor x = at::tensor({0.3f, -0.7f, 1.1f}).view({1, 3});
  c10::NoGradGuard no_gradient;
  auto loss = [&] {
    return network->Forward(parameters.views(), x).pow(2).sum();
  };
  // Twice: gradients are set, not left over.
  for (int pass = 0; pass < 2; ++pass) {
    Network::Trace trace;
    const at::Tensor output =
        network->Forward(parameters.views(), x, {}, 0, &trace);
    network->Backward(parameters.views(), trace, 2 * output,
                      parameters.gradient_views());
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

// Autograd's, of the first rows of a larger batch.
void ExpectAutogradsGradient(const v1::Config& config,
                             const v1::TensorSpec& observation, bool noise,
                             int copy) {
  constexpr int64_t kRows = 5;
  EnvironmentSpec spec;
  spec.observation = observation;
  spec.num_actions = 3;
  auto network = *Network::Make(config, spec);
  SCOPED_TRACE(network->signature());
  Random random(3);
  FlatParameters by_hand(*network, /*trainable=*/true);
  FlatParameters by_autograd(*network, /*trainable=*/true);
  by_hand.Initialize(*network, random);
  by_autograd.CopyFrom(by_hand);
  at::Tensor drawn;
  if (noise) drawn = NoiseSource(*network, 5).Sample();

  std::vector<int64_t> shape = {kRows + 3};
  shape.insert(shape.end(), observation.shape().begin(),
               observation.shape().end());
  at::Tensor x = at::empty(shape, at::kFloat);
  for (int64_t i = 0; i < x.numel(); ++i) {
    x.data_ptr<float>()[i] = static_cast<float>(random.Uniform(-1, 1));
  }
  if (observation.dtype() == v1::UINT8) x = (x.abs() * 255).to(at::kByte);

  const at::Tensor expected = network->Forward(
      by_autograd.views(), x.narrow(0, 0, kRows), drawn, copy);
  at::Tensor factors = at::empty(expected.sizes(), at::kFloat);
  for (int64_t i = 0; i < factors.numel(); ++i) {
    factors.data_ptr<float>()[i] = static_cast<float>(random.Uniform(-1, 1));
  }
  (expected * factors).sum().backward();

  c10::NoGradGuard no_gradient;
  Network::Trace trace;
  const at::Tensor output =
      network->Forward(by_hand.views(), x, drawn, copy, &trace);
  EXPECT_TRUE(at::allclose(output.narrow(0, 0, kRows), expected, 1e-4, 1e-6));
  network->Backward(by_hand.views(), trace, factors, by_hand.gradient_views());
  double largest = 0;
  for (float value : by_autograd.gradient()) {
    largest = std::max(largest, std::abs(static_cast<double>(value)));
  }
  EXPECT_GT(largest, 0.01);
  EXPECT_THAT(
      by_hand.gradient(),
      testing::Pointwise(testing::FloatNear(1e-5 * std::max(1.0, largest)),
                         by_autograd.gradient()));
}

TEST(NetworkTest, TheGradientIsAutograds) {
  const v1::TensorSpec numbers = Spec(v1::FLOAT32, {4}, 3).observation;
  const v1::TensorSpec image = Spec(v1::UINT8, {2, 9, 8}, 3).observation;
  for (bool dueling : {false, true}) {
    for (bool noisy : {false, true}) {
      v1::Config config = Config({6, 7}, dueling);
      config.mutable_network()->set_noisy(noisy);
      ExpectAutogradsGradient(config, numbers, noisy, 0);
      // With the mean weights of a noisy network.
      ExpectAutogradsGradient(config, numbers, /*noise=*/false, 0);
      for (auto [channels, stride] : {std::pair(3, 2), {4, 1}}) {
        v1::ConvolutionConfig& layer =
            *config.mutable_network()->add_convolutions();
        layer.set_channels(channels);
        layer.set_kernel(2);
        layer.set_stride(stride);
      }
      ExpectAutogradsGradient(config, image, noisy, 0);
      config.mutable_algorithm()->mutable_qr_dqn()->set_quantiles(5);
      ExpectAutogradsGradient(config, image, noisy, 0);
      config.mutable_algorithm()->mutable_i_dqn()->set_networks(3);
      ExpectAutogradsGradient(config, image, noisy, 1);
    }
  }
}

TEST(FlatParametersTest, InitialValuesAreBoundedByTheFanIn) {
  auto network = *Network::Make(Config({256}, true), Spec(v1::FLOAT32, {4}, 2));
  FlatParameters parameters(*network);
  Random random(4);
  parameters.Initialize(*network, random);
  for (const ParameterSpec& spec : network->parameters()) {
    const double bound =
        1 / std::sqrt(spec.name.starts_with("encoder") ? 4.0 : 256.0);
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

TEST(NetworkTest, NoisyConvolutionsMatchTheIndependentImplementation) {
  std::ifstream file(QFLEET_SOURCE_DIR "/tests/golden/network.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  v1::Config config = Config({6}, true);
  for (auto [channels, kernel, stride] : {std::tuple(3, 3, 1), {4, 2, 2}}) {
    v1::ConvolutionConfig* layer = config.mutable_network()->add_convolutions();
    layer->set_channels(channels);
    layer->set_kernel(kernel);
    layer->set_stride(stride);
  }
  config.mutable_network()->set_noisy(true);
  v1::RainbowConfig* rainbow = config.mutable_algorithm()->mutable_rainbow();
  rainbow->set_atoms(5);
  rainbow->set_v_min(-1);
  rainbow->set_v_max(1);
  auto network = *Network::Make(config, Spec(v1::FLOAT32, {2, 6, 8}, 3));
  EXPECT_EQ(
      network->signature(),
      "float32[2,6,8] conv 3@3s1 4@2s2 mlp 6 dueling 3 atoms 5 from -1 to "
      "1 noisy");
  auto floats = [&golden](const char* name) {
    return golden[name].get<std::vector<float>>();
  };
  FlatParameters parameters(*network, /*trainable=*/true);
  const std::vector<float> start = floats("parameters");
  ASSERT_EQ(start.size(), parameters.values().size());
  std::memcpy(parameters.values().data(), start.data(),
              start.size() * sizeof(float));
  const at::Tensor output = network->Forward(
      parameters.views(), at::tensor(floats("observation")).view({5, 2, 6, 8}),
      at::tensor(floats("noise")));
  const at::Tensor values = network->Values(output);
  EXPECT_TRUE(at::allclose(output.reshape({-1}), at::tensor(floats("output")),
                           1e-4, 1e-5));
  EXPECT_TRUE(at::allclose(values.reshape({-1}), at::tensor(floats("values")),
                           1e-4, 1e-5));
  (values.reshape({-1}) * at::tensor(floats("factors"))).sum().backward();
  const std::vector<float> gradient = floats("gradient");
  EXPECT_THAT(parameters.gradient(),
              testing::Pointwise(testing::FloatNear(2e-5), gradient));
}

TEST(NetworkTest, WithoutNoiseANoisyNetworkIsItsMean) {
  v1::Config config = Config({6}, true);
  const EnvironmentSpec spec = Spec(v1::FLOAT32, {4}, 3);
  auto plain = *Network::Make(config, spec);
  config.mutable_network()->set_noisy(true);
  auto noisy = *Network::Make(config, spec);
  EXPECT_EQ(noisy->parameter_count(), 2 * plain->parameter_count());
  FlatParameters mean(*plain), both(*noisy);
  Random one(3), other(3);
  mean.Initialize(*plain, one);
  both.Initialize(*noisy, other);
  const at::Tensor x = at::ones({2, 4});
  EXPECT_TRUE(at::equal(noisy->Forward(both.views(), x),
                        plain->Forward(mean.views(), x)));
  NoiseSource source(*noisy, 5);
  EXPECT_FALSE(at::equal(noisy->Forward(both.views(), x, source.Sample()),
                         noisy->Forward(both.views(), x)));
}

// f(x) = sign(x) sqrt(|x|) of a standard normal: mean 0, E f^2 = E|x| =
// sqrt(2 / pi), E f^4 = 1.
TEST(NoiseSourceTest, IsTheRootOfAStandardNormal) {
  v1::Config config = Config({500}, false);
  config.mutable_network()->set_noisy(true);
  auto network = *Network::Make(config, Spec(v1::FLOAT32, {1}, 2));
  NoiseSource source(*network, 6);
  at::Tensor f = at::cat({source.Sample(), source.Sample()});
  for (int i = 0; i < 50; ++i) f = at::cat({f, source.Sample()});
  f = f.to(at::kDouble);
  const double n = static_cast<double>(f.numel());
  EXPECT_NEAR(f.mean().item<double>(), 0, 4 / std::sqrt(n));
  EXPECT_NEAR(f.square().mean().item<double>(), std::sqrt(2 / M_PI),
              4 / std::sqrt(n));
  EXPECT_NEAR(f.pow(4).mean().item<double>(), 1, 8 / std::sqrt(n));
}

TEST(NetworkTest, CopiesStandOneAfterAnother) {
  v1::Config config = Config({6}, true);
  const EnvironmentSpec spec = Spec(v1::FLOAT32, {4}, 3);
  auto one = *Network::Make(config, spec);
  config.mutable_algorithm()->mutable_i_dqn()->set_networks(3);
  auto three = *Network::Make(config, spec);
  EXPECT_EQ(three->copies(), 3);
  EXPECT_EQ(three->copy_size(), one->parameter_count());
  EXPECT_EQ(three->parameters().back().name, "network.2.head.bias");
  FlatParameters all(*three), single(*one);
  Random random(8);
  all.Initialize(*three, random);
  const at::Tensor x = at::ones({1, 4});
  for (int k = 0; k < 3; ++k) {
    std::memcpy(single.values().data(), &all.values()[k * three->copy_size()],
                one->parameter_count() * sizeof(float));
    EXPECT_TRUE(at::equal(three->Forward(all.views(), x, {}, k),
                          one->Forward(single.views(), x)));
  }
}

TEST(RmsPropTest, FollowsPyTorch) {
  std::ifstream file(QFLEET_SOURCE_DIR "/tests/golden/rmsprop.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  std::vector<float> x = golden["start"];
  RmsProp rmsprop({.decay = 0.95, .epsilon = 0.01}, x.size());
  for (const std::vector<float> gradient : golden["gradients"]) {
    rmsprop.Step(absl::MakeSpan(x), gradient, 1, 2.5e-2);
  }
  EXPECT_THAT(x, testing::Pointwise(testing::FloatNear(2e-5),
                                    golden["end"].get<std::vector<float>>()));
}

TEST(OptimizerTest, TheLearningRateFallsAsConfigured) {
  v1::OptimizerConfig config;
  config.set_learning_rate(0.5);
  EXPECT_EQ(LearningRate(config, 1000), 0.5);
  config.set_decay_updates(100);
  config.set_final_learning_rate_share(0.2);
  EXPECT_EQ(LearningRate(config, 0), 0.5);
  EXPECT_NEAR(LearningRate(config, 50), 0.3, 1e-12);
  EXPECT_NEAR(LearningRate(config, 1000), 0.1, 1e-12);
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

// A step as tensor operations is the fused one but for rounding, and a step
// that is not finite changes no bit.
void ExpectTensorStepsLikeFusedOnes(Optimizer& fused, Optimizer& tensors) {
  Random random(11);
  constexpr int kSize = 100;
  std::vector<float> x(kSize), gradient(kSize);
  for (float& value : x) value = random.Uniform(-1, 1);
  const at::Tensor y = at::tensor(x);
  for (int step = 1; step <= 50; ++step) {
    for (float& value : gradient) value = random.Uniform(-1, 1);
    const double scale = random.Uniform(0.1, 1), rate = 0.01 / step;
    fused.Step(absl::MakeSpan(x), gradient, scale, rate);
    const auto values = tensors.Scalars(step, rate);
    const at::Tensor scalars =
        at::tensor(std::vector<float>(values.begin(), values.end()));
    tensors.StepTensors(y, at::tensor(gradient) * scale, at::scalar_tensor(1),
                        scalars);
    std::vector<at::Tensor> before = {y.clone()};
    for (const Optimizer::Part& part : tensors.State()) {
      before.push_back(part.values.clone());
    }
    tensors.StepTensors(y, at::zeros(kSize), at::scalar_tensor(0), scalars);
    ASSERT_TRUE(at::equal(y, before[0]));
    for (size_t i = 0; i < tensors.State().size(); ++i) {
      ASSERT_TRUE(at::equal(tensors.State()[i].values, before[i + 1]));
    }
  }
  EXPECT_TRUE(at::allclose(y, at::tensor(x), 1e-5, 1e-6));
  EXPECT_EQ(tensors.steps(), 0);
}

TEST(AdamTest, TensorStepsAreLikeFusedOnes) {
  Adam fused({}, 100), tensors({}, 100);
  ExpectTensorStepsLikeFusedOnes(fused, tensors);
}

TEST(RmsPropTest, TensorStepsAreLikeFusedOnes) {
  RmsProp fused({}, 100), tensors({}, 100);
  ExpectTensorStepsLikeFusedOnes(fused, tensors);
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
