#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/random.h"
#include "envs/minatar.h"
#include "envs/minatar_games.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/envs/minatar_cells.h"

namespace qfleet::minatar {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Ge;
using testing::IsEmpty;
using testing::Le;

// Alone in the middle of the sea, looking to the left; nobody comes within 20
// steps.
Seaquest Diving(int divers_aboard = 0) {
  Seaquest game;
  game.Reset(Zero);
  game.row = 4;
  game.divers_aboard = divers_aboard;
  return game;
}

// A step in which nobody comes.
StepResult StepAlone(Seaquest* game, int action, bool ramping = true) {
  game->spawn_timer = game->diver_timer = 1;
  return game->Step(action, ramping, Zero);
}

// Up from row 1.
StepResult Surface(Seaquest* game, bool ramping = true) {
  game->row = 1;
  return StepAlone(game, kUp, ramping);
}

TEST(SeaquestTest, OxygenLastsFor200StepsUnderWater) {
  Seaquest game;
  game.Reset(Zero);
  for (int step = 0; step < 50; ++step) StepAlone(&game, kLeft);
  EXPECT_EQ(Channel(Observe(game), 7).size(), 10u) << "at the surface";
  for (int step = 1; step <= 200; ++step) {
    ASSERT_FALSE(StepAlone(&game, kDown).terminated) << step;
    ASSERT_EQ(Channel(Observe(game), 7).size(), (200u - step) / 20) << step;
  }
  EXPECT_TRUE(StepAlone(&game, kDown).terminated);
  EXPECT_TRUE(game.IsValid());
}

TEST(SeaquestTest, WhoSurfacesWithADiverGetsOxygenForIt) {
  for (int divers = 1; divers <= 5; ++divers) {
    Seaquest game = Diving(divers);
    game.oxygen = 1;
    const StepResult result = Surface(&game);
    EXPECT_FALSE(result.terminated);
    EXPECT_EQ(result.reward, 0);
    EXPECT_EQ(game.oxygen, 200);
    EXPECT_EQ(Channel(Observe(game), 8).size(), divers - 1u);
    StepAlone(&game, kUp);
    EXPECT_EQ(game.divers_aboard, divers - 1) << "staying up costs nothing";
  }
}

TEST(SeaquestTest, WhoSurfacesWithoutADiverOrOxygenIsLost) {
  Seaquest game = Diving();
  EXPECT_TRUE(Surface(&game).terminated);
  game = Diving(6);
  game.oxygen = 0;
  const StepResult result = Surface(&game);
  EXPECT_TRUE(result.terminated);
  EXPECT_EQ(result.reward, 0);
}

TEST(SeaquestTest, SixDiversAreWorthTheOxygenThatIsLeft) {
  for (int oxygen = 1; oxygen <= 200; ++oxygen) {
    Seaquest game = Diving(6);
    game.oxygen = oxygen;
    const size_t gauge = Channel(Observe(game), 7).size();
    EXPECT_EQ(Surface(&game).reward, static_cast<float>(gauge)) << oxygen;
    EXPECT_EQ(game.oxygen, 200);
  }
}

// MinAtar 1.0.15 counts so.
TEST(SeaquestTest, AfterSixTheNextDiverIsAsGoodAsNone) {
  Seaquest game = Diving(6);
  Surface(&game);
  EXPECT_EQ(game.divers_aboard, -1);
  EXPECT_THAT(Channel(Observe(game), 8), IsEmpty());
  Seaquest again = game;
  EXPECT_FALSE(Surface(&again).terminated);
  EXPECT_EQ(again.divers_aboard, -2);
  game.row = 4;
  game.divers.Add({.row = 4, .column = 5, .right = 1, .move_timer = 3});
  StepAlone(&game, kNothing);
  EXPECT_EQ(game.divers_aboard, 0);
  EXPECT_TRUE(Surface(&game).terminated);
}

TEST(SeaquestTest, DiversAreTakenAboardUpToSix) {
  Seaquest game = Diving();
  for (unsigned divers = 1; divers <= 8; ++divers) {
    game.divers = {};
    game.divers.Add({.row = 4, .column = 5, .right = 1, .move_timer = 3});
    StepAlone(&game, kNothing);
    EXPECT_EQ(Channel(Observe(game), 8).size(), std::min(divers, 6u));
    EXPECT_EQ(game.divers.size, divers <= 6 ? 0 : 1);
  }
}

TEST(SeaquestTest, ADiverCrossesTheBoardInSixtySteps) {
  Seaquest game = Diving();
  game.diver_timer = 0;
  game.Step(kNothing, true, Zero);  // From the left, in row 1.
  for (int step = 1; step < 60; ++step) {
    ASSERT_THAT(Channel(Observe(game), 9), ElementsAre(10 + step / 6)) << step;
    StepAlone(&game, kNothing);
  }
  EXPECT_THAT(Channel(Observe(game), 9), IsEmpty());
}

TEST(SeaquestTest, ThePlayerShootsAheadOnceInFiveSteps) {
  Seaquest game = Diving();
  std::vector<int> shots;
  for (int step = 0; step < 16; ++step) {
    StepAlone(&game, kFire);
    if (Channel(Observe(game), 2).count(44) == 1) shots.push_back(step);
  }
  EXPECT_THAT(shots, ElementsAre(0, 5, 10, 15));
  game = Diving();
  StepAlone(&game, kRight);
  StepAlone(&game, kFire);
  for (int cell : {47, 48, 49}) {
    EXPECT_THAT(Channel(Observe(game), 2), ElementsAre(cell));
    StepAlone(&game, kNothing);
  }
  EXPECT_EQ(game.bullets.size, 0) << "off the board";
}

TEST(SeaquestTest, ASubmarineShootsAheadOnceInElevenSteps) {
  Seaquest game = Diving();
  game.submarines.Add({.row = 2, .column = 9, .right = -1, .shot_timer = 10});
  std::vector<int> shots;
  int before = 0;
  for (int step = 1; step <= 50; ++step) {
    StepAlone(&game, kNothing);
    if (game.enemy_bullets.size > before) shots.push_back(step);
    before = game.enemy_bullets.size;
    for (const Seaquest::Bullet& bullet : game.enemy_bullets) {
      EXPECT_EQ(bullet.right, -1);
    }
  }
  EXPECT_THAT(shots, ElementsAre(11, 22, 33, 44));
}

// Either the bullet moves onto the enemy or the enemy onto the bullet.
TEST(SeaquestTest, AShotEnemyIsGoneAndIsOneReward) {
  for (int column : {1, 2}) {
    for (bool is_submarine : {false, true}) {
      Seaquest game = Diving();
      game.bullets.Add({.row = 4, .column = 3, .right = -1});
      (is_submarine ? game.submarines : game.fish)
          .Add({.row = 4,
                .column = column,
                .right = 1,
                .move_timer = column == 1 ? 0 : 3,
                .shot_timer = 5});
      EXPECT_EQ(StepAlone(&game, kNothing).reward, 1);
      EXPECT_EQ(game.fish.size + game.submarines.size + game.bullets.size, 0);
    }
  }
}

TEST(SeaquestTest, AnEnemyOrItsBulletEndsTheEpisodeAtThePlayersFront) {
  const auto meets = [](int column, auto add) {
    Seaquest game = Diving();
    add(&game, column);
    return StepAlone(&game, kNothing).terminated;
  };
  const auto add_fish = [](Seaquest* game, int column) {
    game->fish.Add({.row = 4, .column = column, .right = 1, .move_timer = 2});
  };
  const auto add_submarine = [](Seaquest* game, int column) {
    game->submarines.Add({.row = 4,
                          .column = column,
                          .right = 1,
                          .move_timer = 2,
                          .shot_timer = 5});
  };
  const auto add_bullet = [](Seaquest* game, int column) {
    game->enemy_bullets.Add({.row = 4, .column = column - 1, .right = 1});
  };
  EXPECT_TRUE(meets(5, add_fish));
  EXPECT_TRUE(meets(5, add_submarine));
  EXPECT_TRUE(meets(5, add_bullet));
  // Not at its back.
  EXPECT_FALSE(meets(6, add_fish));
  EXPECT_FALSE(meets(6, add_submarine));
  EXPECT_FALSE(meets(7, add_bullet));
}

TEST(SeaquestTest, BecomesFasterWithEachSurfacingInTheOrderOfMinAtars) {
  Seaquest game = Diving();
  std::vector<std::pair<int, int>> speeds;
  for (int i = 0; i < 30; ++i) {
    game.divers_aboard = 2;
    Surface(&game);
    const std::pair<int, int> now = {game.spawn_speed, game.move_speed};
    if (speeds.empty() || speeds.back() != now) speeds.push_back(now);
  }
  using P = std::pair<int, int>;
  EXPECT_THAT(speeds,
              ElementsAre(P(19, 5), P(18, 4), P(17, 4), P(16, 3), P(15, 3),
                          P(14, 2), P(13, 2), P(12, 2), P(11, 2), P(10, 2),
                          P(9, 2), P(8, 2), P(7, 2), P(6, 2), P(5, 2), P(4, 2),
                          P(3, 2), P(2, 2), P(1, 2)));
  EXPECT_TRUE(game.IsValid());
}

TEST(SeaquestTest, StaysAsItIsWithoutRamping) {
  Seaquest game = Diving(6);
  for (int i = 0; i < 30; ++i) {
    game.divers_aboard = 6;
    Surface(&game, /*ramping=*/false);
    ASSERT_EQ(game.spawn_speed, 20);
    ASSERT_EQ(game.move_speed, 5);
  }
}

// Whatever the speeds; the player is at the surface, where nobody comes.
TEST(SeaquestTest, EnemiesOfARowGoOneWayAndNeverFillTheLists) {
  Random random(1);
  const auto draw = [&](int n) { return static_cast<int>(random.Below(n)); };
  int most = 0;
  for (int move_speed : {2, 5}) {
    Seaquest game;
    game.Reset(draw);
    game.spawn_speed = game.spawn_timer = 1;
    game.move_speed = move_speed;
    for (int step = 0; step < 20000; ++step) {
      ASSERT_FALSE(game.Step(kFire, true, draw).terminated);
      ASSERT_TRUE(game.IsValid());
      std::vector<int> right(kSize, 0);
      for (const auto* enemies : {&game.fish, &game.submarines}) {
        for (const Seaquest::Swimmer& enemy : *enemies) {
          int& way = right[enemy.row];
          ASSERT_TRUE(way == 0 || way == enemy.right);
          way = enemy.right;
        }
      }
      most = std::max(most, game.fish.size + game.submarines.size);
      ASSERT_LE(game.fish.size + game.submarines.size, 60);
      ASSERT_LE(game.enemy_bullets.size, 71);
      ASSERT_LE(game.divers.size, 3);
      ASSERT_LE(game.bullets.size, 3);
    }
  }
  EXPECT_GT(most, 25);
}

// No game comes there, but a state that is loaded may.
TEST(SeaquestTest, FullListsTakeNobodyElse) {
  Seaquest game = Diving();
  for (int i = 0; i < 100; ++i) {
    game.bullets.Add({.row = 5, .column = 3, .right = 1});
    game.divers.Add({.row = 6, .column = 3, .right = 1, .move_timer = 5});
    game.fish.Add({.row = 7, .column = 3, .right = 1, .move_timer = 5});
    game.submarines.Add({.row = 8, .column = 3, .right = 1, .move_timer = 5});
    game.enemy_bullets.Add({.row = 8, .column = 2, .right = 1});
  }
  ASSERT_TRUE(game.IsValid());
  game.spawn_timer = game.diver_timer = 0;
  game.Step(kFire, true, Zero);
  EXPECT_TRUE(game.IsValid());
  EXPECT_EQ(game.bullets.size, 4);
  EXPECT_EQ(game.divers.size, 4);
  EXPECT_EQ(game.submarines.size, 64);
  EXPECT_EQ(game.enemy_bullets.size, 72);
}

// Five standard deviations.
TEST(SeaquestTest, AThirdOfTheEnemiesAreSubmarinesAndAllRowsAreUsed) {
  Random random(2);
  const auto draw = [&](int n) { return static_cast<int>(random.Below(n)); };
  constexpr int kEnemies = 20000;
  int submarines = 0;
  int right = 0;
  std::vector<int> rows(kSize, 0);
  for (int i = 0; i < kEnemies; ++i) {
    Seaquest game;
    game.Reset(draw);
    game.spawn_timer = 0;
    game.Step(kNothing, true, draw);
    ASSERT_EQ(game.fish.size + game.submarines.size, 1);
    submarines += game.submarines.size;
    const Seaquest::Swimmer enemy =
        game.fish.size == 1 ? game.fish.items[0] : game.submarines.items[0];
    ASSERT_EQ(enemy.column, enemy.right == 1 ? 0 : 9);
    right += enemy.right == 1;
    ++rows[enemy.row];
  }
  EXPECT_NEAR(submarines, kEnemies / 3, 334);
  EXPECT_NEAR(right, kEnemies / 2, 354);
  for (int row = 1; row <= 8; ++row) {
    EXPECT_THAT(rows[row], AllOf(Ge(2500 - 234), Le(2500 + 234))) << row;
  }
}

// With enemies on the board, where random play does not come.
class SeaquestEnvironmentTest : public testing::Test {
 protected:
  SeaquestEnvironmentTest() : row_(10 * kSize * kSize * sizeof(float)) {}

  std::unique_ptr<Environment> InTheMiddle() {
    std::unique_ptr<Environment> made = MakeMinAtar(Seaquest::kId, {});
    Random actions(3);
    for (uint64_t seed = 1;; ++seed) {
      made->Seed(seed);
      made->Reset(absl::MakeSpan(row_));
      bool ended = false;
      for (int step = 0; step < 150 && !ended; ++step) {
        ended = Play(*made, actions).second.terminated;
      }
      const std::set<int> cells = Cells(row_);
      if (!ended && !Channel(cells, 5).empty() && !Channel(cells, 6).empty()) {
        return made;
      }
    }
  }

  // The observation and the result of a random action that does not go up.
  std::pair<std::vector<char>, StepResult> Play(Environment& environment,
                                                Random& random) {
    constexpr int kActionsBelow[] = {kNothing, kLeft, kRight, kDown, kFire};
    const StepResult result =
        environment.Step(kActionsBelow[random.Below(5)], absl::MakeSpan(row_));
    return {row_, result};
  }

  // Whether they do the same until well after the end of this episode.
  void ExpectSame(Environment& one, Environment& other) {
    Random actions(4);
    Random same_actions(4);
    for (int step = 0; step < 1000; ++step) {
      const auto [row, result] = Play(one, actions);
      const auto [other_row, other_result] = Play(other, same_actions);
      ASSERT_EQ(row, other_row) << step;
      ASSERT_EQ(result.reward, other_result.reward) << step;
      ASSERT_EQ(result.terminated, other_result.terminated) << step;
      if (result.terminated) {
        one.Reset(absl::MakeSpan(row_));
        other.Reset(absl::MakeSpan(row_));
      }
    }
  }

  std::vector<char> row_;
};

TEST_F(SeaquestEnvironmentTest, GoesOnFromAStateInTheMiddle) {
  auto environment = InTheMiddle();
  const std::string state = *environment->Save();
  auto restored = MakeMinAtar(Seaquest::kId, {});
  restored->Seed(99);
  restored->Reset(absl::MakeSpan(row_));
  ASSERT_EQ(restored->Load(state), absl::OkStatus());
  EXPECT_EQ(*restored->Save(), state);
  ExpectSame(*environment, *restored);
}

TEST_F(SeaquestEnvironmentTest, ACloneIsIndependent) {
  auto environment = InTheMiddle();
  const std::string state = *environment->Save();
  auto clone = environment->Clone();
  auto other_clone = environment->Clone();
  Random actions(5);
  for (int step = 0; step < 100; ++step) {
    if (Play(*clone, actions).second.terminated) {
      clone->Reset(absl::MakeSpan(row_));
    }
  }
  EXPECT_EQ(*environment->Save(), state);
  ExpectSame(*environment, *other_clone);
}

}  // namespace
}  // namespace qfleet::minatar
