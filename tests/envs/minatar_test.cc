#include "envs/minatar.h"

#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/random.h"
#include "envs/minatar_games.h"
#include "envs/registry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/envs/minatar_cells.h"

namespace qfleet::minatar {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::IsEmpty;

// Decides as make_minatar_golden.py did: 0 <= k < 840 are the recorded draws.
class Recorded {
 public:
  explicit Recorded(const json& draws) : draws_(draws) {}

  int Next(int n) {
    if (next_ >= draws_.size()) {
      ADD_FAILURE() << "a draw too many, below " << n;
      return 0;
    }
    return draws_[next_++].get<int>() * n / 840;
  }

  bool is_used_up() const { return next_ == draws_.size(); }

 private:
  const json& draws_;
  size_t next_ = 0;
};

// MinAtar's fields by its names.
void SetField(const std::string& name, int value, Freeway* game) {
  ASSERT_EQ(name, "terminate_timer");
  game->steps_left = value + 1;
}
void SetField(const std::string& name, int value, Asterix* game) {
  const std::map<std::string, int32_t*> fields = {
      {"move_speed", &game->move_speed},
      {"move_timer", &game->move_timer},
      {"ramp_index", &game->ramps},
      {"ramp_timer", &game->ramp_timer},
      {"spawn_speed", &game->spawn_speed}};
  *fields.at(name) = value;
}
void SetField(const std::string& name, int /*value*/, Breakout* /*game*/) {
  FAIL() << "no field " << name;
}
void SetField(const std::string& name, int value, Seaquest* game) {
  const std::map<std::string, int32_t*> fields = {
      {"diver_count", &game->divers_aboard},
      {"e_spawn_speed", &game->spawn_speed},
      {"move_speed", &game->move_speed},
      {"oxygen", &game->oxygen},
      {"ramp_index", &game->ramps}};
  *fields.at(name) = value;
}
void SetField(const std::string& name, int value, SpaceInvaders* game) {
  if (name == "ramp_index") return;  // It follows from the interval.
  ASSERT_EQ(name, "enemy_move_interval");
  game->move_period = value;
}

template <typename Game>
void FollowsMinAtar(const std::string& name) {
  std::ifstream file(QFLEET_SOURCE_DIR "/tests/golden/minatar.json");
  const json golden = json::parse(file);
  int episodes = 0;
  int ends = 0;
  for (const json& episode : golden) {
    if (episode["game"] != name) continue;
    SCOPED_TRACE(absl::StrCat("episode ", episodes++));
    Game game;
    Recorded start(episode["draws"]);
    game.Reset([&](int n) { return start.Next(n); });
    ASSERT_TRUE(start.is_used_up());
    for (const auto& [field, value] : episode["set"].items()) {
      SetField(field, value.template get<int>(), &game);
    }
    auto expected = episode["start"].template get<std::set<int>>();
    ASSERT_EQ(Observe(game), expected);
    int number = 0;
    for (const json& step : episode["steps"]) {
      SCOPED_TRACE(absl::StrCat("step ", number++));
      Recorded draws(step[3]);
      const StepResult result = game.Step(step[0], episode["ramping"],
                                          [&](int n) { return draws.Next(n); });
      ASSERT_TRUE(draws.is_used_up());
      ASSERT_EQ(result.reward, step[1].template get<float>());
      ASSERT_EQ(result.terminated || result.truncated,
                step[2].template get<bool>());
      for (const json& cell : step[4]) {
        if (expected.erase(cell) == 0) expected.insert(cell.get<int>());
      }
      ASSERT_EQ(Observe(game), expected);
      ASSERT_TRUE(game.IsValid());
      ends += step[2].template get<bool>();
    }
  }
  EXPECT_GE(episodes, 5);
  EXPECT_GE(ends, 1);
}

TEST(MinAtarTest, AsterixFollowsMinAtars) {
  FollowsMinAtar<Asterix>("asterix");
}
TEST(MinAtarTest, BreakoutFollowsMinAtars) {
  FollowsMinAtar<Breakout>("breakout");
}
TEST(MinAtarTest, FreewayFollowsMinAtars) {
  FollowsMinAtar<Freeway>("freeway");
}
TEST(MinAtarTest, SeaquestFollowsMinAtars) {
  FollowsMinAtar<Seaquest>("seaquest");
}
TEST(MinAtarTest, SpaceInvadersFollowsMinAtars) {
  FollowsMinAtar<SpaceInvaders>("space_invaders");
}

TEST(BreakoutTest, ANewWallStandsWhenTheBallComesDownAfterTheLastBrick) {
  Breakout game;
  game.Reset(Zero);
  game.bricks = {};
  // Down to the paddle, which waits where the ball will be.
  for (int step = 0; step < 5; ++step) game.Step(kNothing, true, Zero);
  EXPECT_THAT(Channel(Observe(game), 3), IsEmpty());
  game.paddle = game.column;
  EXPECT_FALSE(game.Step(kNothing, true, Zero).terminated);
  EXPECT_EQ(Channel(Observe(game), 3).size(), 30u);
}

// Beyond the golden episodes: up to full difficulty.
TEST(AsterixTest, BecomesFasterInTheOrderOfMinAtarsUpToAStepEach) {
  Asterix game;
  game.Reset(Zero);
  std::vector<std::pair<int, int>> speeds;
  for (int step = 0; step < 2000; ++step) {
    game.lanes = {};  // Nobody to meet.
    game.Step(kNothing, true, Zero);
    const std::pair<int, int> now = {game.spawn_speed, game.move_speed};
    if (speeds.empty() || speeds.back() != now) speeds.push_back(now);
  }
  using P = std::pair<int, int>;
  EXPECT_THAT(speeds, ElementsAre(P(10, 5), P(9, 5), P(8, 4), P(7, 4), P(6, 3),
                                  P(5, 3), P(4, 2), P(3, 2), P(2, 1), P(1, 1)));
}

TEST(AsterixTest, StaysAsItIsWithoutRamping) {
  Asterix game;
  game.Reset(Zero);
  for (int step = 0; step < 2000; ++step) {
    game.lanes = {};
    game.Step(kNothing, false, Zero);
    ASSERT_EQ(game.spawn_speed, 10);
    ASSERT_EQ(game.move_speed, 5);
  }
}

TEST(AsterixTest, NobodyEntersAFullBoard) {
  Asterix game;
  game.Reset(Zero);
  for (auto& lane : game.lanes)
    lane = {.is_there = 1, .column = 9, .right = -1};
  game.spawn_timer = 0;
  const std::set<int> before = Observe(game);
  game.Step(kNothing, true, [](int n) {
    EXPECT_LE(n, 3) << "no lane to choose";
    return 0;
  });
  EXPECT_EQ(Observe(game), before);
}

class MinAtarEnvironmentTest : public testing::Test {
 protected:
  std::unique_ptr<Environment> Make(const std::string& id, double stickiness) {
    v1::MinAtarConfig options;
    options.set_sticky_action_probability(stickiness);
    std::unique_ptr<Environment> made = MakeMinAtar(id, options);
    row_.resize(made->spec().observation.shape(0) * kSize * kSize *
                sizeof(float));
    made->Seed(1);
    made->Reset(Row());
    return made;
  }

  absl::Span<char> Row() { return absl::MakeSpan(row_); }

  // Where the paddle is.
  int Paddle() { return *Cells(row_).begin() - 90; }

  std::vector<char> row_;
};

// Five standard deviations.
TEST_F(MinAtarEnvironmentTest, ActionsStickOneTimeInTen) {
  auto environment = Make("MinAtar/Breakout-v0", 0.1);
  constexpr int kEpisodes = 10000;
  int first_sticks = 0;
  int second_sticks = 0;
  for (int episode = 0; episode < kEpisodes; ++episode) {
    environment->Reset(Row());
    environment->Step(kLeft, Row());
    first_sticks += Paddle() == 4;
    const int before = Paddle();
    environment->Step(kRight, Row());
    second_sticks += Paddle() == before - (before < 4);
  }
  EXPECT_NEAR(first_sticks, 0.1 * kEpisodes, 150);
  EXPECT_NEAR(second_sticks, 0.1 * kEpisodes, 150);
}

TEST_F(MinAtarEnvironmentTest, ActionsStickNeverOrAlways) {
  auto never = Make("MinAtar/Breakout-v0", 0);
  for (int step = 0; step < 4; ++step) {
    never->Step(step % 2 == 0 ? kLeft : kRight, Row());
    EXPECT_EQ(Paddle(), step % 2 == 0 ? 3 : 4);
  }
  auto always = Make("MinAtar/Breakout-v0", 1);
  for (int step = 0; step < 4; ++step) {
    always->Step(kLeft, Row());
    EXPECT_EQ(Paddle(), 4);
  }
}

TEST_F(MinAtarEnvironmentTest, TheConfigsOptionsReachIt) {
  v1::EnvironmentConfig config;
  config.set_id("MinAtar/Breakout-v0");
  config.mutable_minatar()->set_sticky_action_probability(1);
  auto made = MakeEnvironment(config);
  ASSERT_TRUE(made.ok()) << made.status();
  row_.resize(4 * kSize * kSize * sizeof(float));
  (*made)->Reset(Row());
  (*made)->Step(kLeft, Row());
  EXPECT_EQ(Paddle(), 4);
}

TEST_F(MinAtarEnvironmentTest, FreewayIsTruncatedAfter2501Steps) {
  auto environment = Make("MinAtar/Freeway-v0", 0.1);
  for (int episode = 0; episode < 2; ++episode) {
    for (int step = 1; step <= 2501; ++step) {
      const StepResult result = environment->Step(kUp, Row());
      ASSERT_FALSE(result.terminated);
      ASSERT_EQ(result.truncated, step == 2501) << step;
    }
    environment->Reset(Row());
  }
}

// Any bytes are either refused or a state from which the game goes on without
// leaving the board (which AddressSanitizer sees).
TEST_F(MinAtarEnvironmentTest, AHostileStateIsRefusedOrPlayed) {
  Random random(2);
  for (const auto& [id, size] :
       {std::pair(Asterix::kId, sizeof(Asterix)),
        std::pair(Breakout::kId, sizeof(Breakout)),
        std::pair(Freeway::kId, sizeof(Freeway)),
        std::pair(Seaquest::kId, sizeof(Seaquest)),
        std::pair(SpaceInvaders::kId, sizeof(SpaceInvaders))}) {
    auto environment = Make(id, 0.1);
    const std::string state = *environment->Save();
    int loaded = 0;
    for (int round = 0; round < 3000; ++round) {
      std::string bad = state;
      // A few int32s of the game become small or any numbers, half of them
      // among the first.
      const int changes = 1 + static_cast<int>(random.Below(3));
      for (int i = 0; i < changes; ++i) {
        const auto value = static_cast<int32_t>(
            random.Below(4) == 0 ? random.Bits() : random.Below(14) - 2);
        const uint64_t at =
            random.Below(random.Below(2) == 0 ? 36 : 1 + size / sizeof(value));
        std::memcpy(&bad[sizeof(value) * at], &value, sizeof(value));
      }
      const absl::Status status = environment->Load(bad);
      if (!status.ok()) {
        ASSERT_TRUE(absl::IsInvalidArgument(status));
        continue;
      }
      ++loaded;
      for (int step = 0; step < 30; ++step) {
        environment->Step(static_cast<int>(random.Below(kActions)), Row());
        Cells(row_);
      }
    }
    EXPECT_GT(loaded, 100) << id;
  }
}

TEST(MinAtarTest, MakesOnlyItsOwn) {
  EXPECT_EQ(MakeMinAtar("MinAtar/Pong-v0", {}), nullptr);
}

}  // namespace
}  // namespace qfleet::minatar
