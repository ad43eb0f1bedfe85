#include "cli/cluster.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Pair;

v1::Config TestConfig() {
  v1::Config config;
  config.mutable_replay()->set_shards(2);
  config.mutable_actors()->set_count(1);
  SetAddresses("/s", config);
  return config;
}

TEST(SetAddresses, OneForEachShardAndTheLearner) {
  v1::Config config = TestConfig();
  SetAddresses("/t", config);  // Replaces the first ones.
  EXPECT_THAT(config.cluster().replay(),
              ElementsAre("unix:/t/replay-0.sock", "unix:/t/replay-1.sock"));
  EXPECT_EQ(config.cluster().learner(), "unix:/t/learner.sock");
  EXPECT_THAT(config.cluster().relays(), testing::IsEmpty());
}

TEST(SetAddresses, OneForEachRelay) {
  v1::Config config;
  config.mutable_actors()->set_relays(2);
  SetAddresses("/s", config);
  SetAddresses("/t", config);
  EXPECT_THAT(config.cluster().relays(),
              ElementsAre("unix:/t/relay-0.sock", "unix:/t/relay-1.sock"));
}

TEST(SetLocalSecurity, LeavesTheTokenAndTheLimits) {
  v1::Config config = TestConfig();
  v1::SecurityConfig& security = *config.mutable_cluster()->mutable_security();
  security.set_ca("ca.crt");
  security.set_certificate("c.crt");
  security.set_key("c.key");
  security.set_token_file("folder/../tokens");
  config.mutable_cluster()->mutable_limits()->set_max_connections(7);
  SetLocalSecurity(config);
  const v1::ClusterConfig& cluster = config.cluster();
  EXPECT_EQ(cluster.replay_size(), 0);
  EXPECT_FALSE(cluster.security().has_ca());
  EXPECT_FALSE(cluster.security().has_certificate());
  EXPECT_FALSE(cluster.security().has_key());
  EXPECT_EQ(cluster.security().token_file(),
            (std::filesystem::current_path() / "tokens").string());
  EXPECT_EQ(cluster.limits().max_connections(), 7);
}

// They are followers: what ends is started again.
TEST(ProcessesOf, RelaysBetweenLearnerAndActors) {
  v1::Config config = TestConfig();
  config.mutable_actors()->set_relays(2);
  SetAddresses("/s", config);
  std::vector<SupervisedProcess> processes =
      ProcessesOf(config, "/run", "/bin", false);
  ASSERT_EQ(processes.size(), 7u);
  EXPECT_EQ(processes[2].child.name, "learner");
  EXPECT_EQ(processes[3].child.name, "relay-0");
  EXPECT_THAT(processes[4].child.command,
              ElementsAre("/bin/qfleet-relay", "--config=/run/config.txtpb",
                          "--index=1", "--metrics=127.0.0.1:0",
                          "--ready_file=/run/ready/relay-1"));
  EXPECT_FALSE(processes[4].ends_run);
  EXPECT_GT(processes[4].stop_order, processes[2].stop_order);
  EXPECT_EQ(ProcessesOf(config, "/run", "/bin", true).size(), 1u);
}

TEST(ProcessesOf, ACluster) {
  std::vector<SupervisedProcess> processes =
      ProcessesOf(TestConfig(), "/run", "/bin", false);
  std::vector<std::string> names;
  for (const auto& process : processes) {
    names.push_back(process.child.name);
    EXPECT_EQ(process.ends_run, process.child.name == "learner");
    EXPECT_EQ(process.child.log, "/run/logs/" + process.child.name + ".log");
    EXPECT_THAT(process.child.environment,
                Contains(Pair("OMP_WAIT_POLICY", "passive")));
  }
  EXPECT_THAT(names, ElementsAre("replay-0", "replay-1", "learner", "actor-0",
                                 "evaluator"));
  EXPECT_THAT(
      processes[1].child.command,
      ElementsAre("/bin/qfleet-replay", "--config=/run/config.txtpb",
                  "--shard=1", "--listen=unix:/s/replay-1.sock",
                  "--data_dir=/run/replay/shard-1", "--metrics=127.0.0.1:0",
                  "--ready_file=/run/ready/replay-1"));
  EXPECT_THAT(
      processes[2].child.command,
      ElementsAre("/bin/qfleet-learner", "--config=/run/config.txtpb",
                  "--run_dir=/run", "--listen=unix:/s/learner.sock",
                  "--metrics=127.0.0.1:0", "--ready_file=/run/ready/learner"));
  EXPECT_THAT(processes[3].child.command,
              ElementsAre("/bin/qfleet-actor", "--config=/run/config.txtpb",
                          "--actor=0", "--metrics=127.0.0.1:0",
                          "--ready_file=/run/ready/actor-0"));
  EXPECT_THAT(processes[4].child.command,
              ElementsAre("/bin/qfleet-actor", "--config=/run/config.txtpb",
                          "--evaluator", "--metrics=127.0.0.1:0",
                          "--ready_file=/run/ready/evaluator"));
  EXPECT_LT(processes[2].stop_order, processes[3].stop_order);
  EXPECT_EQ(processes[3].stop_order, processes[4].stop_order);
  EXPECT_LT(processes[4].stop_order, processes[0].stop_order);
}

TEST(ProcessesOf, SeveralLearners) {
  v1::Config config = TestConfig();
  config.mutable_learner()->set_count(2);
  std::vector<SupervisedProcess> processes =
      ProcessesOf(config, "/run", "/bin", false);
  ASSERT_EQ(processes[2].child.name, "learner");
  ASSERT_EQ(processes[3].child.name, "learner-1");
  for (int rank : {0, 1}) {
    const SupervisedProcess& learner = processes[2 + rank];
    EXPECT_TRUE(learner.ends_run);
    EXPECT_EQ(learner.follows, rank == 1);
    EXPECT_THAT(learner.resume_flags, testing::IsEmpty());
    EXPECT_THAT(learner.child.environment,
                Contains(Pair("RANK", std::to_string(rank))));
    EXPECT_THAT(learner.child.environment, Contains(Pair("WORLD_SIZE", "2")));
    EXPECT_THAT(learner.child.command,
                Contains(testing::StartsWith("--rendezvous=file:/run/ready/")));
  }
  // They meet at the same place.
  EXPECT_EQ(processes[2].child.command[4], processes[3].child.command[4]);
}

TEST(ProcessesOf, Solo) {
  std::vector<SupervisedProcess> processes =
      ProcessesOf(TestConfig(), "/run", "/bin", true);
  ASSERT_EQ(processes.size(), 1u);
  EXPECT_TRUE(processes[0].ends_run);
  EXPECT_THAT(processes[0].child.command,
              ElementsAre("/bin/qfleet-solo", "--config=/run/config.txtpb",
                          "--run_dir=/run", "--metrics=127.0.0.1:0",
                          "--ready_file=/run/ready/solo"));
}

TEST(ProcessesOf, ARunThatIsResumed) {
  for (const SupervisedProcess& process :
       ProcessesOf(TestConfig(), "/run", "/bin", false, /*resume=*/true)) {
    const bool learner = process.child.name == "learner";
    EXPECT_THAT(process.child.command, learner ? Contains("--resume").Times(1)
                                               : Contains("--resume").Times(0));
    EXPECT_THAT(process.resume_flags,
                learner ? testing::SizeIs(1) : testing::SizeIs(0));
  }
  EXPECT_THAT(ProcessesOf(TestConfig(), "/run", "/bin", true, /*resume=*/true)
                  .front()
                  .child.command,
              Contains("--resume"));
}

TEST(CheckBinaries, NamesTheProgramThatIsNotThere) {
  v1::Config config = TestConfig();
  EXPECT_EQ(CheckBinaries("/no", config, true).message(),
            "cannot run /no/qfleet-solo: No such file or directory");
  // A relay's program only where there are relays.
  const TempDirectory binaries;
  for (const char* name : {"qfleet-replay", "qfleet-learner", "qfleet-actor"}) {
    const std::string path = binaries.path() + "/" + name;
    std::ofstream(path) << "";
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }
  EXPECT_EQ(CheckBinaries(binaries.path(), config, false), absl::OkStatus());
  config.mutable_actors()->set_relays(1);
  EXPECT_THAT(
      std::string(CheckBinaries(binaries.path(), config, false).message()),
      testing::HasSubstr("/qfleet-relay: No such file or directory"));
}

TEST(BinaryDirectory, IsWhereThisProgramIs) {
  absl::StatusOr<std::string> directory = BinaryDirectory();
  ASSERT_TRUE(directory.ok());
  EXPECT_TRUE(std::filesystem::exists(*directory + "/cli_cluster_test"));
}

}  // namespace
}  // namespace qfleet
