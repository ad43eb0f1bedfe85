#include "weights/rounding.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "common/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using testing::ElementsAre;

// Solves A z = b by elimination; A symmetric and positive definite.
std::vector<double> Solve(std::vector<std::vector<double>> a,
                          std::vector<double> b) {
  const size_t n = b.size();
  for (size_t i = 0; i < n; ++i) {
    for (size_t r = i + 1; r < n; ++r) {
      const double share = a[r][i] / a[i][i];
      for (size_t c = i; c < n; ++c) a[r][c] -= share * a[i][c];
      b[r] -= share * b[i];
    }
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t c = i + 1; c < n; ++c) b[i] -= a[i][c] * b[c];
    b[i] /= a[i][i];
  }
  return b;
}

// The same by its definition: each weight, in the order of its input's sum of
// squares, is rounded where the weights from it on would best be, were they not
// to be rounded, those before being what they are: the least of
// |outputs - wanted|^2 + lambda |weights - wanted|^2. `scales`: of each weight.
std::vector<int> RoundByDefinition(const std::vector<std::vector<float>>& x,
                                   const std::vector<float>& w,
                                   const std::vector<float>& scales,
                                   double damping) {
  const size_t rows = x.size(), width = w.size();
  std::vector<std::pair<double, size_t>> order(width);
  double all = 0;
  for (size_t i = 0; i < width; ++i) {
    double squares = 0;
    for (const auto& row : x) squares += double{row[i]} * row[i];
    order[i] = {-squares, i};
    all += squares;
  }
  std::sort(order.begin(), order.end());
  const double lambda = damping * all / static_cast<double>(width);
  std::vector<double> owed(rows);
  std::vector<int> q(width);
  for (size_t first = 0; first < width; ++first) {
    const size_t rest = width - first;
    const auto input = [&](size_t r, size_t j) {
      return double{x[r][order[first + j].second]};
    };
    std::vector<std::vector<double>> a(rest, std::vector<double>(rest));
    std::vector<double> b(rest);
    for (size_t j = 0; j < rest; ++j) {
      a[j][j] += lambda;
      for (size_t r = 0; r < rows; ++r) {
        b[j] += input(r, j) * owed[r];
        for (size_t k = 0; k < rest; ++k) a[j][k] += input(r, j) * input(r, k);
      }
    }
    const size_t i = order[first].second;
    const double wanted = w[i] + Solve(std::move(a), std::move(b))[0];
    q[i] = static_cast<int>(
        std::clamp(std::nearbyint(wanted / scales[i]), -127.0, 127.0));
    for (size_t r = 0; r < rows; ++r) {
      owed[r] += (w[i] - double{scales[i]} * q[i]) * x[r][i];
    }
  }
  return q;
}

std::vector<float> Flat(const std::vector<std::vector<float>>& rows) {
  std::vector<float> flat;
  for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
  return flat;
}

// Inputs as of a layer after a ReLU, of which few directions are in use.
std::vector<std::vector<float>> Inputs(size_t rows, size_t width,
                                       Random& random) {
  constexpr int kDirections = 4;
  std::vector<std::vector<double>> basis(kDirections,
                                         std::vector<double>(width));
  for (auto& direction : basis) {
    for (double& value : direction) value = random.Uniform(-1, 1);
  }
  std::vector<std::vector<float>> x(rows, std::vector<float>(width));
  for (auto& row : x) {
    double weights[kDirections];
    for (double& weight : weights) weight = random.Uniform(-1, 1);
    for (size_t i = 0; i < width; ++i) {
      double sum = 0.2;
      for (int d = 0; d < kDirections; ++d) sum += weights[d] * basis[d][i];
      row[i] = static_cast<float>(std::max(sum, 0.0));
    }
  }
  return x;
}

TEST(RoundingTest, IsTheBestThatTheWeightsAfterEachCanDo) {
  Random random(3);
  for (int round = 0; round < 20; ++round) {
    const size_t width = 4 + random.Below(9), rows = 1 + random.Below(8);
    const auto x = Inputs(rows, width, random);
    const Rounding rounding(Flat(x), width);
    std::vector<float> w(width);
    for (float& value : w) value = static_cast<float>(random.Uniform(-1, 1));
    // The last group has fewer than the others, or is the only one.
    const size_t group = 1 + random.Below(width + 3);
    std::vector<float> scales((width + group - 1) / group), of_each(width);
    for (float& scale : scales) {
      scale = static_cast<float>(random.Uniform(1 / 200.0, 1 / 100.0));
    }
    for (size_t i = 0; i < width; ++i) of_each[i] = scales[i / group];
    std::vector<int8_t> q(width);
    float due = 0;
    rounding.Round(w.data(), 1, group, scales.data(), q.data(), &due);
    const std::vector<int> expected = RoundByDefinition(x, w, of_each, 1e-3);
    EXPECT_EQ(std::vector<int>(q.begin(), q.end()), expected) << round;
    double owed = 0;
    for (const auto& row : x) {
      for (size_t i = 0; i < width; ++i)
        owed += (w[i] - of_each[i] * q[i]) * row[i];
    }
    EXPECT_NEAR(due, owed / static_cast<double>(rows), 1e-6);
  }
}

// On inputs that it has not seen.
TEST(RoundingTest, OutputsAreOffByAThirdOfWhatNearestLeaves) {
  Random random(5);
  constexpr size_t kWidth = 128, kRows = 64;
  const auto all = Inputs(2 * kRows, kWidth, random);
  const std::vector<std::vector<float>> seen(all.begin(), all.begin() + kRows);
  const Rounding kept(Flat(seen), kWidth), nearest({}, kWidth);
  double error[2] = {};
  for (int channel = 0; channel < 50; ++channel) {
    std::vector<float> w(kWidth);
    for (float& value : w) value = static_cast<float>(random.Uniform(-1, 1));
    const float scale = 1 / 127.0F;
    for (int which = 0; which < 2; ++which) {
      std::vector<int8_t> q(kWidth);
      float due = 0;
      (which == 0 ? kept : nearest)
          .Round(w.data(), 1, kWidth, &scale, q.data(), &due);
      for (size_t r = kRows; r < all.size(); ++r) {
        double off = due;
        for (size_t i = 0; i < kWidth; ++i) {
          off += (scale * q[i] - w[i]) * all[r][i];
        }
        error[which] += off * off;
      }
    }
  }
  EXPECT_LT(std::sqrt(error[0]), std::sqrt(error[1]) / 3);
}

// A group without a scale is zeros, and the other channels do not notice.
TEST(RoundingTest, ChannelsAreRoundedEachForItself) {
  Random random(7);
  constexpr size_t kWidth = 20, kChannels = 3, kGroup = 12, kGroups = 2;
  const Rounding rounding(Flat(Inputs(9, kWidth, random)), kWidth);
  std::vector<float> w(kChannels * kWidth);
  for (float& value : w) value = static_cast<float>(random.Uniform(-1, 1));
  w[kWidth + 4] = std::numeric_limits<float>::quiet_NaN();
  const float scales[kChannels * kGroups] = {1 / 100.0F, 1 / 110.0F, 0,
                                             1 / 105.0F, 1 / 120.0F, 1 / 90.0F};
  std::vector<int8_t> together(w.size()), alone(w.size());
  float due[kChannels], due_alone[kChannels];
  rounding.Round(w.data(), kChannels, kGroup, scales, together.data(), due);
  for (size_t c = 0; c < kChannels; ++c) {
    rounding.Round(&w[c * kWidth], 1, kGroup, &scales[c * kGroups],
                   &alone[c * kWidth], &due_alone[c]);
    EXPECT_EQ(due[c], due_alone[c]);
    EXPECT_TRUE(std::isfinite(due[c]));
  }
  EXPECT_EQ(together, alone);
  EXPECT_THAT(
      std::vector<int8_t>(&together[kWidth], &together[kWidth + kGroup]),
      testing::Each(0));
  EXPECT_THAT(
      std::vector<int8_t>(&together[kWidth + kGroup], &together[2 * kWidth]),
      testing::Contains(testing::Ne(0)));
}

TEST(RoundingTest, WithoutInputsItIsToNearest) {
  const std::vector<float> w = {127, 0.5F, 1.5F, -2.4F, -300};
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& inputs :
       {std::vector<float>(), std::vector<float>(10),
        std::vector<float>{0, 1, kInf, 0, 0}}) {
    std::vector<int8_t> q(5);
    const float scale = 1;
    float due = -7;
    Rounding(inputs, 5).Round(w.data(), 1, 5, &scale, q.data(), &due);
    EXPECT_EQ(due, 0);
    EXPECT_THAT(q, ElementsAre(127, 0, 2, -2, -127));
  }
}

}  // namespace
}  // namespace qfleet
