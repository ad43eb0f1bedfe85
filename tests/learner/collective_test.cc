#include "learner/collective.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "learner/algorithms/dqn.h"
#include "learner/algorithms/value_algorithm.h"
#include "tests/learner/golden.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(60);

class CollectiveTest : public testing::Test {
 protected:
  // Runs `body` as each rank, in threads: the ranks share nothing but sockets.
  void RunRanks(int size, const std::function<void(Collective&)>& body) {
    std::vector<std::thread> threads;
    const std::string address =
        "file:" + directory_.path() + "/meet" + std::to_string(++meetings_);
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([=, &body] {
        auto collective = Collective::Join(
            {.rank = rank, .size = size, .address = address}, kTimeout);
        ASSERT_TRUE(collective.ok()) << collective.status();
        body(**collective);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  TempDirectory directory_;
  int meetings_ = 0;
};

TEST_F(CollectiveTest, SumsAndBroadcasts) {
  RunRanks(3, [](Collective& collective) {
    std::vector<float> values = {1, static_cast<float>(collective.rank())};
    ASSERT_EQ(collective.Sum(absl::MakeSpan(values)), absl::OkStatus());
    EXPECT_THAT(values, testing::ElementsAre(3, 3));
    std::string bytes(collective.rank() * 2, 'x');
    if (collective.rank() == 0) bytes = std::string("a\0b", 3);
    ASSERT_EQ(collective.Broadcast(bytes), absl::OkStatus());
    EXPECT_EQ(bytes, std::string("a\0b", 3));
  });
}

v1::Config DqnConfig() {
  v1::Config config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"pb(
        algorithm {
          target_period: 10
          max_gradient_norm: 0.7
          dqn {}
        }
        network { hidden: 8 hidden: 8 }
        optimizer {
          learning_rate: 3e-3
          adam { epsilon: 1e-4 }
        }
      )pb",
      &config));
  return config;
}

std::unique_ptr<Dqn> MakeDqn(const v1::Config& config, Collective* collective,
                             bool staged = false) {
  return std::make_unique<Dqn>(config,
                               *Network::Make(config, GoldenEnvironment()),
                               collective, Placement{.staged = staged});
}

// Rows [begin, end) of a sample.
SampleBatch RowsOf(const SampleBatch& sample, int begin, int end) {
  SampleBatch part;
  part.keys.assign(sample.keys.begin() + begin, sample.keys.begin() + end);
  part.scaled_probability.assign(sample.scaled_probability.begin() + begin,
                                 sample.scaled_probability.begin() + end);
  for (const std::string& column : sample.columns) {
    const size_t row = column.size() / sample.rows();
    part.columns.push_back(column.substr(begin * row, (end - begin) * row));
  }
  return part;
}

// Importance weights among them: each half's own maximum is another one.
class AsOneLearner : public CollectiveTest,
                     public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Staged, AsOneLearner, testing::Bool());

TEST_P(AsOneLearner, TwoLearnersAtBEqualOneAt2B) {
  const nlohmann::json golden = ReadGolden("dqn.json");
  const std::vector<float> start = golden["start"];
  const v1::TableSignature signature = GoldenSignature(false);
  constexpr int kUpdates = 100;
  auto sample_of = [&](int i) {
    return GoldenSample(golden["updates"][i % golden["updates"].size()]);
  };
  std::unique_ptr<Dqn> alone = MakeDqn(DqnConfig(), nullptr);
  StartFrom(start, *alone);
  std::vector<float> priorities;
  for (int i = 0; i < kUpdates; ++i) {
    const SampleBatch sample = sample_of(i);
    priorities = alone->Update(Batch(signature, sample, 1)).priorities;
  }
  std::vector<std::vector<float>> weights(2), ends(2);
  RunRanks(2, [&](Collective& collective) {
    const int rank = collective.rank();
    v1::Config config = DqnConfig();
    config.set_seed(rank);
    std::unique_ptr<Dqn> dqn = MakeDqn(config, &collective, GetParam());
    if (rank == 0) StartFrom(start, *dqn);
    ASSERT_EQ(ShareState(*dqn, collective), absl::OkStatus());
    for (int i = 0; i < kUpdates; ++i) {
      const SampleBatch sample = RowsOf(sample_of(i), 3 * rank, 3 * rank + 3);
      ends[rank] = dqn->Update(Batch(signature, sample, 1)).priorities;
    }
    weights[rank] = FloatsOf(dqn->Publish());
  });
  EXPECT_EQ(weights[0], weights[1]);
  EXPECT_THAT(weights[0], testing::Pointwise(testing::FloatNear(1e-5),
                                             FloatsOf(alone->Publish())));
  ends[0].insert(ends[0].end(), ends[1].begin(), ends[1].end());
  EXPECT_THAT(ends[0],
              testing::Pointwise(testing::FloatNear(1e-4), priorities));
}

TEST_P(AsOneLearner, OneWithoutABatchTakesTheOthersStep) {
  const nlohmann::json golden = ReadGolden("dqn.json");
  const v1::TableSignature signature = GoldenSignature(false);
  std::unique_ptr<Dqn> alone = MakeDqn(DqnConfig(), nullptr);
  const SampleBatch sample = GoldenSample(golden["updates"][0]);
  alone->Update(Batch(signature, sample, 1));
  RunRanks(2, [&](Collective& collective) {
    std::unique_ptr<Dqn> dqn = MakeDqn(DqnConfig(), &collective, GetParam());
    // Nobody has one: no update.
    EXPECT_FALSE(dqn->TakePart(/*stop=*/false).stopped);
    EXPECT_EQ(dqn->updates(), 0);
    if (collective.rank() == 0) {
      EXPECT_EQ(dqn->Update(Batch(signature, sample, 1)).priorities.size(), 6u);
    } else {
      dqn->TakePart(/*stop=*/false);
    }
    EXPECT_EQ(dqn->updates(), 1);
    EXPECT_THAT(FloatsOf(dqn->Publish()),
                testing::Pointwise(testing::FloatNear(1e-6),
                                   FloatsOf(alone->Publish())));
    // Rank 1 wants to stop: rank 0's update is not made.
    const UpdateResult last = collective.rank() == 0
                                  ? dqn->Update(Batch(signature, sample, 1))
                                  : dqn->TakePart(/*stop=*/true);
    EXPECT_TRUE(last.stopped);
    EXPECT_EQ(dqn->updates(), 1);
  });
}

TEST_P(AsOneLearner, ALossThatIsNotFiniteIsSkippedByAll) {
  const nlohmann::json golden = ReadGolden("dqn.json");
  const v1::TableSignature signature = GoldenSignature(false);
  RunRanks(2, [&](Collective& collective) {
    std::unique_ptr<Dqn> dqn = MakeDqn(DqnConfig(), &collective, GetParam());
    const std::string before = dqn->Publish();
    SampleBatch sample = GoldenSample(golden["updates"][0]);
    if (collective.rank() == 1) {
      const float nan = std::nanf("");
      std::memcpy(sample.columns[1].data(), &nan, sizeof(nan));  // return
    }
    EXPECT_TRUE(dqn->Update(Batch(signature, sample, 1)).skipped);
    EXPECT_EQ(dqn->Publish(), before);
    EXPECT_EQ(dqn->updates(), 0);
  });
}

// In processes, as a killed thread would take the test along.
TEST_F(CollectiveTest, TheDeathOfOneIsSaidByTheOthers) {
  const std::string address = "file:" + directory_.path() + "/death";
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto collective =
        Collective::Join({.rank = 1, .size = 2, .address = address}, kTimeout);
    std::vector<float> one = {1};
    if (collective.ok()) (void)(*collective)->Sum(absl::MakeSpan(one));
    _exit(0);  // No farewell.
  }
  auto collective =
      Collective::Join({.rank = 0, .size = 2, .address = address}, kTimeout);
  ASSERT_TRUE(collective.ok()) << collective.status();
  std::vector<float> values = {1};
  ASSERT_EQ((*collective)->Sum(absl::MakeSpan(values)), absl::OkStatus());
  absl::Status status = (*collective)->Sum(absl::MakeSpan(values));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              testing::StartsWith("learner 0 of 2: another learner of this job "
                                  "is gone"));
  waitpid(child, nullptr, 0);
}

TEST(CollectiveJoinTest, SaysThatTheOthersDidNotCome) {
  TempDirectory directory;
  auto collective = Collective::Join(
      {.rank = 0, .size = 2, .address = "file:" + directory.path() + "/alone"},
      absl::Milliseconds(300));
  EXPECT_EQ(collective.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(collective.status().message()),
              testing::StartsWith("learner 0 of 2: the others did not meet"));
}

class EnvironmentTest : public testing::Test {
 protected:
  ~EnvironmentTest() override {
    for (const char* name : kNames) unsetenv(name);
  }
  static constexpr const char* kNames[] = {"RANK",
                                           "WORLD_SIZE",
                                           "MASTER_ADDR",
                                           "MASTER_PORT",
                                           "TORCHELASTIC_USE_AGENT_STORE",
                                           "TORCHELASTIC_RESTART_COUNT"};
  EnvironmentTest() {
    for (const char* name : kNames) unsetenv(name);
  }
};

TEST_F(EnvironmentTest, OneLearnerNeedsNone) {
  EXPECT_EQ(*RendezvousFromEnvironment(), std::nullopt);
  setenv("WORLD_SIZE", "1", 1);
  EXPECT_EQ(*RendezvousFromEnvironment(), std::nullopt);
}

TEST_F(EnvironmentTest, ReadsTorchrunsVariables) {
  setenv("WORLD_SIZE", "4", 1);
  setenv("RANK", "2", 1);
  setenv("MASTER_ADDR", "job-master-0", 1);
  setenv("MASTER_PORT", "23456", 1);
  auto rendezvous = RendezvousFromEnvironment();
  ASSERT_TRUE(rendezvous.ok()) << rendezvous.status();
  EXPECT_EQ((*rendezvous)->rank, 2);
  EXPECT_EQ((*rendezvous)->size, 4);
  EXPECT_EQ((*rendezvous)->address, "job-master-0:23456");
  EXPECT_EQ((*rendezvous)->agent_prefix, "");
  setenv("TORCHELASTIC_USE_AGENT_STORE", "True", 1);
  setenv("TORCHELASTIC_RESTART_COUNT", "3", 1);
  EXPECT_EQ((*RendezvousFromEnvironment())->agent_prefix, "/qfleet/attempt_3");
}

TEST_F(EnvironmentTest, NamesTheVariableThatIsWrong) {
  setenv("WORLD_SIZE", "2", 1);
  EXPECT_EQ(
      RendezvousFromEnvironment().status().message(),
      "environment RANK is not set: allowed is 0 to 1 where WORLD_SIZE is "
      "set");
  setenv("RANK", "2", 1);
  EXPECT_EQ(RendezvousFromEnvironment().status().message(),
            "environment RANK = 2: allowed is 0 to 1 where WORLD_SIZE is set");
  setenv("RANK", "1", 1);
  setenv("MASTER_PORT", "1234", 1);
  EXPECT_THAT(std::string(RendezvousFromEnvironment().status().message()),
              testing::StartsWith("environment MASTER_ADDR is not set"));
}

}  // namespace
}  // namespace qfleet
