#include "envs/environment.h"
#include "envs/vector_environment.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/random.h"
#include "common/table_spec.h"
#include "envs/registry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Counts: the observation is 100 * seed + step; terminates after `length`
// steps if the seed is even, else is truncated. With masks, only the action
// step % 2 is legal.
class Counter : public Environment {
 public:
  explicit Counter(int length, bool masks = false) : length_(length) {
    spec_.observation.set_dtype(v1::INT32);
    spec_.num_actions = 2;
    spec_.has_action_mask = masks;
  }
  void ActionMask(absl::Span<uint8_t> mask) const override {
    mask[0] = step_ % 2 == 0;
    mask[1] = step_ % 2 == 1;
  }
  const EnvironmentSpec& spec() const override { return spec_; }
  void Seed(uint64_t seed) override { seed_ = static_cast<int>(seed); }
  void Reset(absl::Span<char> row) override {
    step_ = 0;
    Write(row);
  }
  StepResult Step(int action, absl::Span<char> row) override {
    ++step_;
    Write(row);
    const bool end = step_ == length_;
    return {.reward = static_cast<float>(action),
            .terminated = end && seed_ % 2 == 0,
            .truncated = end && seed_ % 2 == 1};
  }
  std::unique_ptr<Environment> Clone() const override {
    return std::make_unique<Counter>(*this);
  }

 private:
  void Write(absl::Span<char> row) {
    const int32_t value = 100 * seed_ + step_;
    std::memcpy(row.data(), &value, sizeof(value));
  }
  EnvironmentSpec spec_;
  int length_;
  int seed_ = 0;
  int step_ = 0;
};

int32_t Number(absl::Span<const char> row) {
  int32_t value;
  std::memcpy(&value, row.data(), sizeof(value));
  return value;
}

TEST(VectorEnvironmentTest, KeepsTheFinalObservationAndGoesOnWithAReset) {
  std::vector<std::unique_ptr<Environment>> environments;
  environments.push_back(std::make_unique<Counter>(2));
  environments.push_back(std::make_unique<Counter>(3));
  LocalVectorEnvironment vector(std::move(environments), {2, 3});
  EXPECT_EQ(Number(vector.observation(0)), 200);
  EXPECT_EQ(Number(vector.observation(1)), 300);
  ASSERT_EQ(vector.Step({0, 1}), absl::OkStatus());
  EXPECT_EQ(vector.results()[1].reward, 1);
  EXPECT_EQ(Number(vector.observation(0)), 201);
  ASSERT_EQ(vector.Step({0, 0}), absl::OkStatus());
  EXPECT_TRUE(vector.results()[0].terminated);
  EXPECT_EQ(Number(vector.final_observation(0)), 202);
  EXPECT_EQ(Number(vector.observation(0)), 200);
  EXPECT_EQ(Number(vector.observation(1)), 302);
  ASSERT_EQ(vector.Step({0, 0}), absl::OkStatus());
  EXPECT_FALSE(vector.results()[0].terminated);
  EXPECT_TRUE(vector.results()[1].truncated);
  EXPECT_EQ(Number(vector.final_observation(1)), 303);
  EXPECT_EQ(Number(vector.stack(0)), 201);
}

TEST(VectorEnvironmentTest, KeepsTheMasksBesideTheObservations) {
  std::vector<std::unique_ptr<Environment>> environments;
  environments.push_back(std::make_unique<Counter>(2, /*masks=*/true));
  environments.push_back(std::make_unique<Counter>(3, /*masks=*/true));
  LocalVectorEnvironment vector(std::move(environments), {2, 3});
  EXPECT_THAT(vector.action_masks(), ElementsAre(1, 0, 1, 0));
  ASSERT_EQ(vector.Step({0, 0}), absl::OkStatus());
  EXPECT_THAT(vector.action_masks(), ElementsAre(0, 1, 0, 1));
  ASSERT_EQ(vector.Step({1, 1}), absl::OkStatus());
  // Environment 0 has ended after two steps and begun anew.
  EXPECT_THAT(vector.final_action_mask(0), ElementsAre(1, 0));
  EXPECT_THAT(vector.action_masks(), ElementsAre(1, 0, 1, 0));
  ASSERT_EQ(vector.Step({0, 0}), absl::OkStatus());
  EXPECT_THAT(vector.final_action_mask(1), ElementsAre(0, 1));
  EXPECT_THAT(vector.action_mask(0), ElementsAre(0, 1));
  EXPECT_THAT(vector.action_mask(1), ElementsAre(1, 0));
}

TEST(VectorEnvironmentTest, HasNoMasksWhereEveryActionIsLegal) {
  std::vector<std::unique_ptr<Environment>> environments;
  environments.push_back(std::make_unique<Counter>(1));
  LocalVectorEnvironment vector(std::move(environments), {2});
  ASSERT_EQ(vector.Step({0}), absl::OkStatus());
  EXPECT_THAT(vector.action_masks(), IsEmpty());
  EXPECT_THAT(vector.action_mask(0), IsEmpty());
  EXPECT_THAT(vector.final_action_mask(0), IsEmpty());
}

TEST(RegistryTest, AnUnknownEnvironmentIsNamedWithTheKnownOnes) {
  v1::EnvironmentConfig config;
  config.set_id("CartPole-v9");
  absl::StatusOr<std::unique_ptr<Environment>> made = MakeEnvironment(config);
  EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(made.status().message()),
              testing::AllOf(testing::HasSubstr("environment.id"),
                             testing::HasSubstr("\"CartPole-v9\""),
                             testing::HasSubstr("CartPole-v1")));
}

// What every built-in environment promises.
class EachEnvironmentTest : public testing::TestWithParam<std::string> {
 protected:
  // All that an environment tells after Reset or Step.
  struct Told {
    std::vector<char> observation;
    std::vector<uint8_t> mask;
    StepResult result;

    bool ended() const { return result.terminated || result.truncated; }
    bool operator==(const Told& other) const {
      return observation == other.observation && mask == other.mask &&
             result.reward == other.result.reward &&
             result.terminated == other.result.terminated &&
             result.truncated == other.result.truncated;
    }
  };

  static std::unique_ptr<Environment> Make() {
    v1::EnvironmentConfig config;
    config.set_id(GetParam());
    auto environment = MakeEnvironment(config);
    EXPECT_TRUE(environment.ok()) << environment.status();
    return *std::move(environment);
  }

  static Told Reset(Environment& environment) {
    Told told = Blank(environment);
    environment.Reset(absl::MakeSpan(told.observation));
    environment.ActionMask(absl::MakeSpan(told.mask));
    return told;
  }

  static Told Step(Environment& environment, int action) {
    Told told = Blank(environment);
    told.result = environment.Step(action, absl::MakeSpan(told.observation));
    environment.ActionMask(absl::MakeSpan(told.mask));
    return told;
  }

  // A random legal action's step, or a reset after the end of an episode.
  static Told Play(Environment& environment, const Told& last, Random& random) {
    if (last.ended()) return Reset(environment);
    std::vector<int> legal;
    for (size_t a = 0; a < last.mask.size(); ++a) {
      if (last.mask[a] == 1) legal.push_back(static_cast<int>(a));
    }
    EXPECT_FALSE(legal.empty());
    return Step(environment, legal[random.Below(legal.size())]);
  }

  static Told Play(Environment& environment, Told last, Random& random,
                   int steps) {
    for (int i = 0; i < steps; ++i) last = Play(environment, last, random);
    return last;
  }

 private:
  static Told Blank(const Environment& environment) {
    const EnvironmentSpec& spec = environment.spec();
    return {.observation = std::vector<char>(RowBytes(spec.observation)),
            .mask = std::vector<uint8_t>(spec.num_actions, 7)};
  }
};

TEST_P(EachEnvironmentTest, HasALegalActionUntilTheEpisodeTerminates) {
  std::unique_ptr<Environment> environment = Make();
  environment->Seed(1);
  Random random(2);
  Told told = Reset(*environment);
  int masked = 0;
  for (int step = 0; step < 2000; ++step) {
    ASSERT_THAT(told.mask, testing::Each(testing::AnyOf(0, 1)));
    if (!told.result.terminated) {
      ASSERT_THAT(told.mask, testing::Contains(1)) << "after step " << step;
    }
    masked += std::count(told.mask.begin(), told.mask.end(), 0) > 0;
    told = Play(*environment, told, random);
  }
  EXPECT_EQ(masked > 0, environment->spec().has_action_mask);
}

TEST_P(EachEnvironmentTest, DependsOnItsSeedAlone) {
  std::unique_ptr<Environment> first = Make();
  std::unique_ptr<Environment> second = Make();
  first->Seed(3);
  Random random(1);
  Play(*first, Reset(*first), random, 100);
  first->Seed(4);
  second->Seed(4);
  Random a(5);
  Random b(5);
  Told told = Reset(*first);
  Told other = Reset(*second);
  for (int step = 0; step < 1000; ++step) {
    ASSERT_EQ(told, other) << "after step " << step;
    told = Play(*first, told, a);
    other = Play(*second, other, b);
  }
}

TEST_P(EachEnvironmentTest, GoesOnToTheBitWhereItWasSaved) {
  std::unique_ptr<Environment> environment = Make();
  environment->Seed(6);
  Random random(7);
  Told told = Reset(*environment);
  // At several points of an episode, its start and its end included.
  for (int round = 0; round < 40; ++round) {
    absl::StatusOr<std::string> state = environment->Save();
    ASSERT_TRUE(state.ok()) << state.status();
    std::unique_ptr<Environment> restored = Make();
    restored->Seed(8);
    Random same = random;
    Told other = told;
    ASSERT_TRUE(restored->Load(*state).ok());
    std::vector<uint8_t> mask(told.mask.size(), 7);
    restored->ActionMask(absl::MakeSpan(mask));
    ASSERT_EQ(mask, told.mask);
    Play(*restored, other, same, 7 * round);
    ASSERT_TRUE(restored->Load(*state).ok()) << "once more";
    same = random;
    for (int step = 0; step < 50; ++step) {
      told = Play(*environment, told, random);
      other = Play(*restored, other, same);
      ASSERT_EQ(told, other) << "round " << round << " step " << step;
    }
    EXPECT_EQ(*environment->Save(), *restored->Save());
    told = Play(*environment, told, random);
  }
}

TEST_P(EachEnvironmentTest, RefusesWhatIsNoState) {
  std::unique_ptr<Environment> environment = Make();
  environment->Seed(9);
  Random random(10);
  Play(*environment, Reset(*environment), random, 5);
  const std::string state = *environment->Save();
  for (const std::string& bad :
       {std::string(), std::string("x"), std::string(100, '\xff'),
        state.substr(0, state.size() / 2), std::string(state.size(), '\xff')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(environment->Load(bad)));
    EXPECT_EQ(*environment->Save(), state);
  }
}

TEST_P(EachEnvironmentTest, ACloneGoesItsOwnWayFromTheSameState) {
  std::unique_ptr<Environment> environment = Make();
  environment->Seed(11);
  Random random(12);
  Told told = Play(*environment, Reset(*environment), random, 20);
  std::unique_ptr<Environment> clone = environment->Clone();
  Random a(13);
  Random b(13);
  // What one does is nothing to the other: the clone plays all of it first.
  std::vector<Told> plays;
  Told other = told;
  for (int step = 0; step < 200; ++step) {
    plays.push_back(other = Play(*clone, other, a));
  }
  for (int step = 0; step < 200; ++step) {
    told = Play(*environment, told, b);
    ASSERT_EQ(told, plays[step]) << "step " << step;
  }
}

INSTANTIATE_TEST_SUITE_P(, EachEnvironmentTest,
                         testing::ValuesIn(EnvironmentIds()),
                         [](const testing::TestParamInfo<std::string>& info) {
                           std::string name =
                               info.param.substr(0, info.param.find('-'));
                           std::erase(name, '/');
                           return name;
                         });

}  // namespace
}  // namespace qfleet
