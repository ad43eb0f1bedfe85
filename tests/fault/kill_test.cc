// A shard that is killed with SIGKILL, again and again, under load: what it
// acknowledged is there, once, as it was sent.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/grpc.h"
#include "gtest/gtest.h"
#include "replay_client/remote_writer.h"
#include "replay_server/core/checkpoint.h"
#include "replay_server/core/inspect.h"
#include "tests/fault/experience.h"
#include "tests/fault/shard_process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

constexpr int kWriters = 4;
constexpr int kKills = 20;
constexpr size_t kWindow = 4;  // Unacknowledged batches of a writer.

// Keeps writers together. One that falls behind, as a busy machine will have
// it, would find its steps gone from a table that holds no more than a few
// batches of each, and its items would be skipped, as they should.
class Pace {
 public:
  void Enter(uint64_t writer) {
    absl::MutexLock lock(&mutex_);
    const uint64_t slowest = Slowest();
    batches_[writer] = slowest;
  }
  void Leave(uint64_t writer) {
    absl::MutexLock lock(&mutex_);
    batches_.erase(writer);
  }
  // Before a further batch: until the slowest is not far behind.
  void Advance(uint64_t writer) {
    constexpr uint64_t kLead = 2;
    absl::MutexLock lock(&mutex_);
    const uint64_t next = ++batches_[writer];
    const auto together = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return next <= Slowest() + kLead;
    };
    mutex_.Await(absl::Condition(&together));
  }

 private:
  uint64_t Slowest() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    uint64_t slowest = batches_.empty() ? 0 : batches_.begin()->second;
    for (const auto& [writer, batches] : batches_) {
      slowest = std::min(slowest, batches);
    }
    return slowest;
  }

  absl::Mutex mutex_;
  std::map<uint64_t, uint64_t> batches_ ABSL_GUARDED_BY(mutex_);
};

// Knows replay.proto and nothing else: no code of replay_client.
class BareWriter {
 public:
  BareWriter(uint64_t writer, uint64_t seed, Record& record, Pace& pace)
      : experience_(writer, seed, record), spec_(record.spec()), pace_(pace) {}

  // One connection, until it breaks; with `finish` until all that was made is
  // acknowledged.
  void Run(const ShardProcess& shard, std::atomic<int>& acknowledged,
           bool finish) {
    std::unique_ptr<v1::Replay::Stub> stub = shard.NewStub();
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
    auto stream = stub->Append(&context);
    v1::AppendResponse response;
    if (stream->Write(OpenOf(spec_, writer())) && stream->Read(&response)) {
      EXPECT_GE(response.sequence(), acknowledged_) << "forgot what it stored";
      EXPECT_LE(response.sequence(), made_);
      unconfirmed_ += response.sequence() - acknowledged_;
      const bool resent = ++connections_ % 2 == 0 ||
                          SendStoredAgain(*stream, response.sequence());
      Forget(response.sequence());
      if (resent) Exchange(*stream, acknowledged, finish);
    }
    context.TryCancel();
    stream->Finish().IgnoreError();
    pace_.Leave(writer());
  }

  uint64_t writer() const { return experience_.writer(); }
  uint64_t acknowledged() const { return acknowledged_; }
  uint64_t made() const { return made_; }
  // Batches that were stored, but whose acknowledgement a kill swallowed.
  uint64_t unconfirmed() const { return unconfirmed_; }
  bool idle() const { return pending_.empty(); }

 private:
  using Stream =
      grpc::ClientReaderWriter<v1::AppendRequest, v1::AppendResponse>;

  // What a kill kept from being acknowledged. False if the connection broke.
  bool SendStoredAgain(Stream& stream, uint64_t last) {
    for (const v1::AppendRequest& request : pending_) {
      if (request.batch().sequence() > last) break;
      v1::AppendResponse response;
      if (!stream.Write(request) || !stream.Read(&response)) return false;
      EXPECT_EQ(response.sequence(), last);
      EXPECT_EQ(response.items_stored(), 0u) << "stored twice";
    }
    return true;
  }

  void Exchange(Stream& stream, std::atomic<int>& acknowledged, bool finish) {
    v1::AppendResponse response;
    size_t sent = 0;  // Of pending_.
    for (;;) {
      while (sent < kWindow) {
        if (sent == pending_.size()) {
          if (finish) break;
          pace_.Advance(writer());
          pending_.emplace_back();
          *pending_.back().mutable_batch() = experience_.NextBatch(++made_);
        }
        if (!stream.Write(pending_[sent])) return;
        ++sent;
      }
      if (sent == 0 || !stream.Read(&response)) return;
      const v1::AppendBatch& batch = pending_.front().batch();
      EXPECT_EQ(response.sequence(), batch.sequence());
      EXPECT_EQ(response.items_skipped(), 0u);
      EXPECT_EQ(static_cast<int>(response.items_stored()),
                batch.item_stream_size());
      Forget(response.sequence());
      --sent;
      acknowledged.fetch_add(1);
    }
  }

  void Forget(uint64_t sequence) {
    acknowledged_ = std::max(acknowledged_, sequence);
    while (!pending_.empty() &&
           pending_.front().batch().sequence() <= sequence) {
      pending_.pop_front();
    }
  }

  Experience experience_;
  const v1::TableSpec spec_;
  Pace& pace_;
  std::deque<v1::AppendRequest> pending_;  // Unacknowledged.
  uint64_t acknowledged_ = 0;
  uint64_t made_ = 0;
  uint64_t unconfirmed_ = 0;
  int connections_ = 0;
};

// Samples, checks contents, writes priorities, and keeps account of these.
class BareSampler {
 public:
  BareSampler(uint64_t seed, const Record& record)
      : random_(seed), record_(record) {}

  void Run(const ShardProcess& shard, const std::atomic<bool>& stop) {
    std::unique_ptr<v1::Replay::Stub> stub = shard.NewStub();
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
    auto stream = stub->Sample(&context);
    v1::SampleResponse response;
    if (stream->Write(SampleOpenOf(record_.spec())) &&
        stream->Read(&response)) {
      while (!stop && stream->Write(DrawOf(32, 100)) &&
             stream->Read(&response)) {
        if (!Update(*stub, response)) break;
      }
    }
    context.TryCancel();
    stream->Finish().IgnoreError();
  }

  // What the item's priority may be; and what it is found to be.
  void Check(const FoundItem& found, const SentItem& sent) {
    Priority& known =
        priorities_.try_emplace(found.uid, Priority{sent.priority, -1})
            .first->second;
    EXPECT_TRUE(found.priority == known.acknowledged ||
                found.priority == known.in_flight)
        << "item " << found.uid << " has priority " << found.priority
        << ", acknowledged was " << known.acknowledged;
    known = {found.priority, -1};
  }

  uint64_t applied() const { return applied_; }

 private:
  struct Priority {
    float acknowledged;
    float in_flight;  // Negative: none.
  };

  bool Update(v1::Replay::Stub& stub, const v1::SampleResponse& drawn) {
    std::vector<uint64_t> uids;
    const absl::Status status = record_.Check(drawn, uids);
    EXPECT_TRUE(status.ok()) << status;
    if (!status.ok()) return false;
    v1::UpdatePrioritiesRequest request;
    request.set_table(record_.spec().name());
    std::set<uint64_t> once;
    for (size_t j = 0; j < uids.size(); ++j) {
      if (!once.insert(uids[j]).second) continue;
      const auto priority = static_cast<float>(random_.Uniform(0.5, 4));
      request.add_slot(drawn.slot(static_cast<int>(j)));
      request.add_generation(drawn.generation(static_cast<int>(j)));
      request.add_priority(priority);
      SentItem sent;
      record_.Find(uids[j], sent);
      priorities_.try_emplace(uids[j], Priority{sent.priority, -1})
          .first->second.in_flight = priority;
    }
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(30)));
    v1::UpdatePrioritiesResponse response;
    if (!stub.UpdatePriorities(&context, request, &response).ok()) return false;
    EXPECT_EQ(response.unknown(), 0u);
    EXPECT_EQ(response.applied() + response.stale(), once.size());
    applied_ += response.applied();
    for (uint64_t uid : once) {
      Priority& known = priorities_[uid];
      // A stale one changed nothing, but then its item is gone for good.
      known = {known.in_flight, -1};
    }
    return true;
  }

  Random random_;
  const Record& record_;
  std::map<uint64_t, Priority> priorities_;
  uint64_t applied_ = 0;
};

class KillTest : public testing::Test {
 protected:
  void MakeShard(const v1::TableSpec& spec) {
    record_ = std::make_unique<Record>(spec);
    shard_ = std::make_unique<ShardProcess>(
        folder_.path(),
        ShardProcess::Options{.table = spec,
                              .data_dir = folder_.path() + "/data",
                              .sync_interval = 0.05});
    sampler_ = std::make_unique<BareSampler>(MixSeed(seed_, 1), *record_);
    for (uint64_t w = 1; w <= kWriters; ++w) {
      writers_.push_back(
          std::make_unique<BareWriter>(w, MixSeed(seed_, 2), *record_, pace_));
    }
  }

  // Load until so many batches were acknowledged, then a kill in its midst.
  void LoadAndKill(int batches) {
    std::atomic<int> acknowledged{0};
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (const auto& writer : writers_) pace_.Enter(writer->writer());
    for (const auto& writer : writers_) {
      threads.emplace_back(
          [&] { writer->Run(*shard_, acknowledged, /*finish=*/false); });
    }
    threads.emplace_back([&] { sampler_->Run(*shard_, stop); });
    threads.emplace_back([&] { Checkpoint(stop); });
    EXPECT_TRUE(Eventually(
        [&] { return acknowledged >= batches && checkpoints_written_ > 0; }));
    usleep(static_cast<useconds_t>(random_.Below(3000)));
    shard_->Kill();
    stop = true;
    for (std::thread& thread : threads) thread.join();
  }

  // Again and again, until it is killed in the midst of one.
  void Checkpoint(const std::atomic<bool>& stop) {
    const std::unique_ptr<v1::Replay::Stub> stub = shard_->NewStub();
    v1::CheckpointRequest request;
    request.set_directory(CheckpointDir());
    request.set_keep(2);
    while (!stop) {
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(30)));
      v1::CheckpointResponse response;
      if (!stub->Checkpoint(&context, request, &response).ok()) return;
      ++checkpoints_written_;
    }
  }
  std::string CheckpointDir() const { return folder_.path() + "/saved"; }

  // Those that have their final name are whole.
  void CheckCheckpoints() {
    for (const std::string& path : ListShardCheckpoints(CheckpointDir(), 0)) {
      SCOPED_TRACE(path);
      const absl::Status status =
          CheckCheckpoint(path, /*contents=*/true).status();
      EXPECT_TRUE(status.ok()) << status;
      auto report = InspectTable(path + "/" + record_->spec().name());
      ASSERT_TRUE(report.ok()) << report.status();
      EXPECT_TRUE(report->intact());
      checkpoints_.insert(path);
    }
  }

  // Killed while it opens its files.
  void KillAtStart() {
    shard_->Launch();
    usleep(static_cast<useconds_t>(random_.Below(40000)));
    shard_->Kill();
  }

  void Finish() {
    std::atomic<int> acknowledged{0};
    for (const auto& writer : writers_) {
      writer->Run(*shard_, acknowledged, /*finish=*/true);
      EXPECT_TRUE(writer->idle());
      EXPECT_EQ(writer->acknowledged(), writer->made());
    }
  }

  // Looks into the files, while no process has them.
  void CheckFiles(bool final) {
    std::vector<uint64_t> ids;
    for (const auto& writer : writers_) ids.push_back(writer->writer());
    auto found = ReadTableFiles(shard_->table_dir(), *record_, ids);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->recovery.damaged_steps, 0u);
    EXPECT_EQ(found->verified.damaged_steps, 0u);
    for (const auto& writer : writers_) {
      const uint64_t last = found->last_sequence[writer->writer()];
      EXPECT_GE(last, writer->acknowledged());
      EXPECT_LE(last, writer->made());
    }
    // Those that are stored, each writer's in the order of their sending.
    std::map<uint64_t, std::vector<uint64_t>> expected;
    uint64_t stored = 0;
    const std::map<uint64_t, SentItem> sent = record_->All();
    for (const auto& [uid, item] : sent) {
      if (item.sequence > found->last_sequence[item.writer]) continue;
      expected[item.writer].push_back(uid);
      ++stored;
    }
    std::map<uint64_t, std::vector<uint64_t>> there;
    for (const FoundItem& item : found->items) {
      const SentItem& was_sent = sent.at(item.uid);
      there[was_sent.writer].push_back(item.uid);
      sampler_->Check(item, was_sent);
    }
    EXPECT_EQ(found->stats.inserted(), stored);
    for (const auto& writer : writers_) {
      const std::vector<uint64_t>& all = expected[writer->writer()];
      const std::vector<uint64_t>& kept = there[writer->writer()];
      ASSERT_LE(kept.size(), all.size());
      // The newest of each, in order, so each of them once.
      EXPECT_TRUE(std::equal(kept.rbegin(), kept.rend(), all.rbegin()))
          << "writer " << writer->writer() << " has others than its newest "
          << kept.size() << " items";
    }
    // A batch that was not acknowledged may have taken the slots of the oldest
    // items before the kill; it is sent again and then takes them for good.
    const uint64_t capacity = record_->spec().max_items();
    const uint64_t open_batches = final ? 0 : kWriters;
    const uint64_t full = std::min(stored, capacity);
    EXPECT_LE(found->items.size(), full);
    EXPECT_GE(found->items.size() + open_batches * 24, full);
    if (stored <= capacity / 2) {
      EXPECT_EQ(found->items.size(), stored);
      EXPECT_EQ(found->recovery.dropped, 0u);
    }
    live_ = found->items.size();
  }

  void CheckRecovered() {
    const v1::TableInfo info = shard_->Describe();
    EXPECT_TRUE(info.storage().recovered());
    EXPECT_EQ(info.storage().recovered_items(), live_);
    EXPECT_EQ(info.storage().damaged_steps(), 0u);
    EXPECT_EQ(info.storage().failed(), "");
    EXPECT_LT(info.storage().recovery_seconds(), 2);
  }

  void KillAgainAndAgain() {
    for (int kill = 0; kill < kKills; ++kill) {
      SCOPED_TRACE(absl::StrCat("kill ", kill));
      if (kill % 4 == 3) {
        KillAtStart();
      } else {
        shard_->Start();
        if (kill > 0) CheckRecovered();
        LoadAndKill(1 + static_cast<int>(random_.Below(400)));
      }
      CheckFiles(/*final=*/false);
      CheckCheckpoints();
      if (HasFailure()) return;
    }
    shard_->Start();
    CheckRecovered();
    Finish();
    EXPECT_EQ(shard_->Stop(), 0);
    CheckFiles(/*final=*/true);
    uint64_t batches = 0;
    uint64_t unconfirmed = 0;
    for (const auto& writer : writers_) {
      batches += writer->made();
      unconfirmed += writer->unconfirmed();
    }
    std::cout << kKills << " kills, " << batches << " batches (" << unconfirmed
              << " stored and not acknowledged before a kill), "
              << record_->All().size() << " items sent, " << live_
              << " in the table, " << sampler_->applied()
              << " priorities applied, " << checkpoints_.size()
              << " checkpoints" << std::endl;
    EXPECT_GT(sampler_->applied(), 0u);
    EXPECT_GT(checkpoints_.size(), 0u);
  }

  const uint64_t seed_ = TestSeed();
  Random random_{seed_};
  const TempDirectory folder_;
  std::unique_ptr<Record> record_;
  Pace pace_;
  std::unique_ptr<ShardProcess> shard_;
  std::unique_ptr<BareSampler> sampler_;
  std::vector<std::unique_ptr<BareWriter>> writers_;
  uint64_t live_ = 0;
  std::atomic<int> checkpoints_written_{0};
  std::set<std::string> checkpoints_;  // That were seen after a kill.
};

TEST_F(KillTest, KillsLoseNothing) {
  MakeShard(FaultTable(150000));
  KillAgainAndAgain();
}

// Items lie wherever a slot is free, so that what a kill left of a batch that
// was not committed is not overwritten by what is sent again.
TEST_F(KillTest, KillsLoseAndDuplicateNothingWhereTheLowestPriorityGoes) {
  v1::TableSpec spec = FaultTable(150000);
  spec.set_remover(v1::LOWEST_PRIORITY);
  MakeShard(spec);
  KillAgainAndAgain();
}

// The table is full all the time: the newest items are there.
TEST_F(KillTest, KillsOfAFullTableLoseNothing) {
  MakeShard(FaultTable(500));
  KillAgainAndAgain();
}

// ----------------------------------------------------------- RemoteWriter ---

class WriterKillTest : public testing::Test {
 protected:
  WriterKillTest() {
    options_.table = record_.spec().name();
    options_.signature = record_.spec().signature();
    options_.shards = {shard_.address()};
    options_.batch_steps = 8;
    options_.patience = absl::Seconds(30);
  }

  // One step and its items.
  void Append() {
    std::vector<SentItem> items;
    const SentStep step = experience_.NextStep(/*sequence=*/0, items);
    auto index = writer_->AppendStep(step.stream, step.starts_episode,
                                     {ColumnRow(step.frame)});
    ASSERT_TRUE(index.ok()) << index.status();
    EXPECT_EQ(*index, step.index);
    for (const SentItem& item : items) {
      const ColumnRow uid(reinterpret_cast<const char*>(&item.uid), 8);
      const absl::Status status = writer_->AppendItem(
          item.stream, item.first, item.last, {uid}, item.priority);
      ASSERT_TRUE(status.ok()) << status;
    }
  }

  // All that was appended is in the files, once, in order.
  void CheckFiles() {
    auto found = ReadTableFiles(shard_.table_dir(), record_, {});
    ASSERT_TRUE(found.ok()) << found.status();
    std::vector<uint64_t> sent, there;
    for (const auto& [uid, item] : record_.All()) sent.push_back(uid);
    for (const FoundItem& item : found->items) there.push_back(item.uid);
    EXPECT_EQ(there, sent);
    EXPECT_EQ(found->recovery.dropped, 0u);
    const WriterStats stats = writer_->Stats();
    EXPECT_EQ(stats.items_skipped, 0u);
    EXPECT_EQ(stats.items_dropped, 0u);
    EXPECT_EQ(stats.items_stored + stats.items_unconfirmed, sent.size());
  }

  const uint64_t seed_ = TestSeed();
  Random random_{seed_};
  const TempDirectory folder_;
  Record record_{FaultTable(20000)};
  ShardProcess shard_{
      folder_.path(),
      {.table = record_.spec(), .data_dir = folder_.path() + "/data"}};
  Experience experience_{1, seed_, record_};
  WriterOptions options_;
  std::unique_ptr<RemoteWriter> writer_;
};

TEST_F(WriterKillTest, WriterReconnectsMidBatch) {
  shard_.Start();
  writer_ = MakeRemoteWriter(options_);
  for (int i = 0; i < 100; ++i) Append();
  for (int life = 0; life < 5; ++life) {
    SCOPED_TRACE(absl::StrCat("life ", life));
    ASSERT_TRUE(writer_->Flush().ok());
    EXPECT_EQ(writer_->Stats().unacknowledged_bytes, 0u);
    // Some batches are in the socket and some are not when it dies.
    shard_.Freeze();
    for (int i = 0; i < 100; ++i) Append();
    EXPECT_GT(writer_->Stats().unacknowledged_bytes, 8 * 8 * 64u);
    shard_.Kill();
    for (int i = 0; i < 20; ++i) Append();
    shard_.Start();
    for (int i = 0; i < 100; ++i) Append();
  }
  const absl::Status status = writer_->Flush();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(writer_->Stats().reconnects, 5u);
  EXPECT_GT(writer_->Stats().batches_resent, 0u);
  EXPECT_EQ(shard_.Stop(), 0);
  CheckFiles();
}

// Killed while it stores: batches whose acknowledgement was lost are not stored
// again.
TEST_F(WriterKillTest, WriterGoesOnThroughKillsUnderLoad) {
  shard_.Start();
  writer_ = MakeRemoteWriter(options_);
  for (int life = 0; life < 8; ++life) {
    SCOPED_TRACE(absl::StrCat("life ", life));
    std::atomic<int> appended{0};
    const int kill_at = 100 + static_cast<int>(random_.Below(500));
    std::thread killer([&] {
      EXPECT_TRUE(Eventually([&] { return appended >= kill_at; }));
      shard_.Kill();
      shard_.Start();
    });
    for (int i = 0; i < 1000; ++i) {
      Append();
      ++appended;
    }
    killer.join();
  }
  const absl::Status status = writer_->Flush();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(shard_.Stop(), 0);
  std::cout << writer_->Stats().batches_resent << " batches resent, "
            << writer_->Stats().items_unconfirmed << " items unconfirmed"
            << std::endl;
  CheckFiles();
}

}  // namespace
}  // namespace qfleet
