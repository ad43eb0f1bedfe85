// Gymnasium's environments in their Python process, well behaved and not.
// Skipped where there is no Python with Gymnasium (scripts/setup.sh
// --gymnasium).

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/random.h"
#include "envs/python_process.h"
#include "envs/registry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::Not;

using Vector = std::unique_ptr<VectorEnvironment>;

constexpr char kModules[] = QFLEET_SOURCE_DIR "/tests/envs";

std::string Text(const absl::Status& status) {
  return std::string(status.message());
}

template <typename T>
std::vector<T> Numbers(absl::Span<const char> row) {
  std::vector<T> numbers(row.size() / sizeof(T));
  std::memcpy(numbers.data(), row.data(), row.size());
  return numbers;
}

class GymnasiumTest : public testing::Test {
 protected:
  void SetUp() override {
    setenv("PYTHONPATH", kModules, 1);
    std::string output;
    if (Python({"-c", "import gymnasium, google.protobuf"}, &output) != 0) {
      GTEST_SKIP() << FindPython("")
                   << " has no gymnasium: scripts/setup.sh --gymnasium";
    }
  }

  int Python(std::vector<std::string> arguments, std::string* output) {
    arguments.insert(arguments.begin(), {"/usr/bin/env", FindPython("")});
    return RunToEnd(arguments, directory_.path() + "/log", 60, output);
  }

  static v1::EnvironmentConfig Config(const std::string& id,
                                      const std::string& kwargs = "{}") {
    v1::EnvironmentConfig config;
    config.mutable_gymnasium()->set_id(id);
    config.mutable_gymnasium()->set_kwargs(kwargs);
    return config;
  }

  // tests/envs/bad_environments.py
  static v1::EnvironmentConfig Bad(const std::string& what) {
    v1::EnvironmentConfig config =
        Config("Bad-v0", absl::StrCat("{\"what\": \"", what, "\"}"));
    config.mutable_gymnasium()->add_imports("bad_environments");
    return config;
  }

  static Vector Make(const v1::EnvironmentConfig& config, int count,
                     uint64_t seed = 1) {
    absl::StatusOr<Vector> made =
        MakeVectorEnvironment(config, {.count = count, .seed = seed});
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }

  TempDirectory directory_;
};

// To the bit, over several episodes.
TEST_F(GymnasiumTest, ATrajectoryIsGymnasiumsOwn) {
  constexpr int kSteps = 520;
  for (const char* id : {"CartPole-v1", "MountainCar-v0", "Acrobot-v1"}) {
    Vector vector = Make(Config(id), 2, /*seed=*/7);
    const int actions = vector->spec().num_actions;
    for (int i = 0; i < 2; ++i) {
      std::string output;
      ASSERT_EQ(Python({absl::StrCat(kModules, "/bad_environments.py"), id,
                        absl::StrCat(MixSeed(7, i) % (uint64_t{1} << 32)),
                        absl::StrCat(kSteps), absl::StrCat(actions)},
                       &output),
                0)
          << output;
      const nlohmann::json expected = nlohmann::json::parse(output);
      if (i == 1) vector = Make(Config(id), 2, /*seed=*/7);
      int ends = 0;
      EXPECT_THAT(Numbers<float>(vector->observation(i)),
                  ElementsAreArray(
                      expected[0]["observation"].get<std::vector<float>>()));
      for (int step = 0; step < kSteps; ++step) {
        const int action = step * 7 / 3 % actions;
        ASSERT_EQ(vector->Step({action, action}), absl::OkStatus());
        const nlohmann::json& row = expected[step + 1];
        const StepResult& result = vector->results()[i];
        ASSERT_EQ(Numbers<float>(vector->observation(i)),
                  row["observation"].get<std::vector<float>>())
            << id << " step " << step;
        ASSERT_EQ(result.reward, row["reward"].get<float>());
        ASSERT_EQ(result.terminated, row["terminated"].get<bool>());
        ASSERT_EQ(result.truncated, row["truncated"].get<bool>());
        if (!result.terminated && !result.truncated) continue;
        ++ends;
        ASSERT_EQ(Numbers<float>(vector->final_observation(i)),
                  row["last"].get<std::vector<float>>());
      }
      EXPECT_GT(ends, std::string(id) == "CartPole-v1" ? 10 : 0) << id;
    }
  }
}

TEST_F(GymnasiumTest, TruncationIsNoTermination) {
  Vector vector = Make(Config("CartPole-v1", "{\"max_episode_steps\": 3}"), 2);
  for (int step = 1; step <= 9; ++step) {
    ASSERT_EQ(vector->Step({step % 2, step % 2}), absl::OkStatus());
    for (const StepResult& result : vector->results()) {
      EXPECT_FALSE(result.terminated);
      EXPECT_EQ(result.truncated, step % 3 == 0);
    }
    if (step % 3 != 0) continue;
    // Two different states: of the end and of the next beginning.
    EXPECT_NE(Numbers<float>(vector->final_observation(0)),
              Numbers<float>(vector->observation(0)));
  }
}

TEST_F(GymnasiumTest, MasksAndDiscreteObservations) {
  Vector vector = Make(Config("Taxi-v4"), 3);
  EXPECT_TRUE(vector->spec().has_action_mask);
  EXPECT_EQ(vector->spec().observation.shape(0), 500);
  for (int step = 0; step < 20; ++step) {
    std::vector<int> actions;
    for (int i = 0; i < 3; ++i) {
      const std::vector<float> cells = Numbers<float>(vector->observation(i));
      EXPECT_EQ(std::count(cells.begin(), cells.end(), 1), 1);
      EXPECT_EQ(std::count(cells.begin(), cells.end(), 0), 499);
      absl::Span<const uint8_t> mask = vector->action_mask(i);
      actions.push_back(static_cast<int>(
          std::find(mask.begin(), mask.end(), 1) - mask.begin()));
    }
    ASSERT_EQ(vector->Step(actions), absl::OkStatus());
  }
  EXPECT_EQ(std::count(vector->action_masks().begin(),
                       vector->action_masks().end(), 0) > 0,
            true);
}

// The actions of Bad-v0 begin with 5, its observations are of 64 bits.
TEST_F(GymnasiumTest, ActionsHaveAStartAndNumbersAreConverted) {
  Vector vector = Make(Bad("nothing"), 2);
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  EXPECT_EQ(vector->results()[0].reward, 5);
  EXPECT_EQ(vector->results()[1].reward, 6);
  EXPECT_THAT(Numbers<float>(vector->observation(1)), ElementsAre(1, 0.5));
}

TEST_F(GymnasiumTest, AnImagesChannelsComeFirst) {
  Vector vector = Make(Bad("image"), 1);
  const v1::TensorSpec& spec = vector->spec().observation;
  EXPECT_EQ(spec.dtype(), v1::UINT8);
  EXPECT_THAT(spec.shape(), ElementsAre(3, 6, 8));
  const std::vector<uint8_t> image = Numbers<uint8_t>(vector->observation(0));
  EXPECT_EQ(image[1 * 8 + 2], 10);
  EXPECT_EQ(image[6 * 8 + 1 * 8 + 2], 20);
  EXPECT_EQ(image[2 * 6 * 8 + 1 * 8 + 2], 30);
}

TEST_F(GymnasiumTest, EachGroupHasAProcessThatGoesWithIt) {
  // Recognised by this import.
  const std::string module = absl::StrCat("marker_", getpid());
  std::ofstream(absl::StrCat(directory_.path(), "/", module, ".py"));
  setenv("PYTHONPATH", absl::StrCat(kModules, ":", directory_.path()).c_str(),
         1);
  v1::EnvironmentConfig config = Config("CartPole-v1");
  config.mutable_gymnasium()->add_imports(module);
  {
    auto vectors =
        MakeVectorEnvironments(config, {.count = 3, .seed = 1}, /*groups=*/2);
    ASSERT_TRUE(vectors.ok()) << vectors.status();
    ASSERT_EQ(vectors->size(), 2u);
    EXPECT_EQ((*vectors)[0]->size() + (*vectors)[1]->size(), 3);
    EXPECT_EQ(FindProcesses("--import=" + module).size(), 2u);
    for (const Vector& vector : *vectors) {
      vector->StartStep(std::vector<int>(vector->size(), 0));
    }
    for (const Vector& vector : *vectors) {
      EXPECT_EQ(vector->FinishStep(), absl::OkStatus());
    }
  }
  EXPECT_EQ(FindProcesses("--import=" + module).size(), 0u);
}

// -------------------------------------------------------------- what goes
// wrong

TEST_F(GymnasiumTest, WhatCannotBeMadeIsNamedInOneLine) {
  struct Case {
    v1::EnvironmentConfig config;
    const char* said;
  };
  Case unknown_module{Config("CartPole-v1"),
                      "import of no_such_module: No module named"};
  unknown_module.config.mutable_gymnasium()->add_imports("no_such_module");
  Case atari{Config("CartPole-v1"), "atari is set: allowed is"};
  atari.config.mutable_gymnasium()->mutable_atari();
  Case no_python{Config("CartPole-v1"),
                 "cannot run /nonexistent/python: No such file or directory: "
                 "allowed is a Python with gymnasium, which scripts/setup.sh"};
  no_python.config.mutable_gymnasium()->set_python("/nonexistent/python");
  for (const Case& test_case :
       {Case{Config("CartPole-v9"), "`v9`"},
        Case{Config("Foo-v0"), "`Foo` doesn't exist"},
        Case{Config("Pendulum-v1"),
             "action space Box(-2.0, 2.0, (1,), float32): allowed is Discrete"},
        Case{Config("Blackjack-v1"), "observation space Tuple("},
        Case{Config("CartPole-v1", "{\"gravitas\": 1}"), "'gravitas'"},
        Case{Bad("make"), "RuntimeError: no licence for today"},
        Case{Bad("exit in make"), "its process exited 7"}, unknown_module,
        atari, no_python}) {
    const absl::Status status = SpecOf(test_case.config).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(Text(status),
                AllOf(HasSubstr(absl::StrCat("environment.gymnasium.id = \"",
                                             test_case.config.gymnasium().id(),
                                             "\": ")),
                      HasSubstr(test_case.said), Not(HasSubstr("\n"))));
  }
}

TEST_F(GymnasiumTest, SaysWhatToInstall) {
  // The same Python without the packages of its environment.
  const std::string bare = directory_.path() + "/python";
  std::ofstream(bare) << "#!/bin/sh\nexec " << FindPython("") << " -S \"$@\"\n";
  std::filesystem::permissions(bare, std::filesystem::perms::owner_all);
  v1::EnvironmentConfig config = Config("CartPole-v1");
  config.mutable_gymnasium()->set_python(bare);
  EXPECT_THAT(Text(SpecOf(config).status()),
              AllOf(HasSubstr("is not installed for "),
                    HasSubstr("run scripts/setup.sh --gymnasium")));
}

TEST_F(GymnasiumTest, ThePythonIsTheConfigsOrTheVariables) {
  setenv("QFLEET_PYTHON", "/of/the/variable", 1);
  EXPECT_EQ(FindPython(""), "/of/the/variable");
  EXPECT_EQ(FindPython("/of/the/config"), "/of/the/config");
  unsetenv("QFLEET_PYTHON");
}

class BadStepTest
    : public GymnasiumTest,
      public testing::WithParamInterface<std::pair<const char*, const char*>> {
};

TEST_P(BadStepTest, IsAnErrorInOneLineAndNothingOfItIsTaken) {
  const auto& [what, said] = GetParam();
  Vector vector = Make(Bad(what), 2);
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  ASSERT_EQ(vector->Step({1, 0}), absl::OkStatus());
  const std::string before(vector->observation(0).begin(),
                           vector->observation(0).end());
  const absl::Status status = vector->Step({0, 0});
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(Text(status),
              AllOf(HasSubstr("environment.gymnasium.id = \"Bad-v0\": "
                              "environment 0: "),
                    HasSubstr(said), Not(HasSubstr("\n"))));
  EXPECT_EQ(
      std::string(vector->observation(0).begin(), vector->observation(0).end()),
      before);
  EXPECT_EQ(vector->results()[0].reward, 6);
}

INSTANTIATE_TEST_SUITE_P(
    , BadStepTest,
    testing::Values(
        std::pair("nan", "observation[1] = nan: allowed is a finite number"),
        std::pair("shape",
                  "observation of shape (3,): allowed is (2,), as its space"),
        std::pair("scalar", "observation of shape (1,): allowed is (2,)"),
        std::pair("list", "observation of <U"),
        std::pair("none", "observation of shape (): allowed is (2,)"),
        std::pair("bytes", "observation of float64: allowed is uint8"),
        std::pair("reward", "reward = nan: allowed is a finite number"),
        std::pair("rewards", "reward = array([0., 0.]): allowed is a number"),
        std::pair("nan reward", "reward = nan: allowed is a finite number")),
    [](const testing::TestParamInfo<std::pair<const char*, const char*>>&
           info) {
      std::string name = info.param.first;
      std::replace(name.begin(), name.end(), ' ', '_');
      return name;
    });

class LostStepTest : public BadStepTest {};

// Each environment does it in its third step, also when it began anew.
TEST_P(LostStepTest, BeginsAnewTwiceAndThenIsAnError) {
  const auto& [what, said] = GetParam();
  v1::EnvironmentConfig config = Bad(what);
  if (std::string(what) == "hang") config.mutable_gymnasium()->set_deadline(1);
  Vector vector = Make(config, 2);
  for (int loss = 0; loss < 2; ++loss) {
    ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
    ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
    EXPECT_THAT(vector->results(),
                Each(testing::Field(&StepResult::lost, false)));
    ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
    EXPECT_THAT(vector->results(),
                Each(testing::Field(&StepResult::lost, true)));
    EXPECT_THAT(Numbers<float>(vector->observation(1)), ElementsAre(0, 0.5));
  }
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  EXPECT_THAT(Text(vector->Step({0, 1})),
              AllOf(HasSubstr("environment.gymnasium.id = \"Bad-v0\": "),
                    HasSubstr(said), HasSubstr("lost 3 times in a row"),
                    Not(HasSubstr("\n"))));
}

INSTANTIATE_TEST_SUITE_P(
    , LostStepTest,
    testing::Values(std::pair("raise",
                              "ValueError: the rope broke "
                              "(bad_environments.py:"),
                    std::pair("exit", "its process exited 9"),
                    std::pair("hang",
                              "no answer in time; its process was killed")),
    [](const testing::TestParamInfo<std::pair<const char*, const char*>>&
           info) { return std::string(info.param.first); });

TEST_F(GymnasiumTest, AKilledProcessIsALoss) {
  const std::string module = absl::StrCat("killed_", getpid());
  std::ofstream(absl::StrCat(directory_.path(), "/", module, ".py"));
  setenv("PYTHONPATH", directory_.path().c_str(), 1);
  v1::EnvironmentConfig config = Config("CartPole-v1");
  config.mutable_gymnasium()->add_imports(module);
  Vector vector = Make(config, 2);
  const std::vector<pid_t> processes = FindProcesses("--import=" + module);
  ASSERT_EQ(processes.size(), 1u);
  kill(processes[0], SIGKILL);
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  EXPECT_TRUE(vector->results()[0].lost);
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  EXPECT_FALSE(vector->results()[0].lost);
}

// ---------------------------------------------------------------------- Atari

class AtariTest : public GymnasiumTest {
 protected:
  void SetUp() override {
    GymnasiumTest::SetUp();
    std::string output;
    if (!IsSkipped() && Python({"-c", "import ale_py, cv2"}, &output) != 0) {
      GTEST_SKIP() << FindPython("")
                   << " has no ale-py: scripts/setup.sh --gymnasium";
    }
  }

  // As a config has it whose defaults were filled in.
  static v1::EnvironmentConfig Atari(const std::string& id) {
    v1::EnvironmentConfig config = Config(id);
    v1::AtariConfig& atari = *config.mutable_gymnasium()->mutable_atari();
    atari.set_noop_max(atari.noop_max());
    return config;
  }
};

TEST_F(AtariTest, FramesAreGreyAndSmallAndStacked) {
  v1::EnvironmentConfig config = Atari("ALE/Pong-v5");
  config.set_frame_stack(4);
  Vector vector = Make(config, 2);
  EXPECT_EQ(vector->spec().num_actions, 6);
  EXPECT_EQ(vector->spec().observation.dtype(), v1::UINT8);
  EXPECT_THAT(vector->spec().observation.shape(), ElementsAre(84, 84));
  EXPECT_THAT(StackedObservation(vector->spec()).shape(),
              ElementsAre(4, 84, 84));
  for (int step = 0; step < 20; ++step) {
    ASSERT_EQ(vector->Step({step % 6, 2}), absl::OkStatus());
  }
  const std::vector<uint8_t> stack = Numbers<uint8_t>(vector->stack(0));
  ASSERT_EQ(stack.size(), 4u * 84 * 84);
  EXPECT_GT(*std::max_element(stack.begin(), stack.end()), 100);
  EXPECT_FALSE(std::equal(stack.begin(), stack.begin() + 84 * 84,
                          stack.end() - 84 * 84));
}

TEST_F(AtariTest, ALostLifeTerminatesIfAsked) {
  v1::EnvironmentConfig config = Atari("ALE/Breakout-v5");
  config.mutable_gymnasium()->mutable_atari()->set_terminal_on_life_loss(true);
  Vector lives = Make(config, 1);
  config.mutable_gymnasium()->mutable_atari()->set_terminal_on_life_loss(false);
  Vector games = Make(config, 1);
  int lives_lost = 0;
  int games_ended = 0;
  for (int step = 0; step < 600 && games_ended == 0; ++step) {
    const int action = step % 2;  // FIRE, and then nothing is caught.
    ASSERT_EQ(lives->Step({action}), absl::OkStatus());
    ASSERT_EQ(games->Step({action}), absl::OkStatus());
    lives_lost += lives->results()[0].terminated;
    games_ended += games->results()[0].terminated;
  }
  // Breakout has five lives.
  EXPECT_EQ(games_ended, 1);
  EXPECT_GE(lives_lost, 4);
  EXPECT_LE(lives_lost, 6);
}

}  // namespace
}  // namespace qfleet
