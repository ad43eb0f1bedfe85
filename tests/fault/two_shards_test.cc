// One of two shards is killed and comes back with its data, or is stopped and
// goes on, under a learner's sampler: what it gets is drawn with the weights
// that are right for what is there, and it never waits for the shard that is
// gone.

#include <algorithm>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/grpc.h"
#include "common/metrics.h"
#include "gtest/gtest.h"
#include "replay_client/remote_sampler.h"
#include "tests/fault/experience.h"
#include "tests/fault/shard_process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

// Of a batch, on a machine that is busy with other things.
constexpr absl::Duration kBound = absl::Seconds(2);

class TwoShardsTest : public testing::Test {
 protected:
  TwoShardsTest() {
    for (uint32_t s = 0; s < 2; ++s) {
      shards_.push_back(std::make_unique<ShardProcess>(
          folder_.path(),
          ShardProcess::Options{
              .table = record_.spec(),
              .data_dir = absl::StrCat(folder_.path(), "/data-", s),
              .number = s}));
      shards_[s]->Start();
      Fill(s, s == 0 ? 30 : 50);
    }
    options_.table = record_.spec().name();
    options_.signature = record_.spec().signature();
    for (const auto& shard : shards_) {
      options_.shards.push_back(shard->address());
    }
    options_.batch_size = 64;
    options_.seed = seed_;
    options_.patience = kBound;
  }

  void Connect() {
    sampler_ = MakeRemoteSampler(options_, metrics_);
    ASSERT_TRUE(Eventually([&] { return sampler_->View().shards == 2; }));
    ExpectExact({0, 1});
  }

  // While the learner goes on.
  void AwaitShards(uint32_t count) {
    std::map<uint32_t, std::set<uint64_t>> from;
    ASSERT_TRUE(Eventually([&] {
      Next(from);
      return sampler_->View().shards == count;
    }));
  }

  void Fill(uint32_t s, int batches) {
    Experience experience(s + 1, seed_, record_);
    std::unique_ptr<v1::Replay::Stub> stub = shards_[s]->NewStub();
    grpc::ClientContext context;
    auto stream = stub->Append(&context);
    v1::AppendResponse response;
    EXPECT_TRUE(stream->Write(OpenOf(record_.spec(), s + 1)));
    EXPECT_TRUE(stream->Read(&response));
    for (int i = 1; i <= batches; ++i) {
      v1::AppendRequest request;
      *request.mutable_batch() = experience.NextBatch(i);
      EXPECT_TRUE(stream->Write(request));
      EXPECT_TRUE(stream->Read(&response));
    }
    EXPECT_TRUE(stream->WritesDone());
    EXPECT_TRUE(stream->Finish().ok());
  }

  // The next batch; `from` gets the uids of each shard.
  std::unique_ptr<SampleBatch> Next(
      std::map<uint32_t, std::set<uint64_t>>& from,
      std::vector<uint64_t>* uids = nullptr) {
    const absl::Time start = absl::Now();
    auto next = sampler_->Next();
    longest_ = std::max(longest_, absl::Now() - start);
    if (!next.ok()) {
      ADD_FAILURE() << next.status();
      return nullptr;
    }
    const SampleBatch& batch = **next;
    const uint64_t bytes = record_.frame_bytes();
    for (int j = 0; j < batch.rows(); ++j) {
      uint64_t uid;
      std::memcpy(&uid, batch.columns[0].data() + 8 * j, 8);
      const absl::string_view frames(batch.columns[1]);
      const absl::string_view next_frame(batch.columns[2]);
      const absl::Status status =
          record_.CheckRow(uid, frames.substr(3 * bytes * j, 3 * bytes),
                           next_frame.substr(bytes * j, bytes));
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_EQ(batch.keys[j].shard + 1, uid >> 32) << "its writer";
      from[batch.keys[j].shard].insert(uid);
      if (uids != nullptr) uids->push_back(uid);
    }
    return *std::move(next);
  }

  // Several batches whose weights are those of the items of `shards`, as one
  // tree; others that were begun before are thrown away.
  void ExpectExact(const std::set<uint32_t>& shards) {
    double total = 0;
    double size = 0;
    const std::map<uint64_t, SentItem> sent = record_.All();
    for (const auto& [uid, item] : sent) {
      if (!shards.contains(static_cast<uint32_t>(item.writer - 1))) continue;
      total += item.priority;
      ++size;
    }
    std::map<uint32_t, std::set<uint64_t>> from;
    for (int b = 0; b < 6; ++b) Next(from);
    from.clear();
    for (int b = 0; b < 100; ++b) {
      std::vector<uint64_t> uids;
      std::unique_ptr<SampleBatch> batch = Next(from, &uids);
      ASSERT_NE(batch, nullptr);
      for (size_t j = 0; j < uids.size(); ++j) {
        const double mass = sent.at(uids[j]).priority;
        ASSERT_NEAR(batch->scaled_probability[j], size * mass / total, 1e-9);
      }
    }
    EXPECT_EQ(from.size(), shards.size());
    for (uint32_t shard : shards) EXPECT_GT(from[shard].size(), 50u);
  }

  const uint64_t seed_ = TestSeed();
  const TempDirectory folder_;
  Record record_{FaultTable(2000)};
  std::vector<std::unique_ptr<ShardProcess>> shards_;
  SamplerOptions options_;
  Metrics metrics_;
  std::unique_ptr<RemoteSampler> sampler_;
  absl::Duration longest_;  // Wait for a batch.
};

TEST_F(TwoShardsTest, LosingOneOfTwoShards) {
  Connect();
  for (uint32_t lost = 0; lost < 2; ++lost) {
    SCOPED_TRACE(absl::StrCat("shard ", lost));
    shards_[lost]->Kill();
    // Never longer than it takes to notice.
    AwaitShards(1);
    ExpectExact({1 - lost});
    shards_[lost]->Start();
    AwaitShards(2);
    ExpectExact({0, 1});
  }
  EXPECT_LT(longest_, kBound);
  std::cout << "the longest wait for a batch was " << longest_ << std::endl;
}

// It does not hang up: only the sampler's own patience tells.
TEST_F(TwoShardsTest, AShardThatIsStoppedIsGivenUpAndTakenInAgain) {
  options_.shard_patience = absl::Seconds(1);
  options_.patience = absl::Seconds(30);
  Connect();
  for (uint32_t stopped = 0; stopped < 2; ++stopped) {
    SCOPED_TRACE(absl::StrCat("shard ", stopped));
    shards_[stopped]->Freeze();
    AwaitShards(1);
    ExpectExact({1 - stopped});
    shards_[stopped]->Thaw();
    AwaitShards(2);
    ExpectExact({0, 1});
  }
  EXPECT_LT(longest_, absl::Seconds(15));
}

}  // namespace
}  // namespace qfleet
