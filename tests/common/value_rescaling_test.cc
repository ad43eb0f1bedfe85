#include "common/value_rescaling.h"

#include <cmath>

#include "gtest/gtest.h"

namespace qfleet {
namespace {

TEST(ValueRescalingTest, IsTheFormulaOfThePaper) {
  EXPECT_EQ(RescaleValue(0), 0);
  EXPECT_NEAR(RescaleValue(3), 1 + 0.003, 1e-15);
  EXPECT_NEAR(RescaleValue(-3), -1 - 0.003, 1e-15);
  EXPECT_NEAR(RescaleValue(9999), 99 + 9.999, 1e-12);
}

TEST(ValueRescalingTest, TheInverseUndoesIt) {
  EXPECT_NEAR(UnscaleValue(1.003), 3, 1e-13);
  EXPECT_NEAR(UnscaleValue(0), 0, 1e-15);
  for (double size = 1e-9; size < 1e9; size *= 3) {
    for (double x : {size, -size}) {
      EXPECT_NEAR(UnscaleValue(RescaleValue(x)), x, 1e-13 + 1e-12 * size);
      EXPECT_NEAR(RescaleValue(UnscaleValue(x)), x, 1e-13 + 1e-12 * size);
    }
  }
}

TEST(ValueRescalingTest, Rises) {
  double last = RescaleValue(-1000.5);
  for (double x = -1000; x < 1000; x += 0.5) {
    EXPECT_GT(RescaleValue(x), last);
    last = RescaleValue(x);
  }
}

TEST(ValueRescalingTest, WhatIsNoNumberStaysNone) {
  EXPECT_TRUE(std::isnan(RescaleValue(NAN)));
  EXPECT_TRUE(std::isnan(UnscaleValue(NAN)));
}

}  // namespace
}  // namespace qfleet
