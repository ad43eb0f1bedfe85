// Environments in shared libraries: the example works, and everything wrong is
// refused in words that name it. tests/envs/faulty_plugin.c does what is wrong.

#include "envs/plugin.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/random.h"
#include "envs/registry.h"
#include "envs/vector_environment.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string PathOf(const std::string& name) {
  return std::string(QFLEET_PLUGIN_DIR) + "/" + name + ".so";
}

v1::EnvironmentConfig ConfigOf(const std::string& path,
                               const std::string& options = "") {
  v1::EnvironmentConfig config;
  config.mutable_plugin()->set_path(path);
  config.mutable_plugin()->set_options(options);
  return config;
}

std::unique_ptr<Environment> MakeCorridor(const std::string& options) {
  auto made = MakeEnvironment(ConfigOf(PathOf("corridor"), options));
  EXPECT_TRUE(made.ok()) << made.status();
  return *std::move(made);
}

// The one line that MakeEnvironment refuses it with.
std::string Refusal(const v1::EnvironmentConfig& config) {
  const absl::Status status = MakeEnvironment(config).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  const std::string text(status.message());
  EXPECT_THAT(text,
              AllOf(HasSubstr("environment.plugin."),
                    HasSubstr(config.plugin().path()), Not(HasSubstr("\n"))));
  return text;
}

absl::StatusOr<std::unique_ptr<VectorEnvironment>> MakeFaulty(
    const std::string& fault) {
  return MakeVectorEnvironment(ConfigOf(PathOf("faulty"), fault), {.count = 2});
}

// The one line that a vector of these ends with, in the third step.
std::string FailureOf(const std::string& fault) {
  auto vector = MakeFaulty(fault);
  EXPECT_TRUE(vector.ok()) << vector.status();
  EXPECT_EQ((*vector)->Step({0, 0}), absl::OkStatus());
  EXPECT_EQ((*vector)->Step({0, 0}), absl::OkStatus());
  const absl::Status status = (*vector)->Step({0, 0});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_EQ((*vector)->Step({0, 0}), status) << "it does not go on";
  const std::string text(status.message());
  EXPECT_THAT(text,
              AllOf(HasSubstr("environment 0: environment.plugin.path = \"" +
                              PathOf("faulty") + "\": after 3 steps"),
                    Not(HasSubstr("\n"))));
  return text;
}

struct Told {
  std::vector<float> observation;
  std::vector<uint8_t> mask;
  StepResult result;

  bool operator==(const Told& other) const {
    return observation == other.observation && mask == other.mask &&
           result.reward == other.result.reward &&
           result.terminated == other.result.terminated &&
           result.truncated == other.result.truncated;
  }
};

// A step, or a reset where the action is -1.
Told Play(Environment& environment, int action) {
  Told told{.observation =
                std::vector<float>(environment.spec().observation.shape(0)),
            .mask = std::vector<uint8_t>(environment.spec().num_actions)};
  const absl::Span<char> row(reinterpret_cast<char*>(told.observation.data()),
                             told.observation.size() * sizeof(float));
  if (action < 0) {
    environment.Reset(row);
  } else {
    told.result = environment.Step(action, row);
  }
  EXPECT_EQ(environment.status(), absl::OkStatus());
  environment.ActionMask(absl::MakeSpan(told.mask));
  return told;
}

TEST(PluginTest, TheExampleIsPlayedToItsGoal) {
  std::unique_ptr<Environment> corridor = MakeCorridor("length=3");
  EXPECT_EQ(corridor->spec().num_actions, 2);
  EXPECT_TRUE(corridor->spec().has_action_mask);
  EXPECT_EQ(corridor->spec().observation.dtype(), v1::FLOAT32);
  EXPECT_THAT(corridor->spec().observation.shape(), ElementsAre(3));
  corridor->Seed(1);
  Told told = Play(*corridor, -1);
  while (told.observation[0] != 1) told = Play(*corridor, -1);
  EXPECT_THAT(told.observation, ElementsAre(1, 0, 0));
  EXPECT_THAT(told.mask, ElementsAre(0, 1));
  told = Play(*corridor, 1);
  EXPECT_THAT(told.observation, ElementsAre(0, 1, 0));
  EXPECT_THAT(told.mask, ElementsAre(1, 1));
  EXPECT_EQ(told.result.reward, -0.1F);
  EXPECT_FALSE(told.result.terminated || told.result.truncated);
  told = Play(*corridor, 1);
  EXPECT_THAT(told.observation, ElementsAre(0, 0, 1));
  EXPECT_EQ(told.result.reward, 0.9F);
  EXPECT_TRUE(told.result.terminated);
  EXPECT_EQ(MakeCorridor("")->spec().observation.shape(0), 8) << "by default";
}

TEST(PluginTest, SavesLoadsAndClonesAsBuiltInOnesDo) {
  std::unique_ptr<Environment> corridor = MakeCorridor("");
  corridor->Seed(2);
  Play(*corridor, -1);
  Play(*corridor, 1);
  std::unique_ptr<Environment> clone = corridor->Clone();
  std::unique_ptr<Environment> loaded = MakeCorridor("");
  absl::StatusOr<std::string> state = corridor->Save();
  ASSERT_TRUE(state.ok()) << state.status();
  ASSERT_TRUE(loaded->Load(*state).ok());
  Random random(3);
  for (int step = 0; step < 200; ++step) {
    const int action = static_cast<int>(random.Below(5)) - 1;
    const Told told = Play(*corridor, std::min(action, 1));
    EXPECT_EQ(Play(*clone, std::min(action, 1)), told);
    EXPECT_EQ(Play(*loaded, std::min(action, 1)), told);
    if (told.result.terminated) break;
  }
  for (const std::string& bad : {std::string(), std::string("x"), *state + "x",
                                 std::string(state->size(), '\xff')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(corridor->Load(bad)));
  }
  // Where a library has no such functions.
  auto plain = MakeEnvironment(ConfigOf(PathOf("faulty")));
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ((*plain)->Clone(), nullptr);
  EXPECT_TRUE(absl::IsUnimplemented((*plain)->Save().status()));
  EXPECT_TRUE(absl::IsUnimplemented((*plain)->Load("")));
}

TEST(PluginTest, AVectorOfThemEndsEpisodesAndBeginsOthers) {
  auto vector = MakeFaulty("");
  ASSERT_TRUE(vector.ok()) << vector.status();
  EXPECT_THAT((*vector)->action_masks(), IsEmpty());
  for (int step = 1; step <= 12; ++step) {
    ASSERT_EQ((*vector)->Step({0, 1}), absl::OkStatus());
    EXPECT_EQ((*vector)->results()[1].terminated, step % 5 == 0);
    float number;
    std::memcpy(&number, (*vector)->observation(1).data(), sizeof(number));
    EXPECT_EQ(number, step % 5);
  }
}

TEST(PluginTest, WhatCannotBeOpenedIsNamed) {
  EXPECT_THAT(Refusal(ConfigOf("no/such.so")),
              HasSubstr("No such file or directory"));
  // Not a name to look for in the system's folders.
  EXPECT_THAT(Refusal(ConfigOf("libm.so.6")),
              HasSubstr("No such file or directory"));
  const std::string text = testing::TempDir() + "qfleet_not_a_library.so";
  std::ofstream(text) << "not a library\n";
  EXPECT_THAT(Refusal(ConfigOf(text)),
              AllOf(HasSubstr("cannot be loaded"),
                    HasSubstr("allowed is a shared library")));
  std::filesystem::remove(text);
  v1::EnvironmentConfig unset;
  unset.mutable_plugin();
  const absl::Status status = CheckEnvironment(unset);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("environment.plugin.path is not set"));
}

TEST(PluginTest, CheckingAConfigOpensNothing) {
  EXPECT_EQ(CheckEnvironment(ConfigOf("no/such.so")), absl::OkStatus());
}

TEST(PluginTest, AnotherAbiIsRefused) {
  EXPECT_THAT(Refusal(ConfigOf(PathOf("faulty_version"))),
              HasSubstr("\": ABI version 2: allowed is 1"));
  EXPECT_THAT(Refusal(ConfigOf(PathOf("faulty_old_table"))),
              HasSubstr("struct_size"));
  EXPECT_THAT(Refusal(ConfigOf(PathOf("faulty_no_step"))),
              HasSubstr("step = NULL: allowed is a function"));
  EXPECT_THAT(Refusal(ConfigOf(PathOf("faulty_no_table"))),
              HasSubstr("qfleet_get_plugin gives nothing"));
  EXPECT_THAT(Refusal(ConfigOf(PathOf("faulty_no_symbol"))),
              HasSubstr("has no qfleet_get_plugin"));
}

TEST(PluginTest, OptionsThatTheLibraryRefusesAreNamed) {
  EXPECT_THAT(Refusal(ConfigOf(PathOf("corridor"), "length=1")),
              AllOf(HasSubstr("environment.plugin.options = \"length=1\""),
                    HasSubstr("allowed is length=2 to length=1000")));
  EXPECT_THAT(Refusal(ConfigOf(PathOf("faulty"), "refuse")),
              HasSubstr("no such level"))
      << "in one line";
  EXPECT_THAT(Refusal(ConfigOf(PathOf("faulty"), "silent")),
              HasSubstr("does not say why"));
}

TEST(PluginTest, ASpecThatCannotBeIsRefused) {
  const auto refusal = [](const std::string& fault) {
    return Refusal(ConfigOf(PathOf("faulty"), fault));
  };
  EXPECT_THAT(refusal("actions"),
              HasSubstr("spec.num_actions = 0: allowed is 1 to 65536"));
  EXPECT_THAT(refusal("dtype"), HasSubstr("spec.dtype = 3: allowed is"));
  EXPECT_THAT(refusal("rank"), HasSubstr("spec.rank = 9: allowed is 0 to 8"));
  EXPECT_THAT(refusal("extent"), HasSubstr("spec.shape = [0]: allowed"));
  EXPECT_THAT(refusal("huge"), HasSubstr("spec.shape = [2147483648,"));
}

TEST(PluginTest, AnotherEnvironmentThanTheConfigSaysIsRefused) {
  v1::EnvironmentConfig config = ConfigOf(PathOf("corridor"), "length=5");
  absl::StatusOr<EnvironmentSpec> spec = SpecOf(config);
  ASSERT_TRUE(spec.ok()) << spec.status();
  *config.mutable_spec()->mutable_observation() = spec->observation;
  config.mutable_spec()->set_num_actions(spec->num_actions);
  config.mutable_spec()->set_has_action_mask(spec->has_action_mask);
  EXPECT_TRUE(MakeEnvironment(config).ok());
  config.mutable_plugin()->set_options("length=6");
  EXPECT_THAT(Refusal(config),
              HasSubstr("spec = float32[6], 2 actions with masks: allowed is "
                        "environment.spec, float32[5], 2 actions with masks"));
}

TEST(PluginTest, AStepThatIsNotFiniteEndsTheVectorInWords) {
  EXPECT_THAT(FailureOf("reward"),
              HasSubstr("reward = nan: allowed is a finite number"));
  EXPECT_THAT(FailureOf("infinite reward"), HasSubstr("reward = -inf"));
  EXPECT_THAT(FailureOf("observation"),
              HasSubstr("observation[1] = inf: allowed are finite numbers"));
}

TEST(PluginTest, AFailedStepEndsTheVectorWithTheLibrarysWords) {
  EXPECT_THAT(FailureOf("step"),
              HasSubstr("step failed: the simulator has gone"));
}

TEST(PluginTest, AMaskThatCannotBeEndsTheVector) {
  EXPECT_THAT(FailureOf("mask of 2"),
              HasSubstr("mask[0] = 2: allowed is 0 or 1"));
  EXPECT_THAT(FailureOf("mask of none"), HasSubstr("mask = all 0"));
}

TEST(PluginTest, AFailedResetEndsTheVector) {
  EXPECT_THAT(std::string(MakeFaulty("reset").status().message()),
              HasSubstr("reset failed: the simulator is not there"));
  EXPECT_THAT(std::string(MakeFaulty("first observation").status().message()),
              HasSubstr("after 0 steps of an episode: observation[0] = nan"));
  auto vector = MakeFaulty("second reset");
  ASSERT_TRUE(vector.ok()) << vector.status();
  for (int step = 0; step < 4; ++step) {
    ASSERT_EQ((*vector)->Step({0, 0}), absl::OkStatus());
  }
  EXPECT_THAT(std::string((*vector)->Step({0, 0}).message()),
              HasSubstr("reset failed: it does not say why"));
}

TEST(PluginTest, AThreadOfItsOwnPassesTheFailureOn) {
  auto groups = MakeVectorEnvironments(ConfigOf(PathOf("faulty"), "reward"),
                                       {.count = 4}, /*groups=*/2);
  ASSERT_TRUE(groups.ok()) << groups.status();
  VectorEnvironment& second = *(*groups)[1];
  for (int step = 0; step < 2; ++step) {
    second.StartStep({0, 0});
    ASSERT_EQ(second.FinishStep(), absl::OkStatus());
  }
  second.StartStep({0, 0});
  EXPECT_THAT(std::string(second.FinishStep().message()),
              HasSubstr("reward = nan"));
}

}  // namespace
}  // namespace qfleet
