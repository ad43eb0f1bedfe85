#include "replay_server/service/shard.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/replay_server/service/test_shard.h"

namespace qfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ShardTest : public ::testing::Test {
 protected:
  void Make(const v1::TableSpec& spec) {
    auto shard = Shard::Create({3, {spec}, 1}, metrics_);
    ASSERT_TRUE(shard.ok()) << shard.status();
    shard_ = *std::move(shard);
  }

  // What Append answered; DATA_LOSS as long as it has not.
  struct Answer {
    v1::AppendBatch batch;
    absl::Status status = absl::DataLossError("not called");
    v1::AppendResponse response;
    int calls = 0;
    bool done() const { return calls > 0; }
  };
  std::shared_ptr<Answer> Append(uint64_t writer, v1::AppendBatch batch,
                                 const void* connection = nullptr) {
    auto answer = std::make_shared<Answer>();
    answer->batch = std::move(batch);
    shard_->Append(
        0, {writer, connection}, answer->batch,
        [this, writer, answer](absl::StatusOr<v1::AppendResponse> result) {
          ++answer->calls;
          answer->status = result.status();
          if (!result.ok()) return;
          answer->response = *result;
          acknowledged_.push_back(writer);
        });
    return answer;
  }
  // Until the limiter of LimitedTestTable holds inserts back.
  void Fill() {
    for (uint64_t i = 1; i <= 4; ++i) {
      ASSERT_TRUE(Append(1, OneItemBatch(i))->status.ok());
    }
    acknowledged_.clear();
  }
  absl::Status Sample(const v1::SampleDraw& draw) {
    response_.Clear();
    return shard_->Sample(0, draw, response_);
  }
  v1::TableInfo Info() { return shard_->Describe().tables(0); }

  Metrics metrics_;
  std::unique_ptr<Shard> shard_;
  std::vector<uint64_t> acknowledged_;  // Writers, in order.
  v1::SampleResponse response_;
};

TEST_F(ShardTest, HeldAppendsAreStoredInOrderAsSamplesMakeRoom) {
  Make(LimitedTestTable());
  Fill();
  for (uint64_t writer : {11, 12, 13}) Append(writer, OneItemBatch(1));
  EXPECT_EQ(Info().waiting_writers(), 3u);
  EXPECT_GE(Info().writers_wait_seconds(), 0);
  EXPECT_THAT(acknowledged_, ElementsAre());
  ASSERT_TRUE(Sample(DrawOf(1)).ok());
  EXPECT_THAT(acknowledged_, ElementsAre(11));
  ASSERT_TRUE(Sample(DrawOf(2)).ok());
  EXPECT_THAT(acknowledged_, ElementsAre(11, 12, 13));
  EXPECT_EQ(Info().waiting_writers(), 0u);
  EXPECT_EQ(Info().stats().inserted(), 7u);
}

TEST_F(ShardTest, WhatOtherShardsSampledFreesInserts) {
  Make(LimitedTestTable());
  Fill();
  auto held = Append(2, OneItemBatch(1));
  v1::SampleDraw draw = DrawOf(0);
  draw.set_others_sampled(1);
  draw.set_others_size(1);
  ASSERT_TRUE(Sample(draw).ok());
  EXPECT_TRUE(held->status.ok());
  EXPECT_EQ(response_.shard(), 3u);
  EXPECT_EQ(response_.stats().inserted(), 4u);  // Before the insert.
}

// The totals that a draw brings may free the insert that the draw waits for.
TEST_F(ShardTest, DrawIsFreedByTheInsertThatItsTotalsFree) {
  v1::TableSpec spec = LimitedTestTable();
  Make(spec);
  v1::SampleDraw draw = DrawOf(0);
  draw.set_others_inserted(10);  // Holds inserts back here.
  draw.set_others_size(10);
  ASSERT_TRUE(Sample(draw).ok());
  auto held = Append(2, OneItemBatch(1));
  EXPECT_FALSE(held->done());
  draw.set_count(1);
  draw.set_others_sampled(10);  // diff 0: an insert and then the draw may go.
  ASSERT_TRUE(Sample(draw).ok());
  EXPECT_FALSE(response_.limited());
  EXPECT_EQ(response_.slot_size(), 1);
  EXPECT_TRUE(held->status.ok());
}

TEST_F(ShardTest, ANewLimiterHoldsAtOnceAndWhoWaitsIsSaid) {
  Make(LimitedTestTable());
  Fill();
  auto held = Append(2, OneItemBatch(1));
  EXPECT_EQ(Info().writers_wait_for(),
            "samples: 0 of 1 that 4 inserts call for");
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("qfleet_replay_waiting{reason=\"samples\","
                        "side=\"insert\",table=\"experience\"} 1\n"));
  v1::SetRateLimiterRequest request;
  request.set_table("nothing");
  EXPECT_TRUE(absl::IsNotFound(shard_->SetRateLimiter(request).status()));
  request.set_table("experience");
  request.mutable_rate_limiter()->set_samples_per_insert(-1);
  EXPECT_TRUE(
      absl::IsInvalidArgument(shard_->SetRateLimiter(request).status()));
  EXPECT_FALSE(held->done());
  request.mutable_rate_limiter()->set_samples_per_insert(0);
  request.mutable_rate_limiter()->set_min_size(6);
  auto response = shard_->SetRateLimiter(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->previous().samples_per_insert(), 1);
  EXPECT_TRUE(held->status.ok());
  EXPECT_EQ(Info().writers_wait_for(), "");
  EXPECT_EQ(Info().spec().rate_limiter().min_size(), 6u);
  ASSERT_TRUE(Sample(DrawOf(1)).ok());
  EXPECT_TRUE(response_.limited()) << "5 items of 6";
}

TEST_F(ShardTest, SamplersThatWaitAreNamedWithTheReason) {
  v1::TableSpec spec = TestTable();
  spec.mutable_rate_limiter()->set_min_size(2);
  Make(spec);
  ASSERT_TRUE(Append(1, OneItemBatch(1))->status.ok());
  std::thread sampler([&] { EXPECT_TRUE(Sample(DrawOf(1, 60000)).ok()); });
  EXPECT_TRUE(Eventually([this] { return Info().waiting_samplers() == 1; }));
  EXPECT_EQ(Info().samplers_wait_for(), "items: 1 of min_size = 2");
  EXPECT_GE(Info().samplers_wait_seconds(), 0);
  const std::string text = metrics_.Text();
  for (const char* line :
       {"qfleet_replay_waiting{reason=\"items\",side=\"sample\","
        "table=\"experience\"} 1\n",
        "qfleet_replay_waiting{reason=\"inserts\",side=\"sample\","
        "table=\"experience\"} 0\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  ASSERT_TRUE(Append(1, OneItemBatch(2))->status.ok());
  sampler.join();
  EXPECT_EQ(response_.slot_size(), 1);
}

TEST_F(ShardTest, QueueHoldsADrawBackUntilItHasEnough) {
  v1::TableSpec spec = TestTable();
  spec.mutable_selector()->set_kind(v1::Selector::FIFO);
  Make(spec);
  ASSERT_TRUE(Append(1, OneItemBatch(1))->status.ok());
  ASSERT_TRUE(Sample(DrawOf(2)).ok());
  EXPECT_TRUE(response_.limited());
  EXPECT_TRUE(response_.too_few());
  std::thread sampler([&] { EXPECT_TRUE(Sample(DrawOf(2, 60000)).ok()); });
  EXPECT_TRUE(Eventually([this] { return Info().waiting_samplers() == 1; }));
  EXPECT_THAT(Info().samplers_wait_for(), HasSubstr("fewer to draw"));
  ASSERT_TRUE(Append(1, OneItemBatch(2))->status.ok());
  sampler.join();
  EXPECT_EQ(response_.slot_size(), 2);
  EXPECT_EQ(Info().stats().size(), 0u);
}

TEST_F(ShardTest, WhatOtherShardsInsertedFreesSamples) {
  v1::TableSpec spec = LimitedTestTable();
  spec.mutable_rate_limiter()->set_min_size(5);
  Make(spec);
  ASSERT_TRUE(Append(1, OneItemBatch(1))->status.ok());
  ASSERT_TRUE(Sample(DrawOf(1)).ok());
  EXPECT_TRUE(response_.limited());
  EXPECT_EQ(response_.slot_size(), 0);
  EXPECT_EQ(response_.stats().size(), 1u);
  v1::SampleDraw draw = DrawOf(1);
  draw.set_others_inserted(4);
  draw.set_others_size(4);
  ASSERT_TRUE(Sample(draw).ok());
  EXPECT_FALSE(response_.limited());
  EXPECT_EQ(response_.slot_size(), 1);
}

TEST_F(ShardTest, SampleWaitsForAnInsert) {
  Make(TestTable());
  absl::Status status;
  std::thread sampler([&] { status = Sample(DrawOf(2, 60000)); });
  EXPECT_TRUE(Eventually([&] { return Info().waiting_samplers() == 1; }));
  ASSERT_TRUE(Append(1, OneItemBatch(1))->status.ok());
  sampler.join();
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(response_.slot_size(), 2);
  EXPECT_EQ(Info().waiting_samplers(), 0u);
}

TEST_F(ShardTest, BatchSentAgainIsAcknowledgedAndNotStoredTwice) {
  Make(TestTable());
  ASSERT_TRUE(Append(7, OneItemBatch(1))->status.ok());
  ASSERT_TRUE(Append(7, OneItemBatch(2))->status.ok());
  auto again = Append(7, OneItemBatch(1));
  ASSERT_TRUE(again->status.ok());
  EXPECT_EQ(again->response.sequence(), 2u);
  EXPECT_EQ(again->response.items_stored(), 0u);
  EXPECT_EQ(Info().stats().inserted(), 2u);
  EXPECT_EQ(shard_->LastSequence(0, 7), 2u);
}

TEST_F(ShardTest, BatchSentAgainIsAcknowledgedWhileInsertsAreHeldBack) {
  Make(LimitedTestTable());
  Fill();
  EXPECT_TRUE(Append(1, OneItemBatch(4))->status.ok());
  EXPECT_FALSE(Append(1, OneItemBatch(5))->done());
}

TEST_F(ShardTest, SkippedSequenceIsOutOfRange) {
  Make(TestTable());
  ASSERT_TRUE(Append(7, OneItemBatch(1))->status.ok());
  auto skipped = Append(7, OneItemBatch(3));
  EXPECT_TRUE(absl::IsOutOfRange(skipped->status)) << skipped->status;
  EXPECT_THAT(skipped->status.message(), HasSubstr("sequence = 3"));
  EXPECT_EQ(Info().stats().inserted(), 1u);
}

TEST_F(ShardTest, UnknownWriterMayGoOnWhereAnEarlierLifeEnded) {
  Make(TestTable());
  EXPECT_TRUE(Append(7, OneItemBatch(42))->status.ok());
  EXPECT_EQ(shard_->LastSequence(0, 7), 42u);
  v1::AppendBatch zero = OneItemBatch(1);
  zero.set_sequence(0);
  EXPECT_TRUE(absl::IsInvalidArgument(Append(9, zero)->status));
}

TEST_F(ShardTest, CancelledAppendIsForgotten) {
  Make(LimitedTestTable());
  Fill();
  auto cancelled = Append(2, OneItemBatch(1));
  auto kept = Append(3, OneItemBatch(1));
  shard_->CancelAppends(0, uint64_t{2});
  EXPECT_TRUE(absl::IsCancelled(cancelled->status));
  ASSERT_TRUE(Sample(DrawOf(4)).ok());
  EXPECT_THAT(acknowledged_, ElementsAre(3));
  EXPECT_EQ(cancelled->calls, 1);
  EXPECT_EQ(shard_->LastSequence(0, 2), 0u);
  // And the writer may send it again.
  EXPECT_TRUE(Append(2, OneItemBatch(1))->status.ok());
}

// The cancellation of a connection that broke may come late.
TEST_F(ShardTest, LateCancelLeavesTheNewConnectionAlone) {
  Make(LimitedTestTable());
  Fill();
  const int old_connection = 0, new_connection = 0;
  auto replaced = Append(2, OneItemBatch(1), &old_connection);
  shard_->CancelAppends(0, uint64_t{2});  // The writer is back.
  auto kept = Append(2, OneItemBatch(1), &new_connection);
  shard_->CancelAppends(0, {2, &old_connection});
  EXPECT_TRUE(absl::IsCancelled(replaced->status));
  EXPECT_FALSE(kept->done());
  ASSERT_TRUE(Sample(DrawOf(4)).ok());
  EXPECT_TRUE(kept->status.ok()) << kept->status;
}

TEST_F(ShardTest, ShutdownEndsWaitingSamplesAndRefusesLaterCalls) {
  Make(TestTable());
  absl::Status status;
  std::thread sampler([&] { status = Sample(DrawOf(1, 60000)); });
  EXPECT_TRUE(Eventually([&] { return Info().waiting_samplers() == 1; }));
  shard_->Shutdown();
  sampler.join();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(absl::IsUnavailable(Append(2, OneItemBatch(1))->status));
  EXPECT_TRUE(absl::IsUnavailable(Sample(DrawOf(1))));
  v1::UpdatePrioritiesRequest update;
  update.set_table("experience");
  EXPECT_TRUE(absl::IsUnavailable(shard_->UpdatePriorities(update).status()));
}

TEST_F(ShardTest, ShutdownAnswersHeldAppends) {
  Make(LimitedTestTable());
  Fill();
  auto held = Append(2, OneItemBatch(1));
  shard_->Shutdown();
  EXPECT_TRUE(absl::IsUnavailable(held->status));
  EXPECT_EQ(held->calls, 1);
}

TEST_F(ShardTest, MalformedRequestsChangeNothing) {
  Make(TestTable());
  ASSERT_TRUE(Append(1, OneItemBatch(1))->status.ok());
  const std::string before = Info().stats().SerializeAsString();
  auto bad =
      Append(1, OneItemBatch(2, std::numeric_limits<float>::quiet_NaN()));
  EXPECT_TRUE(absl::IsInvalidArgument(bad->status));
  EXPECT_THAT(bad->status.message(), HasSubstr("item_priority"));
  EXPECT_TRUE(absl::IsInvalidArgument(Sample(DrawOf(65537))));
  EXPECT_TRUE(absl::IsInvalidArgument(Sample(DrawOf(1, 60001))));
  v1::UpdatePrioritiesRequest update;
  update.set_table("experience");
  update.add_slot(0);
  EXPECT_TRUE(
      absl::IsInvalidArgument(shard_->UpdatePriorities(update).status()));
  update.set_table("other");
  EXPECT_TRUE(absl::IsNotFound(shard_->UpdatePriorities(update).status()));
  EXPECT_EQ(Info().stats().SerializeAsString(), before);
  EXPECT_THAT(metrics_.Text(), HasSubstr("qfleet_replay_rejected_total{"
                                         "table=\"experience\"} 4"));
}

// Its writers would wait for samples of which it has none.
TEST_F(ShardTest, AQueueIsNotSampledMoreOftenThanItsItemsMayBe) {
  v1::TableSpec spec = LimitedTestTable();
  spec.mutable_selector()->set_kind(v1::Selector::FIFO);
  spec.mutable_selector()->set_max_times_sampled(2);
  spec.mutable_rate_limiter()->set_samples_per_insert(2);
  Make(spec);
  v1::SetRateLimiterRequest request;
  request.set_table("experience");
  *request.mutable_rate_limiter() = spec.rate_limiter();
  request.mutable_rate_limiter()->set_samples_per_insert(2.5);
  const absl::Status status = shard_->SetRateLimiter(request).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("samples_per_insert = 2.5: allowed is 0 to 2"));
}

// A sampler that merged four batches ended with INVALID_ARGUMENT.
TEST_F(ShardTest, DrawOfMoreThanAQueueCanHoldHasTooFew) {
  v1::TableSpec spec = TestTable();
  spec.mutable_selector()->set_kind(v1::Selector::FIFO);
  spec.set_max_items(3);
  Make(spec);
  for (uint64_t i = 1; i <= 3; ++i) {
    ASSERT_TRUE(Append(1, OneItemBatch(i))->status.ok());
  }
  ASSERT_TRUE(Sample(DrawOf(4)).ok());
  EXPECT_TRUE(response_.limited());
  EXPECT_TRUE(response_.too_few());
  EXPECT_EQ(response_.slot_size(), 0);
  ASSERT_TRUE(Sample(DrawOf(3)).ok());
  EXPECT_EQ(response_.slot_size(), 3);
}

// One request could ask for hundreds of gigabytes.
TEST_F(ShardTest, DrawIsOfNoMoreThanAMessageHasRoomFor) {
  v1::TableSpec spec = TestTable();
  // 1 MiB a step, in both views.
  spec.mutable_signature()->mutable_step_columns(0)->add_shape(1 << 18);
  spec.set_max_items(10);
  spec.set_max_bytes(100 << 20);
  Make(spec);
  EXPECT_TRUE(Sample(DrawOf(127)).ok());
  const absl::Status status = Sample(DrawOf(128));
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("allowed is at most 127"));
}

TEST_F(ShardTest, MetricsFollowTheTable) {
  Make(TestTable());
  ASSERT_TRUE(Append(1, OneItemBatch(1))->status.ok());
  ASSERT_TRUE(Append(1, OneItemBatch(1))->status.ok());
  ASSERT_TRUE(Sample(DrawOf(5)).ok());
  for (int scrape = 0; scrape < 2; ++scrape) {
    const std::string text = metrics_.Text();
    for (const char* line :
         {"qfleet_replay_items_inserted_total{table=\"experience\"} 1\n",
          "qfleet_replay_items_sampled_total{table=\"experience\"} 5\n",
          "qfleet_replay_steps_total{table=\"experience\"} 2\n",
          "qfleet_replay_batches_duplicate_total{table=\"experience\"} 1\n",
          "qfleet_replay_items{table=\"experience\"} 1\n"}) {
      EXPECT_THAT(text, HasSubstr(line));
    }
  }
  shard_.reset();
  EXPECT_THAT(metrics_.Text(), HasSubstr("qfleet_replay_items"));
}

// Two connections of each writer send the same batches at the same time, with
// samplers beside them; each batch is stored once.
TEST_F(ShardTest, ConcurrentConnectionsOfOneWriterStoreEachBatchOnce) {
  Make(TestTable());
  constexpr int kWriters = 4;
  constexpr uint64_t kBatches = 100;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2 * kWriters; ++i) {
    threads.emplace_back([this, i] {
      uint64_t sequence = 1;
      while (sequence <= kBatches) {
        const v1::AppendBatch batch = OneItemBatch(sequence);
        absl::Notification done;
        absl::StatusOr<v1::AppendResponse> answer;
        shard_->Append(0, {1 + static_cast<uint64_t>(i) / 2, nullptr}, batch,
                       [&](absl::StatusOr<v1::AppendResponse> result) {
                         answer = std::move(result);
                         done.Notify();
                       });
        done.WaitForNotification();
        ASSERT_TRUE(answer.ok()) << answer.status();
        ASSERT_GE(answer->sequence(), sequence);
        ++sequence;
      }
    });
  }
  std::atomic<bool> stop{false};
  threads.emplace_back([&] {
    while (!stop) {
      v1::SampleResponse response;
      ASSERT_TRUE(shard_->Sample(0, DrawOf(8), response).ok());
      for (int j = 0; j < response.slot_size(); ++j) {
        // The columns of a row belong together: action s has steps 2(s-1).
        int64_t action;
        float first;
        std::memcpy(&action, response.item_columns(0).data().data() + 8 * j, 8);
        std::memcpy(&first, response.views(0).data().data() + 4 * j, 4);
        ASSERT_EQ(first, 2.0f * static_cast<float>(action - 1));
      }
    }
  });
  for (int i = 0; i < 2 * kWriters; ++i) threads[i].join();
  stop = true;
  threads.back().join();
  EXPECT_EQ(Info().stats().inserted(), kWriters * kBatches);
  EXPECT_EQ(Info().stats().steps(), 2 * kWriters * kBatches);
}

TEST_F(ShardTest, OpenNamesWhatThereIs) {
  Make(TestTable());
  auto missing = shard_->Open("other", TestTable().signature(), "the writer");
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_THAT(missing.status().message(), HasSubstr("\"experience\""));
  EXPECT_EQ(*shard_->Open("experience", TestTable().signature(), "x"), 0);
}

class CountingStorage : public AnonymousStorage {
 public:
  explicit CountingStorage(std::atomic<int>* syncs) : syncs_(*syncs) {}
  absl::Status Sync() override {
    ++syncs_;
    return absl::OkStatus();
  }

 private:
  std::atomic<int>& syncs_;
};

TEST_F(ShardTest, StorageIsSyncedEachIntervalAndAtTheEnd) {
  std::atomic<int> syncs{0};
  Shard::Options options = {3, {TestTable()}, 1};
  options.sync_interval = absl::Milliseconds(1);
  options.storage = [&](const v1::TableSpec&) {
    return std::make_unique<CountingStorage>(&syncs);
  };
  shard_ = *Shard::Create(options, metrics_);
  EXPECT_TRUE(Eventually([&] { return syncs >= 5; }));
  options.sync_interval = absl::Hours(1);
  shard_ = *Shard::Create(options, metrics_);
  syncs = 0;
  shard_.reset();
  EXPECT_EQ(syncs, 1);
}

// Frames of 1 MiB, so that copying a batch takes long enough to see who waits.
class LargeRowsTest : public ShardTest {
 protected:
  static constexpr int kRows = 64;

  LargeRowsTest() {
    v1::TableSpec spec = TestTable();
    spec.mutable_signature()->mutable_step_columns(0)->add_shape(1 << 18);
    spec.set_max_items(100);
    spec.set_max_bytes(300 << 20);
    Make(spec);
  }
  v1::AppendBatch Batch(uint64_t sequence) {
    v1::AppendBatch batch;
    batch.set_sequence(sequence);
    batch.add_step_columns()->mutable_data()->assign(kRows << 20, 'x');
    batch.add_item_columns();
    for (uint64_t j = 0; j < kRows; ++j) {
      const uint64_t index = (sequence - 1) * kRows + j;
      batch.add_step_stream(0);
      batch.add_step_index(index);
      batch.add_step_starts_episode(true);
      batch.add_item_stream(0);
      batch.add_item_first(index);
      batch.add_item_last(index);
      batch.add_item_priority(1);
      AddValue(static_cast<int64_t>(index), batch.mutable_item_columns(0));
    }
    return batch;
  }
  // The longest that somebody else waits for the table meanwhile, as a part of
  // the time that it takes. Of several times the best: others may use the
  // processors.
  double LongestWait(const std::function<void(v1::AppendBatch)>& copying) {
    double best = 1;
    for (uint64_t round = 1; round <= 5; ++round) {
      v1::AppendBatch batch = Batch(round);
      std::atomic<bool> stop{false};
      std::atomic<bool> runs{false};
      absl::Duration longest;
      std::thread other([&] {
        for (absl::Time last = absl::Now(); !stop;) {
          Info();
          const absl::Time now = absl::Now();
          longest = std::max(longest, now - last);
          last = now;
          runs = true;
        }
      });
      EXPECT_TRUE(Eventually([&] { return runs.load(); }));
      const absl::Time start = absl::Now();
      copying(std::move(batch));
      const absl::Duration took = absl::Now() - start;
      stop = true;
      other.join();
      best = std::min(best, absl::FDivDuration(longest, took));
    }
    return best;
  }
};

TEST_F(LargeRowsTest, NeitherStoringNorGatheringHoldsTheLock) {
  EXPECT_LT(LongestWait([&](v1::AppendBatch batch) {
              ASSERT_TRUE(Append(1, std::move(batch))->status.ok());
            }),
            0.2);
  EXPECT_LT(LongestWait([&](const v1::AppendBatch&) {
              ASSERT_TRUE(Sample(DrawOf(kRows)).ok());
            }),
            0.2);
}

TEST(ShardCreateTest, RefusesNoTableAndTwoOfOneName) {
  Metrics metrics;
  EXPECT_TRUE(
      absl::IsInvalidArgument(Shard::Create({0, {}, 1}, metrics).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Shard::Create({0, {TestTable(), TestTable()}, 1}, metrics).status()));
}

}  // namespace
}  // namespace qfleet
