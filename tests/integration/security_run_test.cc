// A cluster over TCP with mutual TLS and a token, of real processes, as on
// several machines: shard, learner, relay, actor.

#include <signal.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/certificates.h"
#include "tests/process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using testing::HasSubstr;

constexpr char kBin[] = QFLEET_BIN_DIR "/";
constexpr char kConfigFlag[] =
    "--config=" QFLEET_SOURCE_DIR "/configs/cartpole.txtpb";
constexpr char kToken[] = "the-token-of-this-cluster";

class SecurityRunTest : public testing::Test {
 protected:
  SecurityRunTest() {
    MakeTestCertificates(certificates_);
    WriteSecret(tokens_, kToken);
    security_ = SecurityFlags(certificates_, "server");
    security_.push_back("--set=cluster.security.token_file=" + tokens_);
    for (const char* set :
         {"replay.shards=1", "actors.count=1", "stop.mean_return=1000",
          "stop.max_updates=400", "learner.checkpoint_period=0"}) {
      security_.push_back(absl::StrCat("--set=", set));
    }
  }

  // Starts a process of the cluster and, where it serves, waits for that.
  Process& Start(const std::string& binary, const std::string& name,
                 const std::vector<std::string>& flags) {
    const std::string ready = absl::StrCat(folder_.path(), "/ready-", name);
    std::vector<std::string> command = {
        kBin + binary, kConfigFlag,
        "--metrics=127.0.0.1:0", "--ready_file=" + ready};
    command.insert(command.end(), security_.begin(), security_.end());
    command.insert(command.end(), flags.begin(), flags.end());
    processes_.push_back(
        std::make_unique<Process>(command, folder_.path() + "/log-" + name));
    EXPECT_TRUE(processes_.back()->WaitUntil(
        [&] { return std::filesystem::exists(ready); }, 60))
        << name << ": " << processes_.back()->Output();
    return *processes_.back();
  }

  std::string AddressOf(const std::string& name) {
    std::ifstream file(absl::StrCat(folder_.path(), "/ready-", name));
    std::string word, address;
    file >> word >> address;
    return address;
  }

  int Status(const std::string& address, const std::vector<std::string>& flags,
             std::string* output) {
    std::vector<std::string> command = {std::string(kBin) + "qfleet", "status",
                                        address};
    command.insert(command.end(), flags.begin(), flags.end());
    return RunToEnd(command, folder_.path() + "/status", 30, output);
  }

  const TempDirectory folder_;
  const std::string certificates_ = folder_.path() + "/certificates";
  const std::string tokens_ = folder_.path() + "/tokens";
  std::vector<std::string> security_;
  std::vector<std::unique_ptr<Process>> processes_;
};

TEST_F(SecurityRunTest, AClusterTrainsWithMutualTlsAndAToken) {
  Process& shard =
      Start("qfleet-replay", "shard", {"--listen=127.0.0.1:0"});
  const std::string replay = "--set=cluster.replay=" + AddressOf("shard");
  Process& learner =
      Start("qfleet-learner", "learner",
            {"--listen=127.0.0.1:0", replay,
             absl::StrCat("--run_dir=", folder_.path(), "/run")});
  const std::string weights = "--set=cluster.learner=" + AddressOf("learner");
  Process& relay = Start("qfleet-relay", "relay",
                         {weights, "--set=cluster.relays=127.0.0.1:0"});

  // Somebody else asks, while without an actor no server can have finished.
  std::string output;
  std::vector<std::string> client = SecurityFlags(certificates_, "client");
  EXPECT_NE(Status(AddressOf("shard"), {}, &output), 0) << output;
  EXPECT_NE(Status(AddressOf("learner"), client, &output), 0) << output;
  EXPECT_THAT(output, HasSubstr("no token"));
  client.push_back("--set=cluster.security.token_file=" + tokens_);
  for (const char* name : {"shard", "learner", "relay"}) {
    EXPECT_EQ(Status(AddressOf(name), client, &output), 0)
        << name << ": " << output;
  }

  Process& actor =
      Start("qfleet-actor", "actor",
            {replay, weights, "--set=cluster.relays=" + AddressOf("relay")});
  ASSERT_TRUE(learner.WaitFor(120))
      << learner.Output() << actor.Output() << relay.Output();
  EXPECT_EQ(learner.exit_code(), 3) << learner.Output();  // max_updates
  for (Process* process : {&actor, &relay, &shard}) {
    process->Signal(SIGTERM);
    ASSERT_TRUE(process->WaitFor(30));
    EXPECT_EQ(process->exit_code(), 0) << process->Output();
    EXPECT_THAT(process->Output(), testing::Not(HasSubstr(kToken)));
  }
}

TEST_F(SecurityRunTest, EachServerRefusesToBeSeenWithoutTls) {
  const std::string learner = "--set=cluster.learner=127.0.0.1:1";
  struct Case {
    std::string binary;
    std::vector<std::string> flags;
    std::string field;
  };
  for (const Case& one : std::vector<Case>{
           {"qfleet-replay", {"--listen=0.0.0.0:7201"}, "--listen"},
           {"qfleet-learner",
            {"--listen=0.0.0.0:7301", "--set=cluster.replay=127.0.0.1:1",
             absl::StrCat("--run_dir=", folder_.path(), "/run")},
            "--listen"},
           {"qfleet-relay",
            {learner, "--set=cluster.relays=0.0.0.0:7302"},
            "cluster.relays[0]"}}) {
    std::vector<std::string> command = {kBin + one.binary, kConfigFlag};
    command.insert(command.end(), one.flags.begin(), one.flags.end());
    std::string output;
    EXPECT_EQ(RunToEnd(command, folder_.path() + "/log", 30, &output), 2)
        << output;
    EXPECT_THAT(output, testing::AllOf(HasSubstr(one.field + " = \"0.0.0.0:"),
                                       HasSubstr("--insecure"),
                                       HasSubstr("allowed")));
  }
}

// A token on the sockets of a local run: the children have it from the config.
TEST_F(SecurityRunTest, ALocalRunHasAToken) {
  const std::string run = folder_.path() + "/run";
  const std::string qfleet = std::string(kBin) + "qfleet";
  Process train(
      {qfleet, "train", QFLEET_SOURCE_DIR "/configs/cartpole.txtpb",
       "--run_dir=" + run, "--set=stop.mean_return=1000",
       "--set=cluster.security.token_file=" + tokens_},
      folder_.path() + "/train");
  const std::string address = "unix:" + run + "/sockets/learner.sock";
  std::string output;
  EXPECT_TRUE(train.WaitUntil(
      [&] {
        return Status(address, {absl::StrCat("--config=", run,
                                             "/config.txtpb")},
                      &output) == 0;
      },
      120))
      << train.Output() << output;
  EXPECT_THAT(train.Output(), HasSubstr("--config="));
  EXPECT_NE(Status(address, {}, &output), 0) << output;
  EXPECT_THAT(output, HasSubstr("no token"));
  const auto mode =
      std::filesystem::status(run + "/sockets").permissions();
  EXPECT_EQ(mode, std::filesystem::perms::owner_all);
  train.Signal(SIGINT);
  ASSERT_TRUE(train.WaitFor(60));
}

}  // namespace
}  // namespace qfleet
