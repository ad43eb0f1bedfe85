#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/random.h"
#include "envs/minatar.h"
#include "envs/minatar_games.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/envs/minatar_cells.h"

namespace qfleet::minatar {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

int Never(int /*n*/) {
  ADD_FAILURE() << "nothing in this game is random";
  return 0;
}

SpaceInvaders AtTheStart() {
  SpaceInvaders game;
  game.Reset(Never);
  return game;
}

// A step in which no alien shoots.
StepResult StepQuietly(SpaceInvaders* game, int action = kNothing,
                       bool ramping = true) {
  game->alien_shot_timer = 5;
  return game->Step(action, ramping, Never);
}

std::set<int> Aliens(const SpaceInvaders& game) {
  return Channel(Observe(game), 1);
}

// The steps of the next `count` moves of the aliens.
std::vector<int> Moves(SpaceInvaders* game, size_t count) {
  std::vector<int> moves;
  for (int step = 1; moves.size() < count && step < 1000; ++step) {
    const std::set<int> before = Aliens(*game);
    StepQuietly(game);
    if (Aliens(*game) != before) moves.push_back(step);
  }
  return moves;
}

TEST(SpaceInvadersTest, AliensMoveEveryTwelveStepsSidewaysAndThenDown) {
  SpaceInvaders game = AtTheStart();
  std::set<int> expected = Aliens(game);
  ASSERT_EQ(expected.size(), 24u);
  ASSERT_EQ(*expected.begin(), 2);
  game.move_timer = 11;
  const auto shift = [&](int cells) {
    std::set<int> shifted;
    for (int cell : expected) shifted.insert(cell + cells);
    expected = shifted;
  };
  // Left to the wall, down, right to the wall, down, left.
  for (int cells : {-1, -1, 10, 1, 1, 1, 1, 10, -1}) {
    for (int step = 0; step < 11; ++step) {
      StepQuietly(&game);
      ASSERT_EQ(Aliens(game), expected);
    }
    StepQuietly(&game);
    shift(cells);
    ASSERT_EQ(Aliens(game), expected);
    ASSERT_TRUE(game.IsValid());
  }
}

TEST(SpaceInvadersTest, FewerThanTwelveAliensMoveEveryAsManySteps) {
  for (int count = 1; count <= 24; ++count) {
    SpaceInvaders game = AtTheStart();
    game.aliens = {};
    for (int i = 0; i < count; ++i) game.aliens[i / 6][2 + i % 6] = 1;
    game.move_timer = 0;
    const int period = std::min(count, 12);
    EXPECT_THAT(Moves(&game, 3), ElementsAre(1, 1 + period, 1 + 2 * period))
        << count;
  }
}

TEST(SpaceInvadersTest, TheirDirectionIsSeen) {
  SpaceInvaders game = AtTheStart();
  for (int step = 0; step < 150; ++step) {
    StepQuietly(&game);
    const std::set<int> cells = Observe(game);
    EXPECT_EQ(Channel(cells, game.right == 1 ? 3 : 2), Channel(cells, 1));
    EXPECT_THAT(Channel(cells, game.right == 1 ? 2 : 3), IsEmpty());
  }
}

TEST(SpaceInvadersTest, EachWaveIsFasterUpToEverySixSteps) {
  for (bool ramping : {true, false}) {
    SpaceInvaders game = AtTheStart();
    for (int wave = 1; wave <= 10; ++wave) {
      game.aliens = {};
      game.aliens[5][6] = 1;
      game.bullets[6][6] = 1;
      game.move_timer = 5;
      EXPECT_EQ(StepQuietly(&game, kNothing, ramping).reward, 1);
      EXPECT_EQ(Aliens(game).size(), 24u) << "the next wave";
      EXPECT_EQ(*Aliens(game).begin(), 2);
      EXPECT_EQ(game.move_period, ramping ? std::max(12 - wave, 6) : 12);
    }
    game.move_timer = 0;
    const int period = ramping ? 6 : 12;
    EXPECT_THAT(Moves(&game, 3), ElementsAre(1, 1 + period, 1 + 2 * period));
  }
}

TEST(SpaceInvadersTest, TheCannonShootsOnceInFiveSteps) {
  SpaceInvaders game = AtTheStart();
  game.cannon = 0;
  std::vector<int> shots;
  for (int step = 0; step < 16; ++step) {
    game.move_timer = 5;
    StepQuietly(&game, kFire);
    if (Channel(Observe(game), 4).count(80) == 1) shots.push_back(step);
  }
  EXPECT_THAT(shots, ElementsAre(0, 5, 10, 15));
}

TEST(SpaceInvadersTest, AWaveIsTwentyFourRewards) {
  SpaceInvaders game = AtTheStart();
  float rewards = 0;
  for (int step = 0; step < 400 && rewards < 24; ++step) {
    ASSERT_EQ(game.move_period, 12);
    // To the leftmost alien's column, under which it shoots.
    int target = 0;
    while (game.aliens[0][target] + game.aliens[1][target] +
               game.aliens[2][target] + game.aliens[3][target] ==
           0) {
      ++target;
    }
    game.move_timer = 5;  // They stay.
    rewards += StepQuietly(&game, game.cannon > target   ? kLeft
                                  : game.cannon < target ? kRight
                                                         : kFire)
                   .reward;
  }
  EXPECT_EQ(rewards, 24);
  EXPECT_EQ(game.move_period, 11);
}

TEST(SpaceInvadersTest, TheLowestAlienNearestToTheCannonShootsEveryTenSteps) {
  SpaceInvaders game = AtTheStart();
  game.aliens = {};
  game.aliens[2][3] = game.aliens[4][3] = game.aliens[3][7] = 1;
  const auto shot = [&](int cannon) {
    game.cannon = cannon;
    game.alien_bullets = {};
    game.alien_shot_timer = 0;
    game.move_timer = 5;
    game.Step(kNothing, true, Never);
    EXPECT_EQ(game.alien_shot_timer, 9);
    return Channel(Observe(game), 5);
  };
  for (int cannon = 0; cannon <= 5; ++cannon) {
    EXPECT_THAT(shot(cannon), ElementsAre(43)) << cannon;
  }
  for (int cannon = 6; cannon <= 9; ++cannon) {
    EXPECT_THAT(shot(cannon), ElementsAre(37)) << cannon;
  }
  // And by itself, ten steps later.
  game.cannon = 0;
  game.alien_bullets = {};
  std::vector<int> shots;
  for (int step = 1; step <= 30; ++step) {
    game.move_timer = 5;
    game.Step(kNothing, true, Never);
    if (Channel(Observe(game), 5).count(43) == 1) shots.push_back(step);
  }
  EXPECT_THAT(shots, ElementsAre(10, 20, 30));
}

TEST(SpaceInvadersTest, ABulletEndsTheEpisodeUnlessItIsDodged) {
  SpaceInvaders game = AtTheStart();
  game.alien_bullets[8][5] = 1;
  SpaceInvaders dodges = game;
  EXPECT_TRUE(StepQuietly(&game).terminated);
  EXPECT_FALSE(StepQuietly(&dodges, kLeft).terminated);
  EXPECT_THAT(Channel(Observe(dodges), 5), ElementsAre(95));
  EXPECT_FALSE(StepQuietly(&dodges, kRight).terminated) << "it has passed";
  EXPECT_THAT(Channel(Observe(dodges), 5), IsEmpty());
}

TEST(SpaceInvadersTest, AliensThatAreDownEndTheEpisode) {
  SpaceInvaders game = AtTheStart();
  game.aliens[9][0] = 1;
  SpaceInvaders below = game;
  below.move_timer = 0;
  EXPECT_TRUE(StepQuietly(&below).terminated) << "below the bottom row";
  EXPECT_TRUE(below.IsValid());
  SpaceInvaders runs = game;
  runs.cannon = 1;
  EXPECT_TRUE(StepQuietly(&runs, kLeft).terminated) << "the cannon into one";
  SpaceInvaders comes = game;
  comes.aliens = {};
  comes.aliens[9][6] = 1;
  EXPECT_FALSE(StepQuietly(&comes).terminated);
  comes.move_timer = 0;
  EXPECT_TRUE(StepQuietly(&comes).terminated) << "one into the cannon";
}

class SpaceInvadersEnvironmentTest : public testing::Test {
 protected:
  SpaceInvadersEnvironmentTest()
      : row_(SpaceInvaders::kChannels * kSize * kSize * sizeof(float)) {}

  std::unique_ptr<Environment> Make(uint64_t seed, double stickiness = 0.1) {
    v1::MinAtarConfig options;
    options.set_sticky_action_probability(stickiness);
    auto made = MakeMinAtar(SpaceInvaders::kId, options);
    made->Seed(seed);
    made->Reset(absl::MakeSpan(row_));
    return made;
  }

  // Steps both with the same actions; how many of them ended an episode.
  int ExpectSame(Environment& one, Environment& other, int steps) {
    Random actions(4);
    std::vector<char> other_row = row_;
    int ends = 0;
    for (int step = 0; step < steps; ++step) {
      const int action = static_cast<int>(actions.Below(kActions));
      const StepResult result = one.Step(action, absl::MakeSpan(row_));
      const StepResult same = other.Step(action, absl::MakeSpan(other_row));
      EXPECT_EQ(row_, other_row) << step;
      EXPECT_EQ(result.reward, same.reward) << step;
      EXPECT_EQ(result.terminated, same.terminated) << step;
      if (testing::Test::HasFailure()) break;
      if (result.terminated) {
        ++ends;
        one.Reset(absl::MakeSpan(row_));
        other.Reset(absl::MakeSpan(other_row));
      }
    }
    return ends;
  }

  std::vector<char> row_;
};

TEST_F(SpaceInvadersEnvironmentTest, OnlyStickyActionsAreRandom) {
  auto one = Make(1, 0);
  auto other = Make(2, 0);
  EXPECT_GT(ExpectSame(*one, *other, 2000), 5);
}

TEST_F(SpaceInvadersEnvironmentTest, GoesOnFromAStateInTheMiddle) {
  auto environment = Make(1);
  for (int action : {kFire, kLeft, kLeft, kLeft, kLeft, kFire, kNothing, kFire,
                     kNothing, kFire, kFire, kRight}) {
    ASSERT_FALSE(environment->Step(action, absl::MakeSpan(row_)).terminated);
  }
  const std::set<int> cells = Cells(row_);
  EXPECT_FALSE(Channel(cells, 4).empty());
  EXPECT_FALSE(Channel(cells, 5).empty());
  const std::string state = *environment->Save();
  auto restored = Make(99);
  ASSERT_EQ(restored->Load(state), absl::OkStatus());
  EXPECT_EQ(*restored->Save(), state);
  EXPECT_GT(ExpectSame(*environment, *restored, 1000), 1);
}

TEST_F(SpaceInvadersEnvironmentTest, ACloneIsIndependent) {
  auto environment = Make(1);
  const std::string state = *environment->Save();
  auto clone = environment->Clone();
  auto other_clone = environment->Clone();
  for (int step = 0; step < 11; ++step) {
    clone->Step(kFire, absl::MakeSpan(row_));
  }
  EXPECT_EQ(*environment->Save(), state);
  EXPECT_GT(ExpectSame(*environment, *other_clone, 1000), 1);
}

}  // namespace
}  // namespace qfleet::minatar
