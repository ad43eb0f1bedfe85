// The tree against a plain array: sums, draws, and the edges of rounding.

#include "replay_server/core/sum_tree.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/types/span.h"
#include "common/random.h"
#include "common/table_layout.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

constexpr double kNearlyOne = 1 - 0x1.0p-53;

// Around the powers of eight, where levels begin.
const uint32_t kSizes[] = {1, 2, 7, 8, 9, 63, 64, 65, 100, 511, 512, 513, 5000};

uint32_t SampleOne(const SumTree& tree, double uniform,
                   double* mass = nullptr) {
  uint32_t leaf = 0;
  double drawn = 0;
  tree.Sample({&uniform, 1}, {&leaf, 1}, {&drawn, 1});
  if (mass != nullptr) *mass = drawn;
  return leaf;
}

// The definition: the first leaf whose prefix sum exceeds uniform * total.
uint32_t NaiveSample(const std::vector<double>& masses, double uniform,
                     double total) {
  double prefix = 0;
  for (uint32_t i = 0; i < masses.size(); ++i) {
    prefix += masses[i];
    if (prefix > uniform * total) return i;
  }
  return static_cast<uint32_t>(masses.size());
}

// Small integers add up exactly in any order, so the definition holds exactly.
TEST(SumTreeTest, MatchesPlainArrayUnderRandomBatches) {
  for (uint32_t size : kSizes) {
    Random random(MixSeed(7, size));
    SumTree tree(size);
    std::vector<double> naive(size, 0.0);
    for (int round = 0; round < 50; ++round) {
      const uint64_t batch = random.Below(40);
      std::vector<uint32_t> leaves;
      std::vector<double> masses;
      for (uint64_t j = 0; j < batch; ++j) {
        leaves.push_back(static_cast<uint32_t>(random.Below(size)));
        masses.push_back(static_cast<double>(random.Below(4)));
        naive[leaves.back()] = masses.back();
      }
      tree.Set(leaves, masses);
      ASSERT_TRUE(tree.CheckInvariants().ok()) << tree.CheckInvariants();
      double total = 0;
      for (double mass : naive) total += mass;
      ASSERT_EQ(tree.total(), total);
      if (total == 0) continue;
      std::vector<double> uniforms(70);
      for (double& uniform : uniforms) uniform = random.Uniform();
      std::vector<uint32_t> drawn(uniforms.size());
      std::vector<double> drawn_masses(uniforms.size());
      tree.Sample(uniforms, absl::MakeSpan(drawn),
                  absl::MakeSpan(drawn_masses));
      for (size_t j = 0; j < uniforms.size(); ++j) {
        ASSERT_EQ(drawn[j], NaiveSample(naive, uniforms[j], total));
        ASSERT_EQ(drawn_masses[j], naive[drawn[j]]);
      }
    }
    for (uint32_t i = 0; i < size; ++i) ASSERT_EQ(tree.Get(i), naive[i]);
  }
}

TEST(SumTreeTest, LaterOfTwoEntriesForOneLeafCounts) {
  SumTree tree(20);
  tree.Set({3, 17, 3}, {1.0, 2.0, 5.0});
  EXPECT_EQ(tree.Get(3), 5);
  EXPECT_EQ(tree.total(), 7);
}

TEST(SumTreeTest, EqualContentsGiveEqualSumsWhateverTheHistory) {
  Random random(11);
  SumTree once(1000), often(1000);
  std::vector<uint32_t> leaves(1000);
  std::vector<double> masses(1000);
  for (uint32_t i = 0; i < 1000; ++i) {
    leaves[i] = i;
    masses[i] = random.Uniform();
  }
  once.Set(leaves, masses);
  for (int round = 0; round < 2000; ++round) {
    often.Set(static_cast<uint32_t>(random.Below(1000)),
              random.Uniform() * 1e12);
  }
  for (uint32_t i = 1000; i-- > 0;) often.Set(i, masses[i]);
  EXPECT_EQ(once.total(), often.total());
}

// The smallest of all doubles has no room for a fraction: nearly all of it is
// all of it, so that the draw lies beyond every prefix sum.
TEST(SumTreeTest, EdgesOfUniformNeverHitZeroMass) {
  for (uint32_t size : kSizes) {
    for (uint32_t positive : {0u, size / 2, size - 1}) {
      for (double mass : {0.1, std::numeric_limits<double>::denorm_min()}) {
        SumTree tree(size);
        tree.Set(positive, mass);
        for (double uniform : {0.0, 0x1.0p-53, 0.5, kNearlyOne}) {
          double drawn = 0;
          ASSERT_EQ(SampleOne(tree, uniform, &drawn), positive)
              << size << " leaves, mass " << mass << ", uniform " << uniform;
          ASSERT_EQ(drawn, mass);
        }
      }
    }
  }
}

// Masses of very different size, where prefix sums and sums of sums round
// differently: draws near every boundary must still have a mass.
TEST(SumTreeTest, RoundingNeverHitsZeroMass) {
  Random random(5);
  for (uint32_t size : kSizes) {
    SumTree tree(size);
    std::vector<double> masses(size, 0.0);
    for (int round = 0; round < 200; ++round) {
      const auto leaf = static_cast<uint32_t>(random.Below(size));
      masses[leaf] =
          random.Below(3) == 0 ? 0 : std::exp2(random.Uniform(-200, 200));
      tree.Set(leaf, masses[leaf]);
      if (tree.total() == 0) continue;
      double prefix = 0;
      for (uint32_t i = 0; i < size; i += 1 + size / 64) {
        prefix += masses[i];
        const double edge = prefix / tree.total();
        for (double uniform : {std::nextafter(edge, 0.0), edge,
                               std::nextafter(edge, 2.0), kNearlyOne}) {
          if (!(uniform >= 0 && uniform < 1)) continue;
          double mass = 0;
          const uint32_t drawn = SampleOne(tree, uniform, &mass);
          ASSERT_LT(drawn, size);
          ASSERT_GT(mass, 0);
          ASSERT_EQ(mass, masses[drawn]);
        }
      }
    }
  }
}

// Pearson's statistic over unequal masses. Its mean is its degrees of freedom
// k, its deviation sqrt(2 k); the seed is fixed, 5 deviations are generous.
TEST(SumTreeTest, DrawsFollowTheMasses) {
  constexpr uint32_t kLeaves = 300;
  constexpr int kDraws = 600000;
  Random random(3);
  SumTree tree(kLeaves);
  for (uint32_t i = 0; i < kLeaves; ++i) {
    if (i % 5 != 0) tree.Set(i, std::pow(1.0 + i, 0.6));
  }
  std::vector<double> uniforms(kDraws);
  for (double& uniform : uniforms) uniform = random.Uniform();
  std::vector<uint32_t> drawn(kDraws);
  std::vector<double> masses(kDraws);
  tree.Sample(uniforms, absl::MakeSpan(drawn), absl::MakeSpan(masses));
  std::vector<double> counts(kLeaves, 0.0);
  for (uint32_t leaf : drawn) ++counts[leaf];
  double statistic = 0, freedom = -1;
  for (uint32_t i = 0; i < kLeaves; ++i) {
    const double expected = kDraws * tree.Get(i) / tree.total();
    if (expected == 0) {
      ASSERT_EQ(counts[i], 0);
      continue;
    }
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++freedom;
  }
  EXPECT_LT(statistic, freedom + 5 * std::sqrt(2 * freedom));
  EXPECT_GT(statistic, freedom - 5 * std::sqrt(2 * freedom));
}

TEST(SumTreeTest, BytesCountEveryLevel) {
  EXPECT_EQ(SumTreeBytes(1), 64u);
  EXPECT_EQ(SumTreeBytes(8), 64u);
  EXPECT_EQ(SumTreeBytes(9), 3 * 64u);
  EXPECT_EQ(SumTreeBytes(65), (9 + 2 + 1) * 64u);
}

}  // namespace
}  // namespace qfleet
