#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "replay_client/sampler.h"

namespace qfleet {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

TEST(ImportanceWeightsTest, FollowTheFormula) {
  const std::vector<double> scaled = {4, 1, 0.25};
  // (4^-0.5, 1, 0.25^-0.5) = (0.5, 1, 2), over 2.
  EXPECT_THAT(ImportanceWeights(scaled, 0.5), ElementsAre(0.25f, 0.5f, 1.0f));
}

TEST(ImportanceWeightsTest, BetaZeroIsNoCorrection) {
  EXPECT_THAT(ImportanceWeights({3.0, 0.1, 7.0}, 0), Each(1.0f));
}

TEST(ImportanceWeightsTest, TinyProbabilitiesDoNotOverflow) {
  const std::vector<float> weights = ImportanceWeights({1e-300, 1e300}, 1);
  EXPECT_EQ(weights[0], 1.0f);
  EXPECT_TRUE(std::isfinite(weights[1]));
  EXPECT_TRUE(ImportanceWeights({}, 1).empty());
}

}  // namespace
}  // namespace qfleet
