#include "replay_client/remote_writer.h"

#include <cstring>
#include <limits>
#include <memory>
#include <set>
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

class RemoteWriterTest : public ::testing::Test {
 protected:
  void MakeShards(int count, const v1::TableSpec& spec) {
    for (int s = 0; s < count; ++s) {
      shards_.push_back(std::make_unique<TestShard>(spec, s));
      options_.shards.push_back(shards_.back()->address());
    }
    options_.table = spec.name();
    options_.signature = spec.signature();
    options_.patience = absl::Seconds(30);
  }
  void Start() {
    for (auto& shard : shards_) shard->Start();
    Connect();
  }
  void Connect() { Connect(shards_.size()); }
  // Where only so many are there.
  void Connect(size_t count) {
    writer_ = MakeRemoteWriter(options_);
    ASSERT_TRUE(
        Eventually([&] { return writer_->Stats().shards_connected == count; }));
  }

  absl::StatusOr<uint64_t> Step(uint32_t stream, bool starts, float value) {
    const ColumnRow row(reinterpret_cast<const char*>(&value), sizeof(value));
    return writer_->AppendStep(stream, starts, {row});
  }
  absl::Status Item(uint32_t stream, uint64_t first, uint64_t last,
                    int64_t action, float priority = 1) {
    const ColumnRow row(reinterpret_cast<const char*>(&action), sizeof(action));
    return writer_->AppendItem(stream, first, last, {row}, priority);
  }
  // An episode of two steps with an item over both.
  absl::Status Episode(uint32_t stream, int64_t action) {
    auto first = Step(stream, true, static_cast<float>(action));
    if (!first.ok()) return first.status();
    auto last = Step(stream, false, static_cast<float>(action) + 0.5f);
    if (!last.ok()) return last.status();
    return Item(stream, *first, *last, action);
  }
  // The actions of the shard's items, which have equal masses.
  std::set<int64_t> Actions(TestShard& shard) {
    v1::SampleResponse response;
    EXPECT_TRUE(shard.shard().Sample(0, DrawOf(40000), response).ok());
    std::set<int64_t> actions;
    for (int j = 0; j < response.slot_size(); ++j) {
      int64_t action;
      std::memcpy(&action, response.item_columns(0).data().data() + 8 * j, 8);
      float first, last;
      std::memcpy(&first, response.views(0).data().data() + 4 * j, 4);
      std::memcpy(&last, response.views(1).data().data() + 4 * j, 4);
      EXPECT_EQ(first, static_cast<float>(action));
      EXPECT_EQ(last, static_cast<float>(action) + 0.5f);
      actions.insert(action);
    }
    return actions;
  }

  std::vector<std::unique_ptr<TestShard>> shards_;
  WriterOptions options_;
  std::unique_ptr<RemoteWriter> writer_;
};

TEST_F(RemoteWriterTest, StreamsAreSpreadAndAcknowledged) {
  MakeShards(2, TestTable());
  options_.first_stream = 1;
  Start();
  for (int64_t i = 0; i < 9; ++i) {
    ASSERT_TRUE(Episode(static_cast<uint32_t>(i % 3), i).ok());
  }
  ASSERT_TRUE(writer_->Flush().ok());
  EXPECT_EQ(shards_[0]->Stats().inserted(), 3u);  // Stream 1.
  EXPECT_EQ(shards_[1]->Stats().inserted(), 6u);  // Streams 0 and 2.
  EXPECT_EQ(writer_->Stats().items_stored, 9u);
  EXPECT_EQ(writer_->Stats().unacknowledged_bytes, 0u);
  EXPECT_EQ(writer_->Stats().reconnects, 0u);
}

// All streams began at the shard that was connected first, and the others were
// empty until the first episodes were over.
TEST_F(RemoteWriterTest, StreamsBeginAtTheirOwnShardHoweverLateItIs) {
  MakeShards(3, TestTable());
  options_.connect_patience = absl::Seconds(30);
  shards_[0]->Start();
  Connect(1);
  std::thread late([&] {
    shards_[2]->Start();
    EXPECT_TRUE(
        Eventually([&] { return writer_->Stats().shards_connected == 2; }));
    shards_[1]->Start();
  });
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(Episode(static_cast<uint32_t>(i), i).ok());
  }
  late.join();
  ASSERT_TRUE(writer_->Flush().ok());
  for (const auto& shard : shards_) EXPECT_EQ(shard->Stats().inserted(), 1u);
}

TEST_F(RemoteWriterTest, AShardThatDoesNotComeIsWaitedForOnce) {
  MakeShards(2, TestTable());
  options_.connect_patience = absl::Milliseconds(50);
  shards_[0]->Start();
  Connect(1);
  for (int64_t i = 0; i < 100; ++i) ASSERT_TRUE(Episode(1, i).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  EXPECT_EQ(shards_[0]->Stats().inserted(), 100u);
  EXPECT_EQ(writer_->Stats().steps_dropped, 0u);
}

TEST_F(RemoteWriterTest, StopEndsTheWaitForShards) {
  MakeShards(1, TestTable());
  options_.connect_patience = absl::InfiniteDuration();
  writer_ = MakeRemoteWriter(options_);
  std::thread stopper([&] { writer_->Stop(); });
  EXPECT_TRUE(absl::IsCancelled(Step(0, true, 0).status()));
  stopper.join();
}

TEST_F(RemoteWriterTest, PollSendsWhatIsOldEnough) {
  MakeShards(1, TestTable());
  options_.batch_age = absl::InfiniteDuration();
  Start();
  ASSERT_TRUE(Episode(0, 1).ok());
  ASSERT_TRUE(writer_->Poll().ok());
  EXPECT_EQ(writer_->Stats().unacknowledged_bytes, 0u);
  EXPECT_EQ(shards_[0]->Stats().steps(), 0u);
  writer_.reset();

  options_.batch_age = absl::ZeroDuration();
  Connect();
  ASSERT_TRUE(Episode(0, 2).ok());
  ASSERT_TRUE(writer_->Poll().ok());
  EXPECT_TRUE(Eventually([&] { return writer_->Stats().items_stored == 1; }));
}

TEST_F(RemoteWriterTest, BatchIsSentWhenItIsLargeEnough) {
  MakeShards(1, TestTable());
  options_.batch_age = absl::InfiniteDuration();
  options_.batch_bytes = 100;
  Start();
  for (int64_t i = 0; i < 20; ++i) ASSERT_TRUE(Episode(0, i).ok());
  EXPECT_TRUE(Eventually([&] { return shards_[0]->Stats().size() >= 10; }));
}

// Steps beyond half of a shard's ring would be refused.
TEST_F(RemoteWriterTest, BatchOfTinyStepsIsBounded) {
  v1::TableSpec spec = TestTable();
  spec.set_max_items(64);
  MakeShards(1, spec);
  options_.batch_age = absl::InfiniteDuration();
  options_.batch_bytes = 4 << 20;
  options_.batch_steps = 1 << 20;
  options_.max_unacknowledged_steps = 1 << 20;
  Start();
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(Step(0, i == 0, 0).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  EXPECT_EQ(shards_[0]->Stats().steps(), 5000u);
}

// The server is killed again and again in the middle of batches, and comes
// back with its memory: nothing is lost, nothing is there twice.
TEST_F(RemoteWriterTest, RestartsLoseNothingAndDuplicateNothing) {
  MakeShards(1, TestTable());
  options_.batch_bytes = 200;
  Start();
  constexpr int64_t kItems = 600;
  for (int64_t i = 0; i < kItems; ++i) {
    ASSERT_TRUE(Episode(static_cast<uint32_t>(i % 3), i).ok());
    if (i % 100 == 50) {
      shards_[0]->Stop();
      shards_[0]->Start();
    }
  }
  ASSERT_TRUE(writer_->Flush().ok());
  EXPECT_EQ(shards_[0]->Stats().inserted(), static_cast<uint64_t>(kItems));
  EXPECT_EQ(shards_[0]->Stats().steps(), static_cast<uint64_t>(2 * kItems));
  EXPECT_EQ(Actions(*shards_[0]).size(), static_cast<size_t>(kItems));
  const WriterStats stats = writer_->Stats();
  EXPECT_EQ(stats.items_stored + stats.items_unconfirmed,
            static_cast<uint64_t>(kItems));
  EXPECT_EQ(stats.items_skipped + stats.items_dropped, 0u);
  EXPECT_GE(stats.reconnects, 1u);
}

// It comes back without its memory: what was acknowledged is not sent again,
// and each item is acknowledged once, as stored or as skipped.
TEST_F(RemoteWriterTest, ShardWithoutMemoryGetsOnlyWhatWasNotAcknowledged) {
  MakeShards(1, TestTable());
  options_.batch_bytes = 200;
  Start();
  for (int64_t i = 0; i < 50; ++i) ASSERT_TRUE(Episode(0, i).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  ASSERT_TRUE(Step(0, true, 7).ok());  // An episode that will be lost ...
  ASSERT_TRUE(writer_->Flush().ok());
  shards_[0]->Forget();
  shards_[0]->Start();
  ASSERT_TRUE(Step(0, false, 8).ok());  // ... goes on.
  ASSERT_TRUE(Item(0, 100, 101, 1000).ok());
  for (int64_t i = 50; i < 80; ++i) ASSERT_TRUE(Episode(0, i).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  EXPECT_EQ(shards_[0]->Stats().inserted(), 30u);
  EXPECT_EQ(shards_[0]->Stats().skipped(), 1u);
  EXPECT_EQ(writer_->Stats().items_stored, 80u);
  EXPECT_EQ(writer_->Stats().items_skipped, 1u);
  EXPECT_EQ(writer_->Stats().reconnects, 1u);
}

// The shard waited for batches that the writer had forgotten as acknowledged,
// and the writer for the shard, for ever.
TEST_F(RemoteWriterTest, GoesOnWithAShardThatWasRestoredFromBefore) {
  MakeShards(1, TestTable());
  options_.batch_bytes = 100;
  Start();
  for (int64_t i = 0; i < 5; ++i) ASSERT_TRUE(Episode(0, i).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  const TempDirectory directory;
  v1::CheckpointRequest request;
  request.set_directory(directory.path());
  auto checkpoint = shards_[0]->shard().Checkpoint(request);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  for (int64_t i = 5; i < 10; ++i) ASSERT_TRUE(Episode(0, i).ok());
  ASSERT_TRUE(Step(0, true, 10).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  EXPECT_EQ(writer_->Stats().items_stored, 10u);
  Shard::Options before;
  before.restore = checkpoint->path();
  shards_[0]->Replace(before);
  shards_[0]->Start();
  // The episode under way is lost with its beginning, those after it are not.
  ASSERT_TRUE(Step(0, false, 10.5).ok());
  ASSERT_TRUE(Item(0, 20, 21, 10).ok());
  for (int64_t i = 11; i < 15; ++i) ASSERT_TRUE(Episode(0, i).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  EXPECT_THAT(Actions(*shards_[0]),
              ::testing::ElementsAre(0, 1, 2, 3, 4, 11, 12, 13, 14));
  EXPECT_EQ(writer_->Stats().items_skipped, 1u);
}

class BrokenStorage : public AnonymousStorage {
 public:
  absl::Status Sync() override { return absl::DataLossError("no disk"); }
};

// It said that it was there, refused the first batch, and said so again: for
// ever, and the writer's streams waited for it.
TEST_F(RemoteWriterTest, StreamsOfAShardWhoseStorageFailedGoElsewhere) {
  MakeShards(2, TestTable());
  options_.batch_bytes = 100;
  options_.max_unacknowledged_steps = 16;
  options_.shard_patience = absl::Milliseconds(50);
  absl::Notification failed;
  Shard::Options broken;
  broken.sync_interval = absl::Milliseconds(1);
  broken.storage = [](const v1::TableSpec&) {
    return std::make_unique<BrokenStorage>();
  };
  broken.on_storage_failure = [&] { failed.Notify(); };
  shards_[0]->Replace(broken);
  failed.WaitForNotification();
  options_.connect_patience = absl::ZeroDuration();
  for (auto& shard : shards_) shard->Start();
  Connect(1);
  for (int64_t i = 0; i < 100; ++i) ASSERT_TRUE(Episode(0, i).ok());
  EXPECT_TRUE(Eventually([&] {
    return writer_->Poll().ok() && shards_[1]->Stats().inserted() == 100;
  }));
  EXPECT_EQ(writer_->Stats().shards_connected, 1u);
}

TEST_F(RemoteWriterTest, WaitsAtItsBoundAndSaysForWhom) {
  MakeShards(1, TestTable());
  options_.max_unacknowledged_bytes = 1000;
  options_.batch_bytes = 100;
  options_.connect_patience = absl::ZeroDuration();
  options_.patience = absl::Milliseconds(20);
  writer_ = MakeRemoteWriter(options_);
  int64_t i = 0;
  absl::Status status;
  while (status.ok()) {
    ASSERT_LT(i, 1000);
    status = Step(0, i == 0, static_cast<float>(i)).status();
    if (status.ok()) ++i;
  }
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), StartsWith(shards_[0]->address()));
  EXPECT_THAT(status.message(), HasSubstr("20ms"));
  EXPECT_THAT(status.message(), HasSubstr("not connected"));
  EXPECT_LE(writer_->Stats().unacknowledged_bytes, 1000u);
  EXPECT_GT(writer_->Stats().waited_seconds, 0.01);
  // The call that failed added nothing, and may be made again.
  shards_[0]->Start();
  ASSERT_TRUE(Eventually([&] { return Step(0, i == 0, 0).ok(); }));
  ASSERT_TRUE(Eventually([&] { return writer_->Flush().ok(); }));
  EXPECT_EQ(shards_[0]->Stats().steps(), static_cast<uint64_t>(i + 1));
}

TEST_F(RemoteWriterTest, RateLimiterHoldsTheWriterUntilSamples) {
  MakeShards(1, LimitedTestTable());
  options_.max_unacknowledged_bytes = 200;
  options_.batch_bytes = 1;
  options_.patience = absl::Milliseconds(20);
  Start();
  int64_t i = 0;
  absl::Status status;
  while ((status = Episode(0, i)).ok()) {
    ++i;
    ASSERT_LT(i, 1000);
  }
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("rate limiter"));
  ASSERT_TRUE(
      Eventually([&] { return shards_[0]->Info().waiting_writers() == 1; }));
  EXPECT_EQ(shards_[0]->Stats().inserted(), 4u);
  v1::SampleResponse response;
  ASSERT_TRUE(shards_[0]->shard().Sample(0, DrawOf(1000), response).ok());
  EXPECT_TRUE(Eventually([&] { return writer_->Flush().ok(); }));
}

// Silence alone says nothing: the shard is asked whether it is there.
TEST_F(RemoteWriterTest, AShardThatHoldsTheWriterBackIsNotGivenUp) {
  MakeShards(2, LimitedTestTable());
  options_.max_unacknowledged_bytes = 200;
  options_.batch_bytes = 1;
  options_.silence_patience = absl::Seconds(1);
  options_.patience = absl::Milliseconds(3500);
  Start();
  absl::Status status;
  for (int64_t i = 0; status.ok() && i < 1000; ++i) status = Episode(0, i);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("rate limiter"));
  EXPECT_EQ(writer_->Stats().shards_connected, 2u);
  EXPECT_EQ(writer_->Stats().reconnects, 0u);
}

// It filled megabytes with tiny steps of an old policy, and learning suffered.
TEST_F(RemoteWriterTest, AWriterHeldBackDoesNotRunFarAhead) {
  MakeShards(1, LimitedTestTable());
  options_.batch_steps = 10;
  options_.max_unacknowledged_steps = 50;
  options_.batch_age = absl::InfiniteDuration();
  options_.patience = absl::Milliseconds(20);
  Start();
  uint64_t steps = 0;
  while (Episode(0, 0).ok()) {
    steps += 2;
    ASSERT_LT(steps, 10000u);
  }
  // One batch that is being filled, beside what is on its way.
  const uint64_t stored = shards_[0]->Stats().steps();
  EXPECT_GE(steps, stored);
  EXPECT_LE(steps, stored + 50 + 10 + 2);
}

TEST_F(RemoteWriterTest, RefusalIsReportedByEveryLaterCall) {
  MakeShards(2, TestTable());
  shards_[0]->Start();
  shards_[1]->Start();
  options_.signature.mutable_item_columns(0)->set_name("other");
  writer_ = MakeRemoteWriter(options_);
  ASSERT_TRUE(Eventually([&] { return !writer_->Poll().ok(); }));
  for (int i = 0; i < 2; ++i) {
    absl::Status status = Step(0, true, 0).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), StartsWith("unix:"));
    EXPECT_THAT(status.message(), HasSubstr("other"));
    EXPECT_TRUE(absl::IsFailedPrecondition(writer_->Flush()));
  }
}

TEST_F(RemoteWriterTest, StreamMovesWhileItsShardIsAwayAndComesBack) {
  MakeShards(2, TestTable());
  Start();
  ASSERT_TRUE(Step(0, true, 1).ok());
  ASSERT_TRUE(Step(0, false, 1.5).ok());
  shards_[0]->Stop();
  ASSERT_TRUE(
      Eventually([&] { return writer_->Stats().shards_connected == 1; }));
  ASSERT_TRUE(Episode(0, 2).ok());     // On shard 1.
  ASSERT_TRUE(Item(0, 0, 1, 1).ok());  // On shard 0, where its steps are.
  EXPECT_TRUE(absl::IsInvalidArgument(Item(0, 1, 2, 9)));  // Across both.
  shards_[0]->Start();
  ASSERT_TRUE(
      Eventually([&] { return writer_->Stats().shards_connected == 2; }));
  ASSERT_TRUE(Episode(0, 3).ok());  // On shard 0 again.
  ASSERT_TRUE(writer_->Flush().ok());
  EXPECT_THAT(Actions(*shards_[0]), ::testing::ElementsAre(1, 3));
  EXPECT_THAT(Actions(*shards_[1]), ::testing::ElementsAre(2));
}

// Small batches, a short queue, and patience that a test notices.
class LostShardTest : public RemoteWriterTest {
 protected:
  LostShardTest() {
    options_.batch_steps = 4;
    options_.max_unacknowledged_steps = 16;
    options_.batch_age = absl::ZeroDuration();
    options_.shard_patience = absl::Milliseconds(20);
    options_.connect_patience = absl::ZeroDuration();
  }
  void Lose(int shard) {
    shards_[shard]->Stop();
    ASSERT_TRUE(Eventually([&] {
      return writer_->Stats().shards_connected == shards_.size() - 1;
    }));
  }
  void Return(int shard) {
    shards_[shard]->Start();
    ASSERT_TRUE(Eventually(
        [&] { return writer_->Stats().shards_connected == shards_.size(); }));
  }
  // Two more steps of the episode that stream 0 is in, and an item over them.
  absl::Status Pair(int64_t action) {
    auto first = Step(0, false, static_cast<float>(action));
    if (!first.ok()) return first.status();
    auto last = Step(0, false, static_cast<float>(action) + 0.5f);
    if (!last.ok()) return last.status();
    EXPECT_EQ(*last, *first + 1);
    return Item(0, *first, *last, action);
  }
};

// It held all streams up for as long as the shard was away, and the learner
// starved.
TEST_F(LostShardTest, AnEpisodeUnderWayIsGivenUpAndNewOnesGoElsewhere) {
  MakeShards(2, TestTable());
  Start();
  ASSERT_TRUE(Step(0, true, 0).ok());
  ASSERT_TRUE(Pair(1).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  Lose(0);
  const absl::Time begun = absl::Now();
  constexpr int64_t kPairs = 100;
  for (int64_t i = 2; i <= kPairs; ++i) {
    ASSERT_TRUE(Pair(i).ok());
    ASSERT_TRUE(Episode(1, 1000 + i).ok());  // On shard 1 all along.
  }
  WriterStats stats = writer_->Stats();
  EXPECT_GT(stats.steps_dropped, 2 * (kPairs - 1) - 16 - 4 - 1);
  EXPECT_LT(stats.steps_dropped, 2u * (kPairs - 1));
  EXPECT_GE(2 * stats.items_dropped, stats.steps_dropped);

  // Items that come late: over steps that were dropped, over dropped and kept
  // ones, over kept ones for which there is no room; and one that is wrong.
  auto next = Step(0, true, 2000);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(*next, 1u + 2 * kPairs);
  const uint64_t dropped = stats.items_dropped;
  EXPECT_TRUE(Item(0, *next - 2, *next - 1, 9).ok());
  EXPECT_TRUE(Item(0, 1, *next - 1, 9).ok());
  EXPECT_TRUE(Item(0, 1, 2, 9).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Item(0, *next - 1, *next, 9)));
  EXPECT_EQ(writer_->Stats().items_dropped, dropped + 3);
  // The episode is on shard 1, whole.
  auto last = Step(0, false, 2000.5);
  ASSERT_TRUE(last.ok());
  ASSERT_TRUE(Item(0, *next, *last, 2000).ok());
  EXPECT_TRUE(Eventually([&] {
    return writer_->Poll().ok() && shards_[1]->Stats().inserted() == kPairs;
  }));
  EXPECT_LT(absl::Now() - begun, options_.patience / 2);
  EXPECT_EQ(Actions(*shards_[1]).count(2000), 1u);

  // What was queued arrives, once, and the stream goes on without a gap.
  Return(0);
  ASSERT_TRUE(Episode(0, 3000).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  stats = writer_->Stats();
  const uint64_t kept = kPairs - (stats.items_dropped - 3);
  EXPECT_EQ(shards_[0]->Stats().steps(),
            1 + 2 * kPairs - stats.steps_dropped + 2);
  EXPECT_EQ(shards_[0]->Stats().inserted(), kept + 1);
  EXPECT_EQ(shards_[0]->Stats().skipped(), 0u);
  std::set<int64_t> actions = Actions(*shards_[0]);
  EXPECT_EQ(actions.size(), kept + 1);
  EXPECT_EQ(actions.count(3000), 1u);
  EXPECT_EQ(actions.count(static_cast<int64_t>(kept)), 1u);  // 1, 2, ... kept.
  EXPECT_EQ(shards_[1]->Stats().inserted(), static_cast<uint64_t>(kPairs));
  EXPECT_EQ(shards_[1]->Stats().steps(), 2u * kPairs);
  EXPECT_EQ(stats.items_stored + stats.items_unconfirmed, kept + 1 + kPairs);
  EXPECT_EQ(stats.items_skipped, 0u);
}

TEST_F(LostShardTest, AShardThatIsGoneForLongCostsNothingMore) {
  MakeShards(2, TestTable());
  options_.shard_patience = absl::Milliseconds(500);
  Start();
  ASSERT_TRUE(Step(0, true, 0).ok());
  ASSERT_TRUE(Step(2, true, 0).ok());  // On shard 0 too.
  Lose(0);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(Step(0, false, 0).ok());
  const WriterStats first = writer_->Stats();
  EXPECT_GT(first.steps_dropped, 0u);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(Step(2, false, 0).ok());
  const WriterStats second = writer_->Stats();
  EXPECT_EQ(second.steps_dropped, first.steps_dropped + 50);
  EXPECT_LT(second.waited_seconds - first.waited_seconds, 0.25);
}

TEST_F(LostShardTest, AShardThatIsBackInTimeGetsEverything) {
  MakeShards(2, TestTable());
  options_.shard_patience = absl::Seconds(25);
  Start();
  ASSERT_TRUE(Step(0, true, 0).ok());
  Lose(0);
  std::thread actor([&] {
    for (int64_t i = 0; i < 100; ++i) EXPECT_TRUE(Pair(i).ok());
  });
  EXPECT_TRUE(
      Eventually([&] { return writer_->Stats().unacknowledged_bytes > 0; }));
  Return(0);
  actor.join();
  ASSERT_TRUE(writer_->Flush().ok());
  EXPECT_EQ(writer_->Stats().steps_dropped, 0u);
  EXPECT_EQ(writer_->Stats().items_dropped, 0u);
  EXPECT_EQ(shards_[0]->Stats().steps(), 201u);
  EXPECT_EQ(shards_[0]->Stats().inserted(), 100u);
}

TEST_F(LostShardTest, WithNowhereToGoThePatienceIsTheUsualOne) {
  for (int count : {1, 2}) {
    shards_.clear();
    options_.shards.clear();
    MakeShards(count, TestTable());
    options_.patience = absl::Milliseconds(20);
    options_.shard_patience = absl::ZeroDuration();
    writer_ = MakeRemoteWriter(options_);
    absl::Status status = Step(0, true, 0).status();
    for (int i = 0; status.ok(); ++i) {
      ASSERT_LT(i, 100);
      status = Step(0, false, 0).status();
    }
    EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
    EXPECT_EQ(writer_->Stats().steps_dropped, 0u);
  }
}

TEST_F(LostShardTest, TheFirstShardThatIsThereEndsTheWaitForAnother) {
  MakeShards(2, TestTable());
  options_.shard_patience = absl::ZeroDuration();
  writer_ = MakeRemoteWriter(options_);
  std::thread actor([&] {
    EXPECT_TRUE(Step(0, true, 0).ok());
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(Step(0, false, 0).ok());
    EXPECT_TRUE(Episode(0, 7).ok());
  });
  EXPECT_TRUE(
      Eventually([&] { return writer_->Stats().unacknowledged_bytes > 0; }));
  shards_[1]->Start();
  actor.join();
  EXPECT_GT(writer_->Stats().steps_dropped, 100u - 16 - 4);
  EXPECT_TRUE(Eventually([&] {
    return writer_->Poll().ok() && shards_[1]->Stats().inserted() == 1;
  }));
}

// However patient the writer is with an episode under way.
TEST_F(LostShardTest, AnEpisodesStartGoesElsewhereAtOnceAndLosesNothing) {
  MakeShards(2, TestTable());
  options_.shard_patience = absl::InfiniteDuration();
  writer_ = MakeRemoteWriter(options_);
  std::thread actor([&] {
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(Step(0, true, 0).ok());
  });
  EXPECT_TRUE(
      Eventually([&] { return writer_->Stats().unacknowledged_bytes > 0; }));
  shards_[1]->Start();
  actor.join();
  Return(0);
  ASSERT_TRUE(writer_->Flush().ok());
  EXPECT_EQ(writer_->Stats().steps_dropped, 0u);
  EXPECT_GE(shards_[1]->Stats().steps(), 100u - 16 - 4);
  EXPECT_EQ(shards_[0]->Stats().steps() + shards_[1]->Stats().steps(), 100u);
}

// A shard that is away kept the last batches of those after it from leaving.
TEST_F(LostShardTest, FlushSendsToTheOthersFirst) {
  MakeShards(2, TestTable());
  options_.batch_age = absl::InfiniteDuration();
  options_.shard_patience = absl::ZeroDuration();
  options_.patience = absl::Milliseconds(100);
  Start();
  ASSERT_TRUE(Step(0, true, 0).ok());
  Lose(0);
  while (writer_->Stats().steps_dropped == 0) {
    ASSERT_TRUE(Step(0, false, 0).ok());
  }
  ASSERT_TRUE(Episode(1, 1).ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(writer_->Flush()));
  EXPECT_TRUE(Eventually([&] { return shards_[1]->Stats().inserted() == 1; }));
}

TEST_F(RemoteWriterTest, StopEndsAWait) {
  MakeShards(1, TestTable());
  options_.connect_patience = absl::ZeroDuration();
  options_.patience = absl::InfiniteDuration();
  writer_ = MakeRemoteWriter(options_);
  ASSERT_TRUE(Episode(0, 1).ok());
  absl::Status status;
  std::thread actor([&] { status = writer_->Flush(); });
  EXPECT_TRUE(
      Eventually([&] { return writer_->Stats().unacknowledged_bytes > 0; }));
  writer_->Stop();
  actor.join();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_TRUE(absl::IsCancelled(writer_->Poll()));
}

TEST_F(RemoteWriterTest, WrongArgumentsAreRefusedAndChangeNothing) {
  MakeShards(1, TestTable());
  Start();
  EXPECT_TRUE(absl::IsInvalidArgument(Step(0, false, 0).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Item(0, 0, 0, 1)));
  ASSERT_TRUE(Step(0, true, 0).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Item(0, 0, 1, 1)));  // No step 1 yet.
  EXPECT_TRUE(absl::IsInvalidArgument(
      Item(0, 0, 0, 1, std::numeric_limits<float>::infinity())));
  EXPECT_TRUE(absl::IsInvalidArgument(Item(0, 0, 0, 1, -1)));
  EXPECT_TRUE(
      absl::IsInvalidArgument(writer_->AppendStep(0, true, {}).status()));
  ASSERT_TRUE(Item(0, 0, 0, 1).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  EXPECT_EQ(shards_[0]->Stats().inserted(), 1u);
  EXPECT_EQ(shards_[0]->Stats().steps(), 1u);
}

TEST_F(RemoteWriterTest, AnAnswerThatIsNoMessageEndsItWithItsShardsName) {
  for (int good : {0, 1}) {
    GarbledReplay replay(GarbledReplay::kAppend, good, v1::AppendResponse());
    GrpcServer server;
    ASSERT_TRUE(server.Start("localhost:0", {&replay}).ok());
    options_.table = "replay";
    options_.signature = TestTable().signature();
    options_.shards = {server.address()};
    options_.patience = absl::Seconds(30);
    writer_ = MakeRemoteWriter(options_);
    absl::Status status = Episode(0, 1);
    if (status.ok()) status = writer_->Flush();
    EXPECT_TRUE(absl::IsInternal(status)) << status;
    EXPECT_EQ(status.message(),
              server.address() +
                  ": a message of 3 bytes does not parse: allowed is a "
                  "qfleet.v1.AppendResponse");
    EXPECT_EQ(writer_->Poll(), status) << "it stays so";
    writer_.reset();  // At once.
    server.Shutdown(absl::ZeroDuration());
  }
}

}  // namespace
}  // namespace qfleet
