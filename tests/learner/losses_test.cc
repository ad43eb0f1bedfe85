// Against independent implementations (tests/golden/make_golden.py), and by
// property.
#include "learner/losses.h"

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "common/random.h"
#include "common/schedule.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/learner/golden.h"

namespace qfleet {
namespace {

at::Tensor Uniform(std::vector<int64_t> shape, double low, double high,
                   Random& random) {
  at::Tensor values = at::empty(shape, at::kFloat);
  float* data = values.data_ptr<float>();
  for (int64_t i = 0; i < values.numel(); ++i) {
    data[i] = static_cast<float>(random.Uniform(low, high));
  }
  return values;
}

TEST(GreedyTest, TakesTheBestLegalAction) {
  const at::Tensor q =
      at::tensor({1.f, 9.f, 2.f, -5.f, -7.f, -6.f}).view({2, 3});
  const at::Tensor mask =
      at::tensor({1, 0, 1, 0, 1, 1}, at::kByte).view({2, 3});
  EXPECT_TRUE(at::equal(Greedy(q, {}), at::tensor({1, 0}, at::kLong)));
  EXPECT_TRUE(at::equal(Greedy(q, mask), at::tensor({2, 2}, at::kLong)));
}

TEST(HuberTest, IsQuadraticThenLinear) {
  const at::Tensor x = at::tensor({-4.f, -1.f, 0.f, 0.5f, 2.f, 3.f});
  EXPECT_TRUE(at::allclose(Huber(x, 2),
                           at::tensor({6.f, 0.5f, 0.f, 0.125f, 2.f, 4.f})));
  EXPECT_TRUE(at::allclose(Huber(x, 0), 0.5 * x * x));
}

TEST(HuberTest, TheGradientIsClippedBeforeItIsWeighted) {
  at::Tensor td = at::tensor({5.f, -0.5f, -9.f, 0.25f}).requires_grad_(true);
  const at::Tensor weights = at::tensor({1.f, 0.5f, 0.25f, 0.f});
  WeightedMean(Huber(td, 1), weights).backward();
  EXPECT_TRUE(
      at::allclose(td.grad(), at::tensor({1.f, -0.25f, -0.25f, 0.f}) / 4));
}

// With m actions of true value 0 and estimates off by uniform +- e noise,
// the bias of max is e (m - 1) / (m + 1); Double Q's is 0 (van Hasselt et al.
// 2016).
TEST(BootstrapTest, DoubleQHasNoOverestimationBias) {
  constexpr int kRows = 200000;
  constexpr int kActions = 5;
  constexpr double kNoise = 1.5;
  Random random(11);
  const at::Tensor one = Uniform({kRows, kActions}, -kNoise, kNoise, random);
  const at::Tensor other = Uniform({kRows, kActions}, -kNoise, kNoise, random);
  const at::Tensor zero = at::zeros({kRows}), gamma = at::full({kRows}, 0.9);
  auto mean_target = [&](const at::Tensor& choose) {
    return BootstrapTarget(zero, gamma, ValueOf(one, Greedy(choose, {})))
        .mean()
        .item<double>();
  };
  EXPECT_NEAR(mean_target(one), 0.9 * kNoise * (kActions - 1) / (kActions + 1),
              0.01);
  EXPECT_NEAR(mean_target(other), 0, 0.01);
}

TEST(RescaleTest, MatchesTheFormulaAndIsInverted) {
  const nlohmann::json golden = ReadGolden("losses.json")["rescale"];
  const at::Tensor x = GoldenTensor(golden["x"]);
  EXPECT_TRUE(at::allclose(Rescale(x), GoldenTensor(golden["h"]), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(InverseRescale(Rescale(x)), x, 1e-4, 1e-5));
}

TEST(ProjectCategoricalTest, MatchesAlgorithm1) {
  const nlohmann::json golden = ReadGolden("losses.json")["projection"];
  const at::Tensor projected = ProjectCategorical(
      GoldenTensor(golden["returns"]), GoldenTensor(golden["discount"]),
      GoldenTensor(golden["probabilities"]), GoldenTensor(golden["support"]));
  EXPECT_TRUE(
      at::allclose(projected, GoldenTensor(golden["projected"]), 1e-4, 1e-5))
      << projected;
  EXPECT_TRUE(
      at::allclose(CrossEntropy(GoldenTensor(golden["logits"]), projected),
                   GoldenTensor(golden["cross_entropy"]), 1e-4, 1e-5));
}

TEST(ProjectCategoricalTest, ConservesMassAndMean) {
  Random random(3);
  const at::Tensor support = at::linspace(-10, 10, 51);
  const at::Tensor p = Uniform({500, 51}, -4, 4, random).softmax(1);
  // Nothing leaves the support: |return| + 0.9 * 10 <= 10.
  const at::Tensor return_ = Uniform({500}, -1, 1, random);
  const at::Tensor discount = Uniform({500}, 0, 0.9, random);
  const at::Tensor projected =
      ProjectCategorical(return_, discount, p, support);
  EXPECT_TRUE(at::allclose(projected.sum(1), at::ones({500}), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(projected.matmul(support),
                           return_ + discount * p.matmul(support), 1e-4, 1e-4));
  EXPECT_GE(projected.min().item<float>(), 0);
  // What leaves it goes to the ends, all of it.
  const at::Tensor far = ProjectCategorical(
      at::tensor({50.f, -50.f}), at::ones({2}), p.narrow(0, 0, 2), support);
  EXPECT_NEAR(far[0][50].item<float>(), 1, 1e-6);
  EXPECT_NEAR(far[1][0].item<float>(), 1, 1e-6);
}

// Floor and ceiling agree there: an implementation that gives mass to both by
// distance alone loses it.
TEST(ProjectCategoricalTest, WhatLandsOnAnAtomStaysWhole) {
  const at::Tensor support = at::linspace(0, 4, 5);
  const at::Tensor p = at::tensor({0.1f, 0.2f, 0.4f, 0.2f, 0.1f}).view({1, 5});
  EXPECT_TRUE(at::allclose(
      ProjectCategorical(at::zeros({1}), at::ones({1}), p, support), p));
  EXPECT_TRUE(at::allclose(
      ProjectCategorical(at::full({1}, 3), at::zeros({1}), p, support),
      at::tensor({0.f, 0.f, 0.f, 1.f, 0.f}).view({1, 5})));
}

TEST(QuantileHuberTest, MatchesTheLoopsAndTheirGradient) {
  for (const nlohmann::json& golden :
       ReadGolden("losses.json")["quantile_huber"]) {
    at::Tensor quantiles =
        GoldenTensor(golden["quantiles"]).requires_grad_(true);
    const at::Tensor loss = QuantileHuber(
        quantiles, GoldenTensor(golden["targets"]), golden["delta"]);
    EXPECT_TRUE(at::allclose(loss, GoldenTensor(golden["loss"]), 1e-5, 1e-6));
    loss.sum().backward();
    EXPECT_TRUE(at::allclose(quantiles.grad(), GoldenTensor(golden["gradient"]),
                             1e-5, 1e-6));
  }
}

TEST(ScheduleTest, MatchesNumPysInterpolation) {
  for (const nlohmann::json& row : ReadGolden("losses.json")["schedule"]) {
    EXPECT_NEAR(Linear(row[0], row[1], row[2], row[3]), row[4], 1e-12);
  }
  EXPECT_EQ(Linear(0.4, 1, /*over=*/0, 7), 0.4);
}

}  // namespace
}  // namespace qfleet
