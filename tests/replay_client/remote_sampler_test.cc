#include "replay_client/remote_sampler.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "common/grpc.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/replay_client/garbled_replay.h"
#include "tests/replay_server/service/test_shard.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class RemoteSamplerTest : public ::testing::Test {
 protected:
  void MakeShards(int count, const v1::TableSpec& spec) {
    for (int s = 0; s < count; ++s) {
      shards_.push_back(std::make_unique<TestShard>(spec, s));
      shards_.back()->Start();
      options_.shards.push_back(shards_.back()->address());
    }
    options_.table = spec.name();
    options_.signature = spec.signature();
    options_.patience = absl::Seconds(30);
    options_.seed = 7;
  }
  void Connect() {
    sampler_ = MakeRemoteSampler(options_, metrics_);
    AwaitShards(static_cast<uint32_t>(shards_.size()));
  }
  // Until so many are connected; batches that were begun before are thrown
  // away.
  void AwaitShards(uint32_t count) {
    ASSERT_TRUE(Eventually([&] { return sampler_->View().shards == count; }));
    for (uint32_t i = 0; i < options_.prefetch; ++i) {
      auto batch = sampler_->Next();
      ASSERT_TRUE(batch.ok()) << batch.status();
    }
  }
  // Item `sequence` of shard `s`, the action of which is unique.
  void Insert(int s, uint64_t sequence, float priority) {
    v1::AppendBatch batch = OneItemBatch(sequence, priority);
    batch.mutable_item_columns(0)->clear_data();
    AddValue(static_cast<int64_t>(1000 * s + sequence),
             batch.mutable_item_columns(0));
    absl::Notification done;
    shards_[s]->shard().Append(0, {1, nullptr}, batch,
                               [&](absl::StatusOr<v1::AppendResponse> result) {
                                 EXPECT_TRUE(result.ok()) << result.status();
                                 done.Notify();
                               });
    done.WaitForNotification();
    masses_[1000 * s + static_cast<int64_t>(sequence)] = priority;
  }
  static int64_t Action(const SampleBatch& batch, int row) {
    int64_t action;
    std::memcpy(&action, batch.columns[0].data() + 8 * row, 8);
    return action;
  }
  static float First(const SampleBatch& batch, int row) {
    float first;
    std::memcpy(&first, batch.columns[1].data() + 4 * row, 4);
    return first;
  }
  double TotalMass() const {
    double total = 0;
    for (const auto& [action, mass] : masses_) total += mass;
    return total;
  }

  Metrics metrics_;
  std::vector<std::unique_ptr<TestShard>> shards_;
  std::map<int64_t, double> masses_;  // Of each action.
  SamplerOptions options_;
  std::unique_ptr<RemoteSampler> sampler_;
};

// Three shards of unequal size and mass: item i is drawn with probability
// mass_i / (sum of all masses), as from one tree.
TEST_F(RemoteSamplerTest, DrawsAsFromOneTree) {
  MakeShards(3, TestTable());
  for (uint64_t i = 1; i <= 20; ++i) Insert(0, i, static_cast<float>(i));
  for (uint64_t i = 1; i <= 5; ++i) Insert(1, i, 60);
  for (uint64_t i = 1; i <= 40; ++i) Insert(2, i, 1 + 0.25f * (i % 4));
  options_.batch_size = 256;
  Connect();
  std::map<int64_t, int> counts;
  constexpr int kBatches = 400;  // 102,400 draws.
  for (int b = 0; b < kBatches; ++b) {
    auto batch = sampler_->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    ASSERT_EQ((*batch)->rows(), 256);
    for (int row = 0; row < 256; ++row) ++counts[Action(**batch, row)];
  }
  double chi_square = 0;
  for (const auto& [action, mass] : masses_) {
    const double expected = 256.0 * kBatches * mass / TotalMass();
    ASSERT_GT(expected, 50);
    chi_square += std::pow(counts[action] - expected, 2) / expected;
    counts.erase(action);
  }
  EXPECT_TRUE(counts.empty());  // Nothing that was never inserted.
  // The 1 - 1e-4 quantile of chi-square with 64 degrees of freedom (Wilson and
  // Hilferty 1931).
  const double dof = static_cast<double>(masses_.size()) - 1;
  const double h = 2 / (9 * dof);
  const double bound = dof * std::pow(1 - h + 3.719 * std::sqrt(h), 3);
  EXPECT_LT(chi_square, bound);
}

TEST_F(RemoteSamplerTest, ScaledProbabilityIsExactAndColumnsBelongTogether) {
  MakeShards(2, TestTable());
  for (uint64_t i = 1; i <= 9; ++i) Insert(0, i, 0.5f * i);
  for (uint64_t i = 1; i <= 3; ++i) Insert(1, i, 20);
  options_.batch_size = 64;
  Connect();
  for (int b = 0; b < 5; ++b) {
    auto next = sampler_->Next();
    ASSERT_TRUE(next.ok()) << next.status();
    const SampleBatch& batch = **next;
    ASSERT_EQ(batch.columns.size(), 3u);  // The action and two views.
    double smallest = std::numeric_limits<double>::infinity();
    for (int row = 0; row < batch.rows(); ++row) {
      const int64_t action = Action(batch, row);
      EXPECT_EQ(batch.keys[row].shard, action / 1000);
      EXPECT_EQ(First(batch, row), 2.0f * (action % 1000 - 1));
      const double scaled = 12 * masses_[action] / TotalMass();
      EXPECT_NEAR(batch.scaled_probability[row], scaled, 1e-12);
      smallest = std::min(smallest, scaled);
    }
    const std::vector<float> weights =
        ImportanceWeights(batch.scaled_probability, 0.6);
    for (int row = 0; row < batch.rows(); ++row) {
      const double scaled = 12 * masses_[Action(batch, row)] / TotalMass();
      EXPECT_NEAR(weights[row],
                  std::pow(scaled, -0.6) / std::pow(smallest, -0.6), 1e-6);
    }
  }
}

TEST_F(RemoteSamplerTest, LostShardIsLeftOutAndTakenInAgain) {
  MakeShards(2, TestTable());
  for (uint64_t i = 1; i <= 4; ++i) Insert(0, i, 1);
  for (uint64_t i = 1; i <= 4; ++i) Insert(1, i, 3);
  Connect();
  shards_[1]->Stop();
  AwaitShards(1);
  for (int b = 0; b < 5; ++b) {
    auto batch = sampler_->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    ASSERT_EQ((*batch)->rows(), 64);
    for (int row = 0; row < 64; ++row) {
      EXPECT_EQ((*batch)->keys[row].shard, 0u);
      // Right for what is left: 4 items, each a quarter.
      EXPECT_DOUBLE_EQ((*batch)->scaled_probability[row], 1);
    }
  }
  shards_[1]->Start();
  AwaitShards(2);
  auto batch = sampler_->Next();
  ASSERT_TRUE(batch.ok()) << batch.status();
  int from_second = 0;
  for (const SampleKey& key : (*batch)->keys) from_second += key.shard == 1;
  EXPECT_GT(from_second, 24);  // 48 expected.
}

// What is left is less than min_size.
TEST_F(RemoteSamplerTest, LosingOneOfTwoShardsDoesNotStopTheSampler) {
  v1::TableSpec spec = TestTable();
  spec.mutable_rate_limiter()->set_min_size(6);
  MakeShards(2, spec);
  for (uint64_t i = 1; i <= 4; ++i) Insert(0, i, 1);
  for (uint64_t i = 1; i <= 4; ++i) Insert(1, i, 1);
  Connect();
  shards_[1]->Stop();
  AwaitShards(1);
  for (int b = 0; b < 5; ++b) {
    auto batch = sampler_->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    for (const SampleKey& key : (*batch)->keys) EXPECT_EQ(key.shard, 0u);
  }
  EXPECT_EQ(sampler_->View().size, 4u);
}

// A shard is lost in the middle of a batch that it holds back.
TEST_F(RemoteSamplerTest, BatchOfALostShardIsMadeUpByTheOthers) {
  MakeShards(2, TestTable());
  for (uint64_t i = 1; i <= 4; ++i) Insert(0, i, 1);
  for (uint64_t i = 1; i <= 4; ++i) Insert(1, i, 1);
  options_.prefetch = 4;
  Connect();
  std::atomic<bool> stop{false};
  std::thread flapping([&] {
    for (int i = 0; i < 5; ++i) {
      shards_[1]->Stop();
      shards_[1]->Start();
    }
    stop = true;
  });
  while (!stop) {
    auto batch = sampler_->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    ASSERT_EQ((*batch)->rows(), 64);
    for (int row = 0; row < 64; ++row) {
      const int64_t action = Action(**batch, row);
      ASSERT_EQ((*batch)->keys[row].shard, action / 1000);
      ASSERT_EQ(First(**batch, row), 2.0f * (action % 1000 - 1));
    }
  }
  flapping.join();
}

TEST_F(RemoteSamplerTest, PrioritiesGoToTheShardThatOwnsTheKey) {
  MakeShards(2, TestTable());
  for (uint64_t i = 1; i <= 4; ++i) Insert(0, i, 1);
  for (uint64_t i = 1; i <= 4; ++i) Insert(1, i, 1);
  Connect();
  auto batch = sampler_->Next();
  ASSERT_TRUE(batch.ok()) << batch.status();
  // Each item of shard 0 to 2, each of shard 1 to 5.
  std::vector<float> priorities;
  for (const SampleKey& key : (*batch)->keys) {
    priorities.push_back(key.shard == 0 ? 2.0f : 5.0f);
  }
  ASSERT_TRUE(sampler_->UpdatePriorities((*batch)->keys, priorities).ok());
  EXPECT_TRUE(
      Eventually([&] { return sampler_->View().priorities_applied == 64; }));
  EXPECT_EQ(shards_[0]->Stats().mass(), 8);
  EXPECT_EQ(shards_[1]->Stats().mass(), 20);

  SampleKey stale = (*batch)->keys[0];
  ++stale.generation;
  const SampleKey unknown = {1, 4000000000u, 1};
  ASSERT_TRUE(
      sampler_->UpdatePriorities({stale, unknown, unknown}, {9, 9, 9}).ok());
  EXPECT_TRUE(
      Eventually([&] { return sampler_->View().priorities_unknown == 2; }));
  EXPECT_TRUE(
      Eventually([&] { return sampler_->View().priorities_stale == 1; }));
  EXPECT_EQ(sampler_->View().priorities_applied, 64u);
  EXPECT_EQ(shards_[0]->Stats().mass() + shards_[1]->Stats().mass(), 28);
}

TEST_F(RemoteSamplerTest, WrongPrioritiesAreRefused) {
  MakeShards(1, TestTable());
  Insert(0, 1, 1);
  Connect();
  const SampleKey key = {0, 0, 0};
  EXPECT_TRUE(
      absl::IsInvalidArgument(sampler_->UpdatePriorities({key}, {1, 2})));
  EXPECT_TRUE(absl::IsInvalidArgument(sampler_->UpdatePriorities(
      {key}, {std::numeric_limits<float>::quiet_NaN()})));
  EXPECT_TRUE(
      absl::IsInvalidArgument(sampler_->UpdatePriorities({key}, {-1.0f})));
  EXPECT_TRUE(
      absl::IsInvalidArgument(sampler_->UpdatePriorities({{1, 0, 0}}, {1})));
}

TEST_F(RemoteSamplerTest, PrioritiesForAnAbsentShardAreDroppedAndCounted) {
  MakeShards(1, TestTable());
  Insert(0, 1, 1);
  Connect();
  shards_[0]->Stop();
  const std::vector<SampleKey> keys(200000);
  const std::vector<float> priorities(200000, 1.0f);
  ASSERT_TRUE(sampler_->UpdatePriorities(keys, priorities).ok());
  EXPECT_TRUE(Eventually([&] {
    return metrics_.Text().find(
               "qfleet_sampler_priorities_dropped_total 200000\n") !=
           std::string::npos;
  }));
}

// All inserts go to shard 0, nearly all samples come from shard 1: samples per
// insert holds over the sum, and neither shard stalls.
TEST_F(RemoteSamplerTest, LimiterHoldsOverTheCluster) {
  constexpr double kRatio = 4, kTolerance = 64, kMinSize = 20;
  v1::TableSpec spec = TestTable();
  spec.mutable_rate_limiter()->set_samples_per_insert(kRatio);
  spec.mutable_rate_limiter()->set_tolerance(kTolerance);
  spec.mutable_rate_limiter()->set_min_size(kMinSize);
  MakeShards(2, spec);
  for (uint64_t i = 1; i <= 20; ++i) Insert(1, i, 100);
  options_.batch_size = 32;
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (uint64_t i = 1; !stop; ++i) {
      absl::Notification done;
      const v1::AppendBatch batch = OneItemBatch(i, 0.01f);
      shards_[0]->shard().Append(
          0, {1, nullptr}, batch,
          [&](absl::StatusOr<v1::AppendResponse>) { done.Notify(); });
      done.WaitForNotification();
    }
  });
  sampler_ = MakeRemoteSampler(options_, metrics_);
  for (int b = 0; b < 300; ++b) {
    auto batch = sampler_->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
  }
  const double inserted = static_cast<double>(shards_[0]->Stats().inserted() +
                                              shards_[1]->Stats().inserted());
  const double sampled = static_cast<double>(shards_[0]->Stats().sampled() +
                                             shards_[1]->Stats().sampled());
  const double difference = (inserted - kMinSize) * kRatio - sampled;
  // Beside the tolerance, what is between a shard's totals and the sampler's:
  // the batches that are in flight and the one that was just drawn.
  const double slack = 3 * 32 + kRatio;
  EXPECT_LE(difference, kTolerance + slack);
  EXPECT_GE(difference, -kTolerance - slack);
  EXPECT_GE(sampled, 300 * 32);
  stop = true;
  shards_[0]->shard().Shutdown();
  writer.join();
}

TEST_F(RemoteSamplerTest, SaysThatTheLimiterHoldsItBack) {
  v1::TableSpec spec = TestTable();
  spec.mutable_rate_limiter()->set_samples_per_insert(1);
  spec.mutable_rate_limiter()->set_tolerance(100);
  MakeShards(2, spec);
  Insert(0, 1, 1);
  Insert(1, 1, 1);
  options_.patience = absl::Milliseconds(300);
  sampler_ = MakeRemoteSampler(options_, metrics_);
  absl::StatusOr<std::unique_ptr<SampleBatch>> batch;
  int batches = 0;
  while ((batch = sampler_->Next()).ok()) ASSERT_LT(++batches, 10);
  EXPECT_TRUE(absl::IsDeadlineExceeded(batch.status())) << batch.status();
  EXPECT_THAT(batch.status().message(), HasSubstr("rate limiter"));
  EXPECT_THAT(batch.status().message(), HasSubstr("2 of 2 shards"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("qfleet_sampler_limited_total"));
  // And goes on when it may: each insert allows one sample more. How far it was
  // ahead depends on how old the totals were that each shard had of the other.
  uint64_t next = 2;
  EXPECT_TRUE(Eventually([&] {
    for (int i = 0; i < 64; ++i) Insert(0, next++, 1);
    return sampler_->Next().ok();
  }));
}

// A queue that is shorter than what is prefetched: the learner ended with
// INVALID_ARGUMENT, or both sides waited for ever.
TEST_F(RemoteSamplerTest, AQueueThatIsShorterThanThePrefetch) {
  v1::TableSpec spec = TestTable();
  spec.mutable_selector()->set_kind(v1::Selector::FIFO);
  spec.set_max_items(40);
  spec.mutable_rate_limiter()->set_samples_per_insert(1);
  spec.mutable_rate_limiter()->set_tolerance(20);
  MakeShards(1, spec);
  // One that fits, and one that the limiter never lets in as a whole.
  for (const int size : {16, 32}) {
    SCOPED_TRACE(size);
    shards_[0]->Forget();
    shards_[0]->Start();
    options_.batch_size = size;
    options_.prefetch = 4;
    sampler_ = MakeRemoteSampler(options_, metrics_);
    constexpr int64_t kItems = 160;
    std::thread inserts([this] {
      // Each waits until the limiter lets it pass.
      for (int64_t i = 1; i <= kItems; ++i) Insert(0, i, 1);
    });
    std::vector<int64_t> drawn, expected;
    for (int b = 0; b < kItems / size; ++b) {
      auto batch = sampler_->Next();
      EXPECT_TRUE(batch.ok()) << batch.status();
      if (!batch.ok()) {
        shards_[0]->shard().Shutdown();  // Which ends the inserts.
        break;
      }
      for (int j = 0; j < size; ++j) drawn.push_back(Action(**batch, j));
    }
    inserts.join();
    // Each once. Batches that are drawn in parts may overtake each other.
    std::sort(drawn.begin(), drawn.end());
    for (int64_t i = 1; i <= kItems; ++i) expected.push_back(i);
    EXPECT_EQ(drawn, expected);
  }
}

// What the checkpoint held was counted twice.
TEST_F(RemoteSamplerTest, AShardThatIsRestoredUnderItIsNotCountedTwice) {
  MakeShards(2, TestTable());
  for (uint64_t i = 1; i <= 5; ++i) Insert(0, i, 1);
  Insert(1, 1, 1);
  const TempDirectory folder;
  v1::CheckpointRequest request;
  request.set_directory(folder.path());
  auto checkpoint = shards_[0]->shard().Checkpoint(request);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  for (uint64_t i = 6; i <= 8; ++i) Insert(0, i, 1);
  Connect();
  ASSERT_TRUE(Eventually([&] { return sampler_->View().inserted == 9; }));
  const std::vector<uint64_t> env_steps = sampler_->View().shard_env_steps;
  Shard::Options restored;
  restored.restore = checkpoint->path();
  shards_[0]->Replace(restored);
  ASSERT_TRUE(Eventually([&] { return sampler_->View().shards == 1; }));
  shards_[0]->Start();
  ASSERT_TRUE(Eventually([&] { return sampler_->View().shards == 2; }));
  EXPECT_EQ(shards_[0]->Stats().inserted(), 5u);
  EXPECT_EQ(sampler_->View().inserted, 9u);
  EXPECT_EQ(sampler_->View().shard_env_steps, env_steps);
  Insert(0, 6, 1);
  EXPECT_TRUE(Eventually([&] { return sampler_->View().inserted == 10; }));
}

// As the learner's checkpoint has it.
TEST_F(RemoteSamplerTest, GoesOnFromWhatAnEarlierLifeKnew) {
  MakeShards(2, TestTable());
  for (uint64_t i = 1; i <= 5; ++i) Insert(0, i, 1);
  for (uint64_t i = 1; i <= 3; ++i) Insert(1, i, 1);
  Connect();
  ASSERT_TRUE(Eventually([&] { return sampler_->View().inserted == 8; }));
  options_.known = sampler_->Known();
  ASSERT_EQ(options_.known.size(), 2u);
  sampler_.reset();
  for (auto& shard : shards_) shard->Stop();
  sampler_ = MakeRemoteSampler(options_, metrics_);
  EXPECT_EQ(sampler_->View().inserted, 8u) << "before it sees a shard";
  shards_[0]->Forget();  // Its memory is lost meanwhile.
  for (auto& shard : shards_) shard->Start();
  ASSERT_TRUE(Eventually([&] { return sampler_->View().shards == 2; }));
  EXPECT_EQ(sampler_->View().inserted, 8u);
  Insert(0, 1, 1);
  EXPECT_TRUE(Eventually([&] { return sampler_->View().inserted == 9; }));
}

TEST_F(RemoteSamplerTest, SaysThatThereAreNoItemsAndStartsWithTheFirst) {
  MakeShards(2, TestTable());
  options_.patience = absl::Milliseconds(200);
  sampler_ = MakeRemoteSampler(options_, metrics_);
  ASSERT_TRUE(Eventually([&] { return sampler_->View().shards == 2; }));
  absl::Status status = sampler_->Next().status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("hold no items"));
  Insert(1, 1, 1);
  EXPECT_TRUE(Eventually([&] { return sampler_->Next().ok(); }));
}

TEST_F(RemoteSamplerTest, SaysWhichShardsCannotBeReached) {
  MakeShards(1, TestTable());
  shards_[0]->Stop();
  options_.patience = absl::Milliseconds(200);
  sampler_ = MakeRemoteSampler(options_, metrics_);
  absl::Status status = sampler_->Next().status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("0 of 1 shards"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(shards_[0]->address()));
}

TEST_F(RemoteSamplerTest, RefusalIsFinal) {
  MakeShards(1, TestTable());
  options_.signature.mutable_views(0)->set_stack(4);
  sampler_ = MakeRemoteSampler(options_, metrics_);
  for (int i = 0; i < 2; ++i) {
    absl::Status status = sampler_->Next().status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                StartsWith(shards_[0]->address()));
    EXPECT_THAT(status.message(), HasSubstr("stack"));
  }
}

TEST_F(RemoteSamplerTest, StopEndsAWait) {
  MakeShards(1, TestTable());
  options_.patience = absl::InfiniteDuration();
  sampler_ = MakeRemoteSampler(options_, metrics_);
  absl::Status status;
  std::thread learner([&] { status = sampler_->Next().status(); });
  EXPECT_TRUE(Eventually([&] { return sampler_->View().shards == 1; }));
  sampler_->Stop();
  learner.join();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

TEST_F(RemoteSamplerTest, AnAnswerThatIsNoMessageEndsItWithItsShardsName) {
  v1::SampleResponse open;  // There is something to ask for.
  open.mutable_stats()->set_mass(1);
  open.mutable_stats()->set_size(1);
  for (int good : {0, 1}) {
    GarbledReplay replay(GarbledReplay::kSample, good, open);
    GrpcServer server;
    ASSERT_TRUE(server.Start("localhost:0", {&replay}).ok());
    options_.table = "replay";
    options_.signature = TestTable().signature();
    options_.shards = {server.address()};
    options_.patience = absl::Seconds(30);
    sampler_ = MakeRemoteSampler(options_, metrics_);
    const absl::Status status = sampler_->Next().status();
    EXPECT_TRUE(absl::IsInternal(status)) << status;
    EXPECT_EQ(status.message(),
              server.address() +
                  ": an answer of 3 bytes is no qfleet.v1.SampleResponse");
    EXPECT_EQ(sampler_->Next().status(), status) << "it stays so";
    sampler_.reset();  // At once.
    server.Shutdown(absl::ZeroDuration());
  }
}

}  // namespace
}  // namespace qfleet
