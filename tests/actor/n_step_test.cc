// Episodes worked by hand: rewards 1, 2, 4, 8, ..., gamma 0.5, so that
// discounted sums are easy to see.
#include "actor/n_step.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using testing::ElementsAre;

struct Expected {
  uint64_t first, last;
  float return_, discount, priority;
};

MATCHER_P(Is, expected, "") {
  return arg.first == expected.first && arg.last == expected.last &&
         arg.return_ == expected.return_ && arg.discount == expected.discount &&
         arg.priority == expected.priority;
}

enum class End { kTerminated, kTruncated, kRunning };

// Plays an episode of `length` steps whose first step has index `first`.
// Step t (from 0): reward 2^t, Q(taken) = 1, max Q of every observation = 8.
std::vector<NStepItem> Play(NStep& n_step, uint64_t first, int length,
                            End end) {
  std::vector<NStepItem> items;
  float reward = 1;
  for (int t = 0; t < length; ++t) {
    n_step.OnObservation(first + t, 8, items);
    n_step.OnAction(first + t, /*action=*/t, /*q=*/1, reward);
    reward *= 2;
  }
  if (end == End::kTerminated) n_step.OnTerminated(first + length, items);
  if (end == End::kTruncated) n_step.OnTruncated(first + length, 8, items);
  return items;
}

// Sums over k steps from t with gamma 0.5 and rewards 2^t: k * 2^t.
TEST(NStepTest, TerminatedEpisodeEndsInItemsOfNTo1StepsWithDiscount0) {
  NStep n_step(3, 0.5);
  EXPECT_THAT(
      Play(n_step, 0, 5, End::kTerminated),
      ElementsAre(Is(Expected{0, 3, 3, 0.125, 3}),
                  Is(Expected{1, 4, 6, 0.125, 6}),
                  Is(Expected{2, 5, 12, 0, 11}), Is(Expected{3, 5, 16, 0, 15}),
                  Is(Expected{4, 5, 16, 0, 15})));
}

TEST(NStepTest, TruncatedEpisodeBootstrapsFromItsFinalObservation) {
  NStep n_step(3, 0.5);
  EXPECT_THAT(Play(n_step, 0, 5, End::kTruncated),
              ElementsAre(Is(Expected{0, 3, 3, 0.125, 3}),
                          Is(Expected{1, 4, 6, 0.125, 6}),
                          Is(Expected{2, 5, 12, 0.125, 12}),
                          Is(Expected{3, 5, 16, 0.25, 17}),
                          Is(Expected{4, 5, 16, 0.5, 19})));
}

TEST(NStepTest, EpisodeShorterThanN) {
  NStep n_step(5, 0.5);
  EXPECT_THAT(Play(n_step, 10, 2, End::kTerminated),
              ElementsAre(Is(Expected{10, 12, 2, 0, 1}),
                          Is(Expected{11, 12, 2, 0, 1})));
  EXPECT_THAT(Play(n_step, 20, 2, End::kTruncated),
              ElementsAre(Is(Expected{20, 22, 2, 0.25, 3}),
                          Is(Expected{21, 22, 2, 0.5, 5})));
}

TEST(NStepTest, EpisodeOfLength1) {
  NStep n_step(3, 0.5);
  EXPECT_THAT(Play(n_step, 4, 1, End::kTerminated),
              ElementsAre(Is(Expected{4, 5, 1, 0, 0})));
  EXPECT_THAT(Play(n_step, 6, 1, End::kTruncated),
              ElementsAre(Is(Expected{6, 7, 1, 0.5, 4})));
}

TEST(NStepTest, EpisodeOfExactlyN) {
  NStep n_step(3, 0.5);
  EXPECT_THAT(
      Play(n_step, 0, 3, End::kTerminated),
      ElementsAre(Is(Expected{0, 3, 3, 0, 2}), Is(Expected{1, 3, 4, 0, 3}),
                  Is(Expected{2, 3, 4, 0, 3})));
}

TEST(NStepTest, NothingCrossesAReset) {
  NStep n_step(3, 0.5);
  Play(n_step, 0, 4, End::kTruncated);
  // The next episode's first steps end no item of the one before.
  EXPECT_THAT(Play(n_step, 5, 3, End::kRunning), ElementsAre());
  std::vector<NStepItem> items;
  n_step.OnObservation(8, 8, items);
  EXPECT_THAT(items, ElementsAre(Is(Expected{5, 8, 3, 0.125, 3})));
}

TEST(NStepTest, OneStep) {
  NStep n_step(1, 0.5);
  EXPECT_THAT(
      Play(n_step, 0, 3, End::kTerminated),
      ElementsAre(Is(Expected{0, 1, 1, 0.5, 4}), Is(Expected{1, 2, 2, 0.5, 5}),
                  Is(Expected{2, 3, 4, 0, 3})));
}

TEST(NStepTest, RewardsAreClippedBeforeTheyAreSummed) {
  // 1, 2, 3, 3: 2^t clipped to 3. Their sums over 2 steps: r + r' / 2.
  NStep n_step(2, 0.5, /*reward_clip=*/3);
  EXPECT_THAT(Play(n_step, 0, 4, End::kTerminated),
              ElementsAre(Is(Expected{0, 2, 2, 0.25, 3}),
                          Is(Expected{1, 3, 3.5, 0.25, 4.5}),
                          Is(Expected{2, 4, 4.5, 0, 3.5}),
                          Is(Expected{3, 4, 3, 0, 2})));
  std::vector<NStepItem> items;
  n_step.OnAction(5, /*action=*/0, /*q=*/0, /*reward=*/-100);
  n_step.OnTerminated(6, items);
  EXPECT_THAT(items, ElementsAre(Is(Expected{5, 6, -3, 0, 3})));
}

// Returns and discounts are unscaled; errors are between rescaled values:
// |h(return + discount h^-1(8)) - 1|.
TEST(NStepTest, WithValueRescalingThePriorityIsTheErrorOfRescaledValues) {
  NStep n_step(1, 0.5, /*reward_clip=*/0, /*value_rescaling=*/true);
  // h^-1(8) by its definition: h(x) = 8.
  double x = 80;
  for (int i = 0; i < 50; ++i) {
    x -=
        (std::sqrt(x + 1) - 1 + 1e-3 * x - 8) / (0.5 / std::sqrt(x + 1) + 1e-3);
  }
  const auto h = [](double v) { return std::sqrt(v + 1) - 1 + 1e-3 * v; };
  const std::vector<NStepItem> items = Play(n_step, 0, 3, End::kTruncated);
  ASSERT_EQ(items.size(), 3u);
  for (int t = 0; t < 3; ++t) {
    EXPECT_EQ(items[t].return_, 1 << t);
    EXPECT_EQ(items[t].discount, 0.5);
    EXPECT_NEAR(items[t].priority, h((1 << t) + 0.5 * x) - 1, 1e-5);
  }
  const std::vector<NStepItem> ended = Play(n_step, 4, 1, End::kTerminated);
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_NEAR(ended[0].priority, std::abs(h(1) - 1), 1e-6);
}

// Every transition is the first of exactly one item, whatever the lengths.
TEST(NStepTest, EachTransitionStartsOneItem) {
  for (int n = 1; n <= 6; ++n) {
    for (int length = 1; length <= 9; ++length) {
      for (End end : {End::kTerminated, End::kTruncated}) {
        NStep n_step(n, 0.9);
        std::vector<NStepItem> items = Play(n_step, 0, length, end);
        ASSERT_EQ(items.size(), static_cast<size_t>(length));
        for (int t = 0; t < length; ++t) {
          EXPECT_EQ(items[t].first, static_cast<uint64_t>(t));
          EXPECT_EQ(items[t].action, t);
          EXPECT_EQ(items[t].last,
                    static_cast<uint64_t>(std::min(t + n, length)));
        }
      }
    }
  }
}

}  // namespace
}  // namespace qfleet
