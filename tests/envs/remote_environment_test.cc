// A vector of environments in a simulator, well behaved and not.
#include "envs/remote_environment.h"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "common/random.h"
#include "envs/registry.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "tests/envs/fake_simulator.h"

namespace qfleet {
namespace {

using Answer = FakeSimulator::Answer;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Ne;

using Vector = std::unique_ptr<VectorEnvironment>;

std::string Text(const absl::Status& status) {
  return std::string(status.message());
}

Vector Make(const v1::EnvironmentConfig& config, int count) {
  absl::StatusOr<Vector> made =
      MakeVectorEnvironment(config, {.count = count, .seed = 1});
  EXPECT_TRUE(made.ok()) << made.status();
  return *std::move(made);
}

std::vector<float> Numbers(absl::Span<const char> row) {
  std::vector<float> numbers(row.size() / sizeof(float));
  std::memcpy(numbers.data(), row.data(), row.size());
  return numbers;
}

testing::Matcher<StepResult> IsLost(bool lost) {
  return testing::Field(&StepResult::lost, lost);
}

void Overwrite(std::string& rows, size_t number, float value) {
  std::memcpy(&rows.at(number * sizeof(value)), &value, sizeof(value));
}

TEST(RemoteEnvironmentTest, StepsAndKeepsFinalObservations) {
  FakeSimulator simulator;
  Vector vector = Make(simulator.Config(), 2);
  EXPECT_EQ(vector->spec().num_actions, 2);
  EXPECT_THAT(Numbers(vector->observation(1)), ElementsAre(0, 1, 0));
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  EXPECT_EQ(vector->results()[0].reward, 0);
  EXPECT_EQ(vector->results()[1].reward, 1);
  EXPECT_THAT(Numbers(vector->observation(1)), ElementsAre(0, 1, 1));
  ASSERT_EQ(vector->Step({0, 0}), absl::OkStatus());
  ASSERT_EQ(vector->Step({1, 0}), absl::OkStatus());
  EXPECT_TRUE(vector->results()[0].terminated);
  EXPECT_FALSE(vector->results()[0].truncated);
  EXPECT_THAT(Numbers(vector->final_observation(0)), ElementsAre(0, 0, 3));
  EXPECT_THAT(Numbers(vector->observation(0)), ElementsAre(0, 0, 0));
  EXPECT_FALSE(vector->results()[1].truncated);
  ASSERT_EQ(vector->Step({1, 0}), absl::OkStatus());
  EXPECT_FALSE(vector->results()[0].terminated);
  EXPECT_FALSE(vector->results()[1].terminated);
  EXPECT_TRUE(vector->results()[1].truncated);
  EXPECT_THAT(Numbers(vector->final_observation(1)), ElementsAre(0, 1, 4));
  EXPECT_THAT(vector->results(), Each(IsLost(false)));
}

TEST(RemoteEnvironmentTest, StacksFramesFromTheBeginningOfAnEpisode) {
  FakeSimulator simulator;
  v1::EnvironmentConfig config = simulator.Config();
  config.set_frame_stack(2);
  Vector vector = Make(config, 1);
  EXPECT_THAT(Numbers(vector->stack(0)), ElementsAre(0, 0, 0, 0, 0, 0));
  for (int step = 0; step < 3; ++step) {
    ASSERT_EQ(vector->Step({0}), absl::OkStatus());
  }
  EXPECT_THAT(Numbers(vector->final_stack(0)), ElementsAre(0, 0, 2, 0, 0, 3));
  EXPECT_THAT(Numbers(vector->stack(0)), ElementsAre(0, 0, 0, 0, 0, 0));
}

TEST(RemoteEnvironmentTest, HasTheMasksOfItsObservations) {
  FakeSimulator simulator(
      [](int, int step, v1::EnvironmentReply& reply) {
        if (step == 4) reply.clear_action_masks();
        return Answer::kReply;
      },
      /*masks=*/true);
  Vector vector = Make(simulator.Config(), 1);
  EXPECT_THAT(vector->action_mask(0), ElementsAre(1, 0));
  ASSERT_EQ(vector->Step({0}), absl::OkStatus());
  EXPECT_THAT(vector->action_mask(0), ElementsAre(0, 1));
  ASSERT_EQ(vector->Step({1}), absl::OkStatus());
  ASSERT_EQ(vector->Step({0}), absl::OkStatus());
  EXPECT_THAT(vector->final_action_mask(0), ElementsAre(0, 1));
  EXPECT_THAT(vector->action_mask(0), ElementsAre(1, 0));
  ASSERT_EQ(vector->Step({0}), absl::OkStatus());
  EXPECT_THAT(vector->action_mask(0), ElementsAre(1, 1)) << "all are legal";
}

TEST(RemoteEnvironmentTest, EachEnvironmentHasASeedOfItsOwn) {
  FakeSimulator simulator;
  ASSERT_TRUE(
      MakeVectorEnvironment(simulator.Config(), {.count = 3, .seed = 5}).ok());
  EXPECT_THAT(
      simulator.seeds(),
      ElementsAre(ElementsAre(MixSeed(5, 0), MixSeed(5, 1), MixSeed(5, 2))));
}

TEST(RemoteEnvironmentTest, TheAddressMayHoldTheActorsNumber) {
  FakeSimulator simulator;
  v1::EnvironmentConfig config = simulator.Config();
  std::string path = simulator.path();
  path.replace(path.size() - 9, 9, "%d");
  ASSERT_EQ(symlink(simulator.path().c_str(),
                    (path.substr(0, path.size() - 2) + "7").c_str()),
            0);
  config.mutable_remote()->set_address("unix:" + path);
  EXPECT_TRUE(MakeVectorEnvironment(config, {.count = 1, .actor = 7}).ok());
}

TEST(RemoteEnvironmentTest, TellsWhatItIsWithoutMakingAny) {
  FakeSimulator simulator;
  absl::StatusOr<EnvironmentSpec> spec = SpecOf(simulator.Config());
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->observation.shape(0), 3);
  EXPECT_EQ(spec->num_actions, 2);
  EXPECT_THAT(simulator.seeds(), ElementsAre(testing::IsEmpty()));
}

TEST(RemoteEnvironmentTest, CannotBeSaved) {
  FakeSimulator simulator;
  Vector vector = Make(simulator.Config(), 1);
  EXPECT_TRUE(absl::IsUnimplemented(vector->Save().status()));
  EXPECT_TRUE(absl::IsUnimplemented(vector->Load({})));
}

// ------------------------------------------------------------ replies that lie

struct BadReply {
  const char* name;
  std::function<Answer(v1::EnvironmentReply&)> spoil;  // Of the third step.
  const char* said;
};

class BadReplyTest : public testing::TestWithParam<BadReply> {};

TEST_P(BadReplyTest, IsAnErrorInOneLineAndNothingOfItIsTaken) {
  FakeSimulator simulator(
      [](int, int step, v1::EnvironmentReply& reply) {
        return step == 3 ? GetParam().spoil(reply) : Answer::kReply;
      },
      absl::StrContains(GetParam().name, "Mask"));
  Vector vector = Make(simulator.Config(), 2);
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  const absl::Status status = vector->Step({1, 0});
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(Text(status),
              AllOf(HasSubstr("environment.remote.address = \"unix:"),
                    HasSubstr(GetParam().said), Not(HasSubstr("\n"))));
  EXPECT_THAT(Numbers(vector->observation(0)), ElementsAre(0, 0, 2));
  EXPECT_EQ(vector->results()[1].reward, 1);
  EXPECT_FALSE(vector->results()[0].terminated);
}

Answer Spoiled() { return Answer::kReply; }

const BadReply kBadReplies[] = {
    {"NaN",
     [](v1::EnvironmentReply& reply) {
       Overwrite(*reply.mutable_observations(), 4, NAN);
       return Spoiled();
     },
     "environment 1: observation[1] = nan: allowed is a finite number"},
    {"FinalInfinity",
     [](v1::EnvironmentReply& reply) {
       Overwrite(*reply.mutable_final_observations(), 2, INFINITY);
       return Spoiled();
     },
     "environment 0: final_observation[2] = inf"},
    {"Reward",
     [](v1::EnvironmentReply& reply) {
       reply.set_rewards(1, NAN);
       return Spoiled();
     },
     "environment 1: reward = nan: allowed is a finite number"},
    {"Shape",
     [](v1::EnvironmentReply& reply) {
       reply.mutable_observations()->resize(20);
       return Spoiled();
     },
     "observations = 20 bytes: allowed is 24"},
    {"FinalShape",
     [](v1::EnvironmentReply& reply) {
       reply.clear_final_observations();
       return Spoiled();
     },
     "final_observations = 0 bytes: allowed is 12"},
    {"FewRewards",
     [](v1::EnvironmentReply& reply) {
       reply.mutable_rewards()->RemoveLast();
       return Spoiled();
     },
     "rewards = 1 numbers: allowed is 2"},
    {"FewFlags",
     [](v1::EnvironmentReply& reply) {
       reply.clear_terminated();
       return Spoiled();
     },
     "terminated = 0 flags: allowed is 2"},
    {"ManyFlags",
     [](v1::EnvironmentReply& reply) {
       reply.add_truncated(true);
       return Spoiled();
     },
     "truncated = 3 flags: allowed is 2"},
    {"FlagsWithoutFinals",
     [](v1::EnvironmentReply& reply) {
       reply.set_truncated(1, true);
       return Spoiled();
     },
     "final_observations = 12 bytes: allowed is 24"},
    {"UnannouncedLegalActions",
     [](v1::EnvironmentReply& reply) {
       reply.set_action_masks("\1\1\1\1", 4);
       return Spoiled();
     },
     "action_masks = 4 bytes: allowed is 0"},
    {"MaskSize",
     [](v1::EnvironmentReply& reply) {
       reply.mutable_action_masks()->resize(3);
       return Spoiled();
     },
     "action_masks = 3 bytes: allowed is 4"},
    {"MaskValue",
     [](v1::EnvironmentReply& reply) {
       (*reply.mutable_action_masks())[3] = 2;
       return Spoiled();
     },
     "environment 1: action_mask[1] = 2: allowed is 0 or 1"},
    {"MaskWithoutLegalAction",
     [](v1::EnvironmentReply& reply) {
       reply.mutable_action_masks()->assign(4, '\0');
       return Spoiled();
     },
     "environment 0: action_mask = all 0: allowed is at least one 1"},
    {"Huge", [](v1::EnvironmentReply&) { return Answer::kHuge; },
     "message of 4294967295 bytes: allowed is at most "},
    {"Noise", [](v1::EnvironmentReply&) { return Answer::kNoise; },
     "message of 3 bytes: allowed is a qfleet.v1.EnvironmentReply"},
    {"Fatal",
     [](v1::EnvironmentReply& reply) {
       reply.set_error("two\nlines");
       reply.set_fatal(true);
       return Spoiled();
     },
     ": two lines"},
};

INSTANTIATE_TEST_SUITE_P(, BadReplyTest, testing::ValuesIn(kBadReplies),
                         [](const testing::TestParamInfo<BadReply>& info) {
                           return std::string(info.param.name);
                         });

struct BadSpec {
  const char* name;
  std::function<void(v1::MakeReply&)> spoil;
  const char* said;
};

class BadSpecTest : public testing::TestWithParam<BadSpec> {};

TEST_P(BadSpecTest, IsRefusedInOneLine) {
  FakeSimulator simulator([](int, int step, v1::EnvironmentReply& reply) {
    if (step == 0) GetParam().spoil(*reply.mutable_make());
    return Answer::kReply;
  });
  const absl::Status status = SpecOf(simulator.Config()).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(Text(status), AllOf(HasSubstr("environment.remote.address"),
                                  HasSubstr(GetParam().said)));
}

const BadSpec kBadSpecs[] = {
    {"Protocol", [](v1::MakeReply& make) { make.set_protocol(2); },
     "protocol = 2: allowed is 1"},
    {"None", [](v1::MakeReply& make) { make.clear_spec(); },
     "spec.observation.name = \"\": allowed is \"observation\""},
    {"DType",
     [](v1::MakeReply& make) {
       make.mutable_spec()->mutable_observation()->set_dtype(v1::FLOAT64);
     },
     "spec.observation.dtype = FLOAT64: allowed is FLOAT32 or UINT8"},
    {"EmptyShape",
     [](v1::MakeReply& make) {
       make.mutable_spec()->mutable_observation()->set_shape(0, 0);
     },
     "spec.observation.shape = [0]: allowed is"},
    {"HugeShape",
     [](v1::MakeReply& make) {
       for (int i = 0; i < 4; ++i) {
         make.mutable_spec()->mutable_observation()->add_shape(1 << 20);
       }
     },
     "spec.observation.shape = [3,1048576,"},
    {"NoActions",
     [](v1::MakeReply& make) { make.mutable_spec()->set_num_actions(0); },
     "spec.num_actions = 0: allowed is 1 to "},
};

INSTANTIATE_TEST_SUITE_P(, BadSpecTest, testing::ValuesIn(kBadSpecs),
                         [](const testing::TestParamInfo<BadSpec>& info) {
                           return std::string(info.param.name);
                         });

TEST(RemoteEnvironmentTest, MustBeWhatTheConfigSays) {
  FakeSimulator simulator;
  v1::EnvironmentConfig config = simulator.Config();
  v1::EnvironmentSpec& spec = *config.mutable_spec();
  spec.mutable_observation()->set_name("observation");
  spec.mutable_observation()->set_dtype(v1::FLOAT32);
  spec.mutable_observation()->add_shape(3);
  spec.set_num_actions(2);
  EXPECT_TRUE(MakeVectorEnvironment(config, {.count = 1}).ok());
  spec.set_num_actions(4);
  const absl::Status status =
      MakeVectorEnvironment(config, {.count = 1}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(Text(status),
              HasSubstr("spec = float32[3], 2 actions: allowed is "
                        "environment.spec, float32[3], 4 actions"));
}

// -------------------------------------------------------------------- losses

class LossTest : public testing::TestWithParam<Answer> {
 protected:
  // What a step can be lost by.
  static Answer Lose(v1::EnvironmentReply& reply) {
    if (GetParam() == Answer::kReply) reply.set_error("ValueError: no luck");
    return GetParam();
  }
  // Short where the simulator hangs; it answers at once else.
  static double Deadline() { return GetParam() == Answer::kHang ? 1 : 20; }
};

TEST_P(LossTest, BeginsAnewWithOtherSeeds) {
  FakeSimulator simulator(
      [](int session, int step, v1::EnvironmentReply& reply) {
        return session == 0 && step == 3 ? Lose(reply) : Answer::kReply;
      });
  Vector vector = Make(simulator.Config(Deadline()), 2);
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  EXPECT_THAT(vector->results(), Each(IsLost(true)));
  EXPECT_THAT(Numbers(vector->observation(0)), ElementsAre(1, 0, 0));
  EXPECT_THAT(Numbers(vector->observation(1)), ElementsAre(1, 1, 0));
  ASSERT_EQ(vector->Step({0, 1}), absl::OkStatus());
  EXPECT_THAT(vector->results(), Each(IsLost(false)));
  EXPECT_THAT(Numbers(vector->observation(1)), ElementsAre(1, 1, 1));
  const auto seeds = simulator.seeds();
  ASSERT_EQ(seeds.size(), 2u);
  EXPECT_THAT(seeds[1], Each(Ne(seeds[0][0])));
  EXPECT_THAT(seeds[1], Each(Ne(seeds[0][1])));
}

TEST_P(LossTest, IsAnErrorTheThirdTimeInARow) {
  FakeSimulator simulator([](int, int step, v1::EnvironmentReply& reply) {
    return step == 2 ? Lose(reply) : Answer::kReply;
  });
  Vector vector = Make(simulator.Config(Deadline()), 1);
  for (int loss = 0; loss < 2; ++loss) {
    ASSERT_EQ(vector->Step({0}), absl::OkStatus());
    ASSERT_EQ(vector->Step({0}), absl::OkStatus());
    EXPECT_TRUE(vector->results()[0].lost);
  }
  ASSERT_EQ(vector->Step({0}), absl::OkStatus());
  const absl::Status status = vector->Step({0});
  EXPECT_EQ(status.code(), GetParam() == Answer::kReply
                               ? absl::StatusCode::kInvalidArgument
                               : absl::StatusCode::kUnavailable);
  const char* said = GetParam() == Answer::kReply   ? "ValueError: no luck"
                     : GetParam() == Answer::kClose ? "connection was closed"
                                                    : "no answer in time";
  EXPECT_THAT(Text(status),
              AllOf(HasSubstr("environment.remote.address"), HasSubstr(said),
                    HasSubstr("lost 3 times in a row")));
}

TEST_P(LossTest, IsForgivenAfterManySteps) {
  constexpr int kSteps = RemoteVectorEnvironment::kStepsToTrust;
  FakeSimulator simulator([](int, int step, v1::EnvironmentReply& reply) {
    return step == kSteps + 1 ? Lose(reply) : Answer::kReply;
  });
  Vector vector = Make(simulator.Config(Deadline()), 1);
  for (int loss = 0; loss < 4; ++loss) {
    for (int step = 0; step < kSteps; ++step) {
      ASSERT_EQ(vector->Step({0}), absl::OkStatus());
    }
    ASSERT_EQ(vector->Step({0}), absl::OkStatus());
    ASSERT_TRUE(vector->results()[0].lost);
  }
}

INSTANTIATE_TEST_SUITE_P(, LossTest,
                         testing::Values(Answer::kReply, Answer::kClose,
                                         Answer::kHang),
                         [](const testing::TestParamInfo<Answer>& info) {
                           return info.param == Answer::kReply   ? "Raises"
                                  : info.param == Answer::kClose ? "Dies"
                                                                 : "Hangs";
                         });

// ------------------------------------------------------------------- configs

struct BadConfig {
  const char* text;
  const char* said;
};

class BadConfigTest : public testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigTest, IsNamed) {
  v1::EnvironmentConfig config;
  ASSERT_TRUE(
      google::protobuf::TextFormat::ParseFromString(GetParam().text, &config));
  const absl::Status status = SpecOf(config).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr(GetParam().said));
  EXPECT_THAT(Text(MakeVectorEnvironment(config, {}).status()),
              HasSubstr(GetParam().said));
}

INSTANTIATE_TEST_SUITE_P(
    , BadConfigTest,
    testing::Values(
        BadConfig{"gymnasium {}", "environment.gymnasium.id is not set"},
        BadConfig{"gymnasium { id: 'CartPole-v1' kwargs: '[1]' }",
                  "environment.gymnasium.kwargs = '[1]': allowed is a JSON "
                  "object"},
        BadConfig{"gymnasium { id: 'CartPole-v1' kwargs: '{' }",
                  "environment.gymnasium.kwargs = '{'"},
        BadConfig{"id: 'CartPole-v1' gymnasium { id: 'CartPole-v1' }",
                  "allowed is none beside environment.gymnasium"},
        BadConfig{"remote {}", "environment.remote.address = \"\""},
        BadConfig{"remote { address: '127.0.0.1:80' }",
                  "environment.remote.address = \"127.0.0.1:80\": allowed is "
                  "unix:PATH"}));

TEST(RemoteEnvironmentTest, NobodyListensThere) {
  v1::EnvironmentConfig config;
  config.mutable_remote()->set_address("unix:/nonexistent/simulator");
  const absl::Status status = SpecOf(config).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(Text(status),
            "environment.remote.address = \"unix:/nonexistent/simulator\": "
            "No such file or directory");
}

// ----------------------------------------------------------------- the socket

TEST(FramedSocketTest, CarriesMessagesOfAnySize) {
  auto pair = FramedSocket::Pair();
  ASSERT_TRUE(pair.ok());
  FramedSocket& ours = pair->first;
  FramedSocket theirs(pair->second);
  // More than the socket's buffer holds: both sides wait for one another.
  const std::string large(20 << 20, 'x');
  std::thread sender([&] {
    for (const std::string& message :
         {std::string("a"), std::string(), large}) {
      EXPECT_TRUE(ours.Send(message, absl::Seconds(60)).ok());
    }
  });
  std::string message;
  for (const std::string& expected : {std::string("a"), std::string(), large}) {
    ASSERT_TRUE(theirs.Receive(large.size(), absl::Seconds(60), message).ok());
    EXPECT_EQ(message, expected);
  }
  sender.join();
}

TEST(FramedSocketTest, ARefusedSizeIsNotRead) {
  auto pair = FramedSocket::Pair();
  FramedSocket theirs(pair->second);
  ASSERT_TRUE(pair->first.Send("12345", absl::Seconds(20)).ok());
  std::string message;
  const absl::Status status = theirs.Receive(4, absl::Seconds(20), message);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(Text(status), "message of 5 bytes: allowed is at most 4");
}

TEST(FramedSocketTest, GivesUpAtTheDeadlineAndAtTheEnd) {
  auto pair = FramedSocket::Pair();
  std::string message;
  {
    FramedSocket theirs(pair->second);
    EXPECT_TRUE(absl::IsDeadlineExceeded(
        theirs.Receive(4, absl::Milliseconds(1), message)));
    // Nobody reads.
    EXPECT_TRUE(absl::IsDeadlineExceeded(
        theirs.Send(std::string(16 << 20, 'x'), absl::Milliseconds(1))));
  }
  EXPECT_TRUE(absl::IsUnavailable(pair->first.Send("x", absl::Seconds(20))));
}

}  // namespace
}  // namespace qfleet
