// A shard that is stopped (SIGSTOP) for longer than its clients are patient:
// they say who waits for what, and go on when it does.

#include <signal.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/grpc.h"
#include "common/metrics.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "replay_client/remote_sampler.h"
#include "replay_client/remote_writer.h"
#include "tests/fault/experience.h"
#include "tests/fault/shard_process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Milliseconds(500);
// For what is to end after kPatience, on a machine that is busy.
constexpr absl::Duration kBound = absl::Seconds(5);

class StopTest : public testing::Test {
 protected:
  StopTest() {
    shard_.Start();
    WriterOptions writer;
    writer.table = record_.spec().name();
    writer.signature = record_.spec().signature();
    writer.shards = {shard_.address()};
    writer.batch_steps = 8;
    writer.max_unacknowledged_steps = 64;
    writer.patience = kPatience;
    writer_ = MakeRemoteWriter(writer);
    SamplerOptions sampler;
    sampler.table = record_.spec().name();
    sampler.signature = record_.spec().signature();
    sampler.shards = {shard_.address()};
    sampler.batch_size = 16;
    sampler.patience = kPatience;
    sampler_ = MakeRemoteSampler(sampler, metrics_);
  }

  // Appends until that fails or `steps` were taken. What was refused is
  // offered again by the next call.
  absl::Status Append(int steps) {
    for (int i = 0; i < steps; ++i) {
      if (!step_.has_value() && items_.empty()) {
        step_ = experience_.NextStep(/*sequence=*/0, items_);
        std::reverse(items_.begin(), items_.end());
      }
      if (step_.has_value()) {
        auto index = writer_->AppendStep(step_->stream, step_->starts_episode,
                                         {ColumnRow(step_->frame)});
        if (!index.ok()) return index.status();
        EXPECT_EQ(*index, step_->index);
        step_.reset();
      }
      for (; !items_.empty(); items_.pop_back()) {
        const SentItem& item = items_.back();
        const ColumnRow uid(reinterpret_cast<const char*>(&item.uid), 8);
        const absl::Status status = writer_->AppendItem(
            item.stream, item.first, item.last, {uid}, item.priority);
        if (!status.ok()) return status;
      }
    }
    return absl::OkStatus();
  }

  // Takes a batch and writes its priorities.
  absl::Status SampleOnce() {
    auto batch = sampler_->Next();
    if (!batch.ok()) return batch.status();
    const SampleBatch& rows = **batch;
    for (int j = 0; j < rows.rows(); ++j) {
      uint64_t uid;
      std::memcpy(&uid, rows.columns[0].data() + 8 * j, 8);
      const uint64_t bytes = record_.frame_bytes();
      const absl::Status status = record_.CheckRow(
          uid,
          absl::string_view(rows.columns[1]).substr(3 * bytes * j, 3 * bytes),
          absl::string_view(rows.columns[2]).substr(bytes * j, bytes));
      if (!status.ok()) return status;
    }
    return sampler_->UpdatePriorities(
        rows.keys, std::vector<float>(rows.keys.size(), 2.0f));
  }

  const TempDirectory folder_;
  Record record_{FaultTable(20000)};
  ShardProcess shard_{
      folder_.path(),
      {.table = record_.spec(), .data_dir = folder_.path() + "/data"}};
  Experience experience_{1, TestSeed(), record_};
  Metrics metrics_;
  std::unique_ptr<RemoteWriter> writer_;
  std::unique_ptr<RemoteSampler> sampler_;
  // Not taken yet; of the items the last one comes first.
  std::optional<SentStep> step_;
  std::vector<SentItem> items_;
};

TEST_F(StopTest, StoppedLongerThanDeadlines) {
  ASSERT_TRUE(Append(200).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  ASSERT_TRUE(SampleOnce().ok());
  for (int round = 0; round < 2; ++round) {
    SCOPED_TRACE(absl::StrCat("round ", round));
    shard_.Freeze();

    // A unary call with a deadline of its own.
    absl::Time start = absl::Now();
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(start + kPatience));
    v1::UpdatePrioritiesRequest request;
    request.set_table(record_.spec().name());
    v1::UpdatePrioritiesResponse response;
    EXPECT_EQ(shard_.NewStub()
                  ->UpdatePriorities(&context, request, &response)
                  .error_code(),
              grpc::DEADLINE_EXCEEDED);
    EXPECT_LT(absl::Now() - start, kBound);

    // The writer: at its bound, who does not take how much, and why.
    start = absl::Now();
    absl::Status status = Append(1000);
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(shard_.address()), HasSubstr("waited 500ms"),
                      HasSubstr("batches"), HasSubstr("to be acknowledged")));
    EXPECT_GE(absl::Now() - start, kPatience);
    EXPECT_LT(absl::Now() - start, kBound);
    status = writer_->Flush();
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(shard_.address()));

    // The learner: what was prefetched, then who is silent.
    do {
      start = absl::Now();
      status = SampleOnce();
    } while (status.ok());
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("no batch of 16 within 500ms"),
                      HasSubstr("waiting for " + shard_.address())));
    EXPECT_LT(absl::Now() - start, kBound);

    shard_.Thaw();
    EXPECT_TRUE(Eventually([&] { return Append(1).ok(); }));
    EXPECT_TRUE(Append(100).ok());
    EXPECT_TRUE(Eventually([&] { return writer_->Flush().ok(); }));
    EXPECT_TRUE(Eventually([&] { return SampleOnce().ok(); }));
    EXPECT_TRUE(SampleOnce().ok());
  }
  EXPECT_TRUE(Eventually([&] {
    return sampler_->View().priorities_applied > 0;
  })) << "they reach the shard again";
  const WriterStats stats = writer_->Stats();
  EXPECT_EQ(stats.reconnects, 0u) << "it was late, not lost";
  EXPECT_EQ(stats.items_stored, record_.All().size());
  EXPECT_EQ(shard_.Stop(), 0);
  auto found = ReadTableFiles(shard_.table_dir(), record_, {});
  ASSERT_TRUE(found.ok()) << found.status();
  std::vector<uint64_t> sent, there;
  for (const auto& [uid, item] : record_.All()) sent.push_back(uid);
  for (const FoundItem& item : found->items) there.push_back(item.uid);
  EXPECT_EQ(there, sent) << "each once, in order";
}

// The actor waited for gRPC's keepalive, for 40 s.
class StoppedOfTwoTest : public testing::TestWithParam<const char*> {
 protected:
  StoppedOfTwoTest() {
    options_.table = spec_.name();
    options_.signature = spec_.signature();
    for (ShardProcess& shard : shards_) {
      shard.Start();
      options_.shards.push_back(shard.address());
    }
    options_.batch_steps = 8;
    options_.max_unacknowledged_steps = 64;
    options_.shard_patience = absl::Milliseconds(20);
    options_.silence_patience = kPatience;
    writer_ = MakeRemoteWriter(options_);
  }

  // Rounds of one step of each stream, 100 a stream's episode; those of stream
  // 1 begin in the middle of stream 0's.
  void Append(int rounds) {
    const std::string frame(spec_.signature().step_columns(0).shape(0), 'f');
    for (int i = 0; i < rounds; ++i, ++round_) {
      for (uint32_t stream : {0u, 1u}) {
        const bool starts = round_ == 0 || round_ % 100 == 50 * stream;
        auto index = writer_->AppendStep(stream, starts, {ColumnRow(frame)});
        ASSERT_TRUE(index.ok()) << index.status();
        ++sent_;
      }
    }
  }

  const TempDirectory folders_[2];
  const v1::TableSpec spec_ = FaultTable(20000);
  ShardProcess shards_[2] = {
      {folders_[0].path(), {.table = spec_, .number = 0, .listen = GetParam()}},
      {folders_[1].path(),
       {.table = spec_, .number = 1, .listen = GetParam()}}};
  WriterOptions options_;
  std::unique_ptr<RemoteWriter> writer_;
  uint64_t round_ = 0;
  uint64_t sent_ = 0;
};

TEST_P(StoppedOfTwoTest, TheActorGoesOnWithTheOther) {
  Append(130);
  ASSERT_TRUE(writer_->Flush().ok());
  for (ShardProcess& stopped : shards_) {
    SCOPED_TRACE(stopped.address());
    stopped.Freeze();
    const absl::Time start = absl::Now();
    Append(300);
    EXPECT_GE(absl::Now() - start, kPatience) << "not before it is asked";
    EXPECT_LT(absl::Now() - start, kBound);
    EXPECT_EQ(writer_->Stats().shards_connected, 1u);
    // Once: it stays away until it answers.
    const double waited = writer_->Stats().waited_seconds;
    Append(300);
    EXPECT_LT(writer_->Stats().waited_seconds - waited,
              absl::ToDoubleSeconds(2 * kPatience));
    stopped.Thaw();
    EXPECT_TRUE(
        Eventually([&] { return writer_->Stats().shards_connected == 2; }));
    ASSERT_TRUE(writer_->Flush().ok());
  }
  const WriterStats stats = writer_->Stats();
  EXPECT_EQ(stats.reconnects, 2u);
  EXPECT_EQ(stats.unacknowledged_bytes, 0u);
  uint64_t stored = 0;
  for (const ShardProcess& shard : shards_) {
    stored += shard.Describe().stats().steps();
  }
  EXPECT_EQ(stored, sent_ - stats.steps_dropped) << "each once";
  EXPECT_LT(stats.steps_dropped, 400u) << "the rest of four episodes";
}

// Its own call was the one that a connection may have, so that the question
// waited behind it, and shards that were well were given up again and again.
// Nor may it need a connection more than there may be.
class HeldBackOfTwoTest : public testing::TestWithParam<const char*> {};

TEST_P(HeldBackOfTwoTest, AShardAnswersWhateverItsBounds) {
  v1::TableSpec spec = FaultTable(20000);
  spec.mutable_rate_limiter()->set_samples_per_insert(1);
  spec.mutable_rate_limiter()->set_tolerance(8);
  spec.mutable_rate_limiter()->set_min_size(1);
  const TempDirectory folders[2];
  WriterOptions options;
  std::vector<std::unique_ptr<ShardProcess>> shards;
  for (const TempDirectory& folder : folders) {
    shards.push_back(std::make_unique<ShardProcess>(
        folder.path(),
        ShardProcess::Options{
            .table = spec,
            .flags = {absl::StrCat("--set=cluster.limits.", GetParam())}}));
    shards.back()->Start();
    options.shards.push_back(shards.back()->address());
  }
  options.table = spec.name();
  options.signature = spec.signature();
  options.batch_steps = 8;
  options.max_unacknowledged_steps = 64;
  options.silence_patience = absl::Seconds(1);
  options.patience = absl::Milliseconds(3500);
  Record record(spec);
  Experience experience(1, TestSeed(), record);
  const auto writer = MakeRemoteWriter(options);
  absl::Status status;
  for (int i = 0; status.ok() && i < 10000; ++i) {
    std::vector<SentItem> items;
    const SentStep step = experience.NextStep(/*sequence=*/0, items);
    status = writer
                 ->AppendStep(step.stream, step.starts_episode,
                              {ColumnRow(step.frame)})
                 .status();
    for (const SentItem& item : items) {
      if (!status.ok()) break;
      const ColumnRow uid(reinterpret_cast<const char*>(&item.uid), 8);
      status = writer->AppendItem(item.stream, item.first, item.last, {uid},
                                  item.priority);
    }
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("rate limiter"));
  EXPECT_EQ(writer->Stats().shards_connected, 2u);
  EXPECT_EQ(writer->Stats().reconnects, 0u);
}

INSTANTIATE_TEST_SUITE_P(Limits, HeldBackOfTwoTest,
                         testing::Values("max_calls_per_connection=1",
                                         "max_connections=1"),
                         [](const auto& info) {
                           return std::string(info.index == 0 ? "Calls"
                                                              : "Connections");
                         });

INSTANTIATE_TEST_SUITE_P(Listen, StoppedOfTwoTest,
                         testing::Values("", "127.0.0.1:0"),
                         [](const auto& info) {
                           return info.param[0] == 0 ? "Unix" : "Tcp";
                         });

}  // namespace
}  // namespace qfleet
