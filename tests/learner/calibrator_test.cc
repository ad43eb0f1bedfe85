// The INT8 form of what a learner publishes: made for what it learns from.
#include "learner/calibrator.h"

#include <ATen/ATen.h>

#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "model/weight_layout.h"
#include "tests/learner/golden.h"

namespace qfleet {
namespace {

std::shared_ptr<const Network> MakeNetwork(const std::string& text) {
  v1::Config config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config));
  return *Network::Make(config, GoldenEnvironment());
}

at::Tensor Observations(int64_t rows, uint64_t seed) {
  Random random(seed);
  std::vector<int64_t> shape = {rows};
  const v1::TensorSpec& spec = GoldenEnvironment().observation;
  for (int64_t extent : spec.shape()) shape.push_back(extent);
  at::Tensor observations = at::empty(shape, at::kFloat);
  float* values = observations.data_ptr<float>();
  for (int64_t i = 0; i < observations.numel(); ++i) {
    values[i] = static_cast<float>(random.Uniform(-1, 1));
  }
  return observations;
}

std::string Bytes(FlatParameters& parameters) {
  return {reinterpret_cast<const char*>(parameters.values().data()),
          parameters.values().size() * sizeof(float)};
}

TEST(CalibratorTest, Int8KeepsTheOutputsForWhatTheLearnerSees) {
  auto network = MakeNetwork("network { hidden: 64 hidden: 64 }");
  FlatParameters parameters(*network);
  Random random(3);
  parameters.Initialize(*network, random);
  const std::string fp32 = Bytes(parameters);
  Calibrator calibrator(*network);
  EXPECT_EQ(calibrator.Of(fp32), nullptr);
  for (uint64_t batch = 0; batch < 40; ++batch) {
    calibrator.Add(Observations(32, batch));
  }
  const WeightLayout layout = LayoutOf(*network);
  const at::Tensor unseen = Observations(200, 1000);
  const at::Tensor exact =
      network->Values(network->Forward(parameters.views(), unseen));
  double error[2];
  for (const bool calibrated : {false, true}) {
    auto encoded =
        EncodeWeights(fp32, layout, v1::INT8,
                      calibrated ? calibrator.Of(fp32)() : Calibration());
    ASSERT_TRUE(encoded.ok());
    FlatParameters decoded(*network);
    ASSERT_EQ(DecodeWeights(*encoded, layout, v1::INT8, decoded.values()),
              absl::OkStatus());
    const at::Tensor values =
        network->Values(network->Forward(decoded.views(), unseen));
    error[calibrated] = (values - exact).square().mean().sqrt().item<double>();
  }
  EXPECT_GT(error[true], 0);
  EXPECT_LT(error[true], error[false] / 2);
}

TEST(CalibratorTest, TheNewestObservationsAreKept) {
  auto network = MakeNetwork("network { hidden: 64 hidden: 64 }");
  const FlatParameters parameters(*network);
  const std::string fp32(parameters.values().size() * sizeof(float), '\0');
  Calibrator calibrator(*network);
  calibrator.Add(Observations(5, 1));
  Calibration calibration = calibrator.Of(fp32)();
  ASSERT_FALSE(calibration.empty());
  EXPECT_EQ(calibration.back().values.size(), 5 * 64u);
  const auto before = calibrator.Of(fp32);
  for (int i = 0; i < 100; ++i) calibrator.Add(Observations(20, i));
  EXPECT_EQ(calibrator.Of(fp32)().back().values.size(), kCalibrationRows * 64u);
  EXPECT_EQ(before().back().values.size(), 5 * 64u);  // Of its own moment.
}

// Each copy has its own layers.
TEST(CalibratorTest, SeveralNetworksAreCalibratedEach) {
  auto network = MakeNetwork(
      "algorithm { i_dqn { networks: 3 } } network { hidden: 64 hidden: 64 }");
  FlatParameters parameters(*network);
  Random random(4);
  parameters.Initialize(*network, random);
  Calibrator calibrator(*network);
  calibrator.Add(Observations(4, 2));
  const Calibration calibration = calibrator.Of(Bytes(parameters))();
  const std::vector<bool> integers = IntegerSpans(LayoutOf(*network));
  std::set<int> spans;
  for (const LayerInputs& inputs : calibration) {
    spans.insert(inputs.span);
    EXPECT_TRUE(integers[inputs.span]);
    EXPECT_EQ(network->parameters()[inputs.span].shape[1] * 4,
              static_cast<int64_t>(inputs.values.size()));
  }
  std::set<int> expected;
  for (int span = 0; span < static_cast<int>(integers.size()); ++span) {
    if (integers[span]) expected.insert(span);
  }
  EXPECT_EQ(spans, expected);
  EXPECT_EQ(spans.size() % 3, 0u);
}

}  // namespace
}  // namespace qfleet
