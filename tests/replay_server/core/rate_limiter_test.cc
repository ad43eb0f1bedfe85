// The limiter's two promises: somebody may always go on, and samples per
// insert stay within the tolerance.

#include "replay_server/core/rate_limiter.h"

#include <algorithm>
#include <cstdint>

#include "common/random.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

v1::RateLimiter Spec(double samples_per_insert, double tolerance,
                     uint64_t min_size) {
  v1::RateLimiter spec;
  spec.set_samples_per_insert(samples_per_insert);
  spec.set_tolerance(tolerance);
  spec.set_min_size(min_size);
  return spec;
}

TEST(RateLimiterTest, NeverBlocksBothSides) {
  Random random(1);
  for (int round = 0; round < 100000; ++round) {
    const RateLimiter limiter(Spec(
        random.Uniform(0, 20), random.Uniform(1e-9, 100), random.Below(50)));
    ReplayTotals totals;
    totals.inserted = 1 + random.Below(100);
    totals.size = 1 + random.Below(totals.inserted);
    totals.sampled = random.Below(3000);
    ASSERT_TRUE(limiter.CanInsert(totals) || limiter.CanSample(totals))
        << limiter.spec().ShortDebugString() << " inserted " << totals.inserted
        << " size " << totals.size << " sampled " << totals.sampled;
  }
}

// Inserts of 10 items and draws of 64, tried in a random order.
TEST(RateLimiterTest, HoldsTheRatioWithinToleranceAndOneRequest) {
  constexpr double kRatio = 8, kTolerance = 256;
  constexpr uint64_t kMinSize = 100, kCapacity = 500;
  constexpr uint64_t kInsert = 10, kDraw = 64;
  for (double insert_share : {0.05, 0.5, 0.95}) {
    Random random(2);
    const RateLimiter limiter(Spec(kRatio, kTolerance, kMinSize));
    ReplayTotals totals;
    for (int round = 0; round < 20000; ++round) {
      if (random.Uniform() < insert_share) {
        if (limiter.CanInsert(totals)) totals.inserted += kInsert;
      } else if (limiter.CanSample(totals)) {
        totals.sampled += kDraw;
      }
      totals.size = std::min(totals.inserted, kCapacity);
      const double difference = static_cast<double>(totals.inserted) * kRatio -
                                static_cast<double>(totals.sampled);
      ASSERT_LE(difference, kMinSize * kRatio + kTolerance + kInsert * kRatio);
      if (totals.sampled > 0) {
        ASSERT_GE(difference, kMinSize * kRatio - kTolerance - kDraw);
      }
    }
    EXPECT_GT(totals.inserted, 2 * kCapacity) << insert_share;
    EXPECT_GT(totals.sampled, 2 * kCapacity) << insert_share;
  }
}

TEST(RateLimiterTest, NoSamplesBelowMinSizeAndInsertsAlways) {
  const RateLimiter limiter(Spec(1, 1, 10));
  EXPECT_TRUE(limiter.CanInsert({.inserted = 9, .sampled = 0, .size = 9}));
  EXPECT_FALSE(limiter.CanSample({.inserted = 9, .sampled = 0, .size = 9}));
  EXPECT_TRUE(limiter.CanSample({.inserted = 10, .sampled = 0, .size = 10}));
  // Items that were removed count no more towards min_size.
  EXPECT_FALSE(limiter.CanSample({.inserted = 99, .sampled = 0, .size = 9}));
  EXPECT_TRUE(limiter.CanInsert({.inserted = 99, .sampled = 0, .size = 9}));
}

TEST(RateLimiterTest, WithoutARatioOnlyMinSizeCounts) {
  const RateLimiter limiter(Spec(0, 0, 5));
  EXPECT_TRUE(limiter.CanInsert({.inserted = 1u << 30, .size = 5}));
  EXPECT_TRUE(
      limiter.CanSample({.inserted = 5, .sampled = 1u << 30, .size = 5}));
  EXPECT_FALSE(limiter.CanSample({.inserted = 4, .size = 4}));
}

TEST(RateLimiterTest, EmptyTableIsNeverSampled) {
  const RateLimiter limiter(Spec(0, 0, 0));
  EXPECT_FALSE(limiter.CanSample({}));
  EXPECT_TRUE(limiter.CanInsert({}));
}

}  // namespace
}  // namespace qfleet
