#include <string>

#include "config/config.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using ::testing::ElementsAre;

v1::Config With(const std::string& assignment) {
  v1::Config config;
  EXPECT_EQ(SetField(assignment, config), absl::OkStatus()) << assignment;
  return config;
}

// The error; checks that the config is as it was.
std::string ErrorOf(const std::string& assignment) {
  v1::Config config;
  config.mutable_network()->add_hidden(5);
  const v1::Config before = config;
  absl::Status status = SetField(assignment, config);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << assignment;
  EXPECT_TRUE(
      google::protobuf::util::MessageDifferencer::Equals(before, config));
  return std::string(status.message());
}

TEST(SetField, SetsEachKindOfScalar) {
  EXPECT_EQ(With("replay.shards=3").replay().shards(), 3);  // int32
  EXPECT_EQ(
      With("algorithm.target_period=70000000000").algorithm().target_period(),
      70000000000);                                            // int64
  EXPECT_EQ(With("seed=18446744073709551615").seed(), ~0ull);  // uint64
  EXPECT_EQ(With("replay.alpha=1.5e-1").replay().alpha(), 0.15);
  EXPECT_FALSE(With("network.dueling=false").network().dueling());
  EXPECT_TRUE(With("network.dueling=true").network().dueling());
  EXPECT_EQ(With("environment.id=CartPole-v1").environment().id(),
            "CartPole-v1");
  EXPECT_EQ(With("replay.table.selector.kind=UNIFORM")
                .replay()
                .table()
                .selector()
                .kind(),
            v1::Selector::UNIFORM);
  EXPECT_EQ(
      With("replay.table.selector.alpha=2").replay().table().selector().alpha(),
      2);
}

TEST(SetField, TakesStringsWithQuotesAndWithEqualsSigns) {
  EXPECT_EQ(With("cluster.learner=\"h:1\"").cluster().learner(), "h:1");
  EXPECT_EQ(With("cluster.learner=unix:/a=b").cluster().learner(), "unix:/a=b");
}

TEST(SetField, ReplacesLists) {
  v1::Config config = With("network.hidden=256,64");
  EXPECT_THAT(config.network().hidden(), ElementsAre(256, 64));
  ASSERT_EQ(SetField("network.hidden=8", config), absl::OkStatus());
  EXPECT_THAT(config.network().hidden(), ElementsAre(8));
  ASSERT_EQ(SetField("network.hidden=", config), absl::OkStatus());
  EXPECT_THAT(config.network().hidden(), ElementsAre());
  EXPECT_THAT(With("cluster.replay=a:1,b:2").cluster().replay(),
              ElementsAre("a:1", "b:2"));
}

TEST(SetField, ChoosesTheMemberOfAOneof) {
  EXPECT_TRUE(With("algorithm.dqn.huber_delta=2").algorithm().has_dqn());
}

TEST(SetField, NamesTheUnknownPartAndTheKnownFields) {
  EXPECT_EQ(ErrorOf("network.hiden=3"),
            "network.hiden: unknown field \"hiden\": allowed is hidden, "
            "dueling, convolutions, noisy, noisy_sigma");
  EXPECT_EQ(ErrorOf("actor.count=3"),
            "actor.count: unknown field \"actor\": allowed is seed, "
            "environment, algorithm, network, optimizer, replay, actors, "
            "learner, evaluation, stop, cluster");
}

TEST(SetField, NamesTheTypeOfAWrongValue) {
  EXPECT_EQ(ErrorOf("replay.shards=two"),
            "replay.shards = two: allowed is an integer of 32 bits");
  EXPECT_EQ(ErrorOf("replay.shards=1.5"),
            "replay.shards = 1.5: allowed is an integer of 32 bits");
  EXPECT_EQ(ErrorOf("replay.shards=3000000000"),
            "replay.shards = 3000000000: allowed is an integer of 32 bits");
  EXPECT_EQ(ErrorOf("seed=-1"), "seed = -1: allowed is an integer, at least 0");
  EXPECT_EQ(ErrorOf("replay.alpha="), "replay.alpha = : allowed is a number");
  EXPECT_EQ(ErrorOf("network.dueling=yes"),
            "network.dueling = yes: allowed is true or false");
  EXPECT_EQ(ErrorOf("network.hidden=8,x"),
            "network.hidden = x: allowed is an integer of 32 bits");
  EXPECT_EQ(ErrorOf("replay.table.remover=LIFO"),
            "replay.table.remover = LIFO: allowed is REMOVER_UNSPECIFIED, "
            "FIFO, LOWEST_PRIORITY");
}

TEST(SetField, RefusesWhatIsNotAnAssignmentToAScalar) {
  EXPECT_EQ(ErrorOf("seed"), "--set \"seed\": allowed is path.to.field=value");
  EXPECT_EQ(ErrorOf("=3"), "--set \"=3\": allowed is path.to.field=value");
  EXPECT_EQ(ErrorOf("network=3"),
            "network: \"network\" is a group: allowed is network.FIELD with "
            "one of hidden, dueling, convolutions, noisy, noisy_sigma");
  EXPECT_EQ(ErrorOf("seed.x=3"), "seed.x: \"seed\" has no fields");
  EXPECT_EQ(ErrorOf("replay.table.signature.views=3"),
            "replay.table.signature.views: \"views\" is a list of messages, "
            "which only the config file can set");
}

}  // namespace
}  // namespace qfleet
