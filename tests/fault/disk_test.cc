// Disks that are full or fail and files that are damaged: refused in words, or
// served without what is damaged.

#include <sys/mount.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/files.h"
#include "common/grpc.h"
#include "common/hash.h"
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "gtest/gtest.h"
#include "tests/fault/experience.h"
#include "tests/fault/shard_process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> Names(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Of every file below `directory`.
std::map<std::string, uint64_t> Hashes(const std::string& directory) {
  std::map<std::string, uint64_t> hashes;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    hashes[entry.path().string()] = Hash64(*ReadFile(entry.path().string()));
  }
  return hashes;
}

// A file system of so many bytes in memory.
class SmallDisk {
 public:
  SmallDisk(const std::string& path, uint64_t bytes) : path_(path) {
    std::filesystem::create_directories(path);
    if (mount("tmpfs", path.c_str(), "tmpfs", 0,
              absl::StrCat("size=", bytes).c_str()) != 0) {
      why_not_ = absl::StrCat("cannot mount a tmpfs: ", std::strerror(errno));
    }
  }
  ~SmallDisk() {
    if (why_not_.empty()) umount2(path_.c_str(), MNT_DETACH);
  }

  const std::string& path() const { return path_; }
  const std::string& why_not() const { return why_not_; }  // Empty: it is.

 private:
  const std::string path_;
  std::string why_not_;
};

// One connection that stores what it is given.
class Feeder {
 public:
  Feeder(ShardProcess& shard, Record& record, uint64_t seed)
      : experience_(1, seed, record), stub_(shard.NewStub()) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
    stream_ = stub_->Append(&context_);
    v1::AppendResponse response;
    EXPECT_TRUE(stream_->Write(OpenOf(record.spec(), 1)));
    EXPECT_TRUE(stream_->Read(&response));
  }
  ~Feeder() {
    if (stream_ == nullptr) return;
    context_.TryCancel();
    stream_->Finish().IgnoreError();
  }

  void Store(int batches) {
    for (int i = 0; i < batches; ++i) {
      v1::AppendRequest request;
      *request.mutable_batch() = experience_.NextBatch(++sequence_);
      v1::AppendResponse response;
      ASSERT_TRUE(stream_->Write(request));
      ASSERT_TRUE(stream_->Read(&response));
      ASSERT_EQ(response.sequence(), sequence_);
    }
  }

  // One more, with which the stream is to end: with what.
  grpc::Status StoreRefused() {
    v1::AppendRequest request;
    *request.mutable_batch() = experience_.NextBatch(++sequence_);
    v1::AppendResponse response;
    stream_->Write(request);
    EXPECT_FALSE(stream_->Read(&response)) << "acknowledged";
    return std::exchange(stream_, nullptr)->Finish();
  }

 private:
  Experience experience_;
  std::unique_ptr<v1::Replay::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<
      grpc::ClientReaderWriter<v1::AppendRequest, v1::AppendResponse>>
      stream_;
  uint64_t sequence_ = 0;
};

// Draws and checks the contents; the uids that were seen.
std::set<uint64_t> Sample(ShardProcess& shard, const Record& record,
                          int draws) {
  std::unique_ptr<v1::Replay::Stub> stub = shard.NewStub();
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
  auto stream = stub->Sample(&context);
  v1::SampleResponse response;
  EXPECT_TRUE(stream->Write(SampleOpenOf(record.spec())));
  EXPECT_TRUE(stream->Read(&response));
  std::vector<uint64_t> uids;
  for (int i = 0; i < draws; ++i) {
    EXPECT_TRUE(stream->Write(DrawOf(1000, 0)));
    EXPECT_TRUE(stream->Read(&response));
    const absl::Status status = record.Check(response, uids);
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_TRUE(stream->WritesDone());
  EXPECT_TRUE(stream->Finish().ok());
  return {uids.begin(), uids.end()};
}

// The standard health service's answer.
grpc::health::v1::HealthCheckResponse::ServingStatus Health(
    const ShardProcess& shard) {
  auto stub = grpc::health::v1::Health::NewStub(MakeChannel(shard.address()));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
  grpc::health::v1::HealthCheckResponse response;
  EXPECT_TRUE(stub->Check(&context, {}, &response).ok());
  return response.status();
}

// The one line that says why it did not start.
std::string Reason(const std::string& output) {
  std::vector<std::string> lines =
      absl::StrSplit(output, '\n', absl::SkipEmpty());
  return lines.empty() ? "" : lines.back();
}

TEST(FullDiskTest, NoRoomForTheTableIsRefusedAndLeavesNothing) {
  const TempDirectory folder;
  const SmallDisk disk(folder.path() + "/disk", 8 << 20);
  if (!disk.why_not().empty()) GTEST_SKIP() << disk.why_not();
  // 2 MB of writers, and about 15 MB of steps.
  ShardProcess shard(folder.path(), {.table = FaultTable(10000, 1024),
                                     .data_dir = disk.path() + "/data"});
  std::string output;
  EXPECT_EQ(shard.StartRefused(&output), 1) << output;
  EXPECT_THAT(Reason(output), HasSubstr("no room for"));
  EXPECT_THAT(Reason(output), HasSubstr("No space left on device"));
  EXPECT_THAT(Reason(output), HasSubstr("free are"));
  EXPECT_EQ(Names(disk.path() + "/data"), std::vector<std::string>{"LOCK"});
  EXPECT_LT(std::filesystem::space(disk.path()).capacity -
                std::filesystem::space(disk.path()).free,
            65536u)
      << "the room is free again";
  // One that fits starts in the same folder.
  ShardProcess smaller(folder.path(), {.table = FaultTable(1000, 16),
                                       .data_dir = disk.path() + "/data"});
  smaller.Start();
  EXPECT_EQ(smaller.Stop(), 0);
}

TEST(FullDiskTest, CheckpointToAFullDiskLeavesNothingAndServingGoesOn) {
  const TempDirectory folder;
  const SmallDisk disk(folder.path() + "/disk", 8 << 20);
  if (!disk.why_not().empty()) GTEST_SKIP() << disk.why_not();
  Record record(FaultTable(20000, 4096));
  ShardProcess shard(folder.path(), {.table = record.spec(),
                                     .data_dir = folder.path() + "/data"});
  shard.Start();
  Feeder feeder(shard, record, TestSeed());
  feeder.Store(500);  // About 3000 steps, 13 MB.
  const auto checkpoint = [&](const std::string& directory) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
    v1::CheckpointRequest request;
    request.set_directory(directory);
    v1::CheckpointResponse response;
    return shard.NewStub()->Checkpoint(&context, request, &response);
  };
  // It becomes full in the midst, and then has no room for anything.
  grpc::Status status = checkpoint(disk.path() + "/a");
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED)
      << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("No space left on device"));
  EXPECT_THAT(status.error_message(), HasSubstr(disk.path()));
  EXPECT_THAT(Names(disk.path() + "/a"), IsEmpty());
  std::ofstream(disk.path() + "/fill") << std::string(9 << 20, 'x');
  status = checkpoint(disk.path() + "/b");
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED)
      << status.error_message();
  EXPECT_THAT(Names(disk.path() + "/b"), IsEmpty());

  feeder.Store(50);
  EXPECT_THAT(Sample(shard, record, 20), testing::Not(IsEmpty()));
  status = checkpoint(folder.path() + "/c");
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Names(folder.path() + "/c").size(), 1u);
  EXPECT_EQ(shard.Stop(), 0);
  auto found = ReadTableFiles(shard.table_dir(), record, {1});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->items.size(), record.All().size());
}

// -------------------------------------------------------------- damage ---

class DamageTest : public testing::Test {
 protected:
  // A shard that stored something and was stopped in order.
  DamageTest() {
    shard_.Start();
    {
      Feeder feeder(shard_, record_, seed_);
      feeder.Store(400);
    }
    EXPECT_EQ(shard_.Stop(), 0);
    std::filesystem::copy(shard_.data_dir(), good_,
                          std::filesystem::copy_options::recursive);
  }

  void Repair() {
    std::filesystem::remove_all(shard_.data_dir());
    std::filesystem::copy(good_, shard_.data_dir(),
                          std::filesystem::copy_options::recursive);
  }

  void Flip(const std::string& path, uint64_t bit) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(bit / 8));
    char byte = 0;
    file.read(&byte, 1);
    byte = static_cast<char>(byte ^ (1 << (bit % 8)));
    file.seekp(static_cast<std::streamoff>(bit / 8));
    file.write(&byte, 1);
  }

  const uint64_t seed_ = TestSeed();
  Random random_{seed_};
  const TempDirectory folder_;
  Record record_{FaultTable(3000)};
  ShardProcess shard_{
      folder_.path(),
      {.table = record_.spec(), .data_dir = folder_.path() + "/data"}};
  const std::string good_ = folder_.path() + "/good";
};

TEST_F(DamageTest, TruncatedFileIsRefusedInWordsAndLeftAsItIs) {
  for (const std::string& name : Names(shard_.table_dir())) {
    SCOPED_TRACE(name);
    Repair();
    const std::string path = shard_.table_dir() + "/" + name;
    const uint64_t bytes = std::filesystem::file_size(path);
    for (uint64_t left : {bytes - 1, random_.Below(bytes), uint64_t{0}}) {
      std::filesystem::resize_file(path, left);
      const auto before = Hashes(shard_.data_dir());
      std::string output;
      EXPECT_EQ(shard_.StartRefused(&output), 1) << output;
      EXPECT_THAT(Reason(output), HasSubstr(path));
      EXPECT_EQ(Hashes(shard_.data_dir()), before);
    }
    std::filesystem::remove(path);
    std::string output;
    EXPECT_EQ(shard_.StartRefused(&output), 1) << output;
    EXPECT_THAT(Reason(output), HasSubstr(path));
  }
  Repair();
  shard_.Start();
  EXPECT_EQ(shard_.Stop(), 0);
}

TEST_F(DamageTest, FlippedBitsAreFoundAndWhatIsServedIsWhatWasWritten) {
  constexpr int kRounds = 25;
  constexpr int kFlips = 8;  // A round, in one file.
  const uint64_t total = record_.All().size();
  // Mostly where the contents are.
  const std::vector<std::string> names = {
      "header", "state", "writers", "steps",   "steps",
      "steps",  "items", "items",   "payload", "payload"};
  int refused = 0;
  uint64_t lost = 0;
  for (int round = 0; round < kRounds; ++round) {
    const std::string& name = names[random_.Below(names.size())];
    SCOPED_TRACE(absl::StrCat("round ", round, ", ", name));
    Repair();
    const std::string path = shard_.table_dir() + "/" + name;
    // Of a file that is mostly empty, where something is.
    uint64_t used = std::filesystem::file_size(path);
    if (name == "writers") used = 64;
    if (name == "state") used = 256;
    for (int flip = 0; flip < kFlips; ++flip) {
      Flip(path, random_.Below(8 * used));
    }
    shard_.Launch();
    const bool serves = shard_.process().WaitUntil(
        [&] { return std::filesystem::exists(folder_.path() + "/ready-0"); },
        30);
    if (!serves) {
      ++refused;
      EXPECT_EQ(shard_.process().exit_code(), 1);
      EXPECT_THAT(Reason(shard_.process().Output()),
                  HasSubstr(shard_.table_dir()));
      EXPECT_THAT(name, AnyOf("header", "state")) << "the rest is of use";
      continue;
    }
    v1::TableInfo info;
    ASSERT_TRUE(Eventually([&] {
      info = shard_.Describe();
      return info.storage().verified_steps() == info.storage().verify_total();
    }));
    const uint64_t reported =
        info.storage().recovery_dropped() + info.storage().damaged_items();
    EXPECT_LE(total - info.stats().size(), reported) << "lost without a word";
    EXPECT_FALSE(Sample(shard_, record_, 10).empty());
    EXPECT_EQ(shard_.Stop(), 0);

    auto found = ReadTableFiles(shard_.table_dir(), record_, {1});
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->items.size(), info.stats().size());
    EXPECT_EQ(found->verified.damaged_steps, 0u) << "all were found before";
    const std::map<uint64_t, SentItem> sent = record_.All();
    for (const FoundItem& item : found->items) {
      EXPECT_EQ(item.priority, sent.at(item.uid).priority);
    }
    lost += total - found->items.size();
  }
  std::cout << kRounds * kFlips << " bits flipped in " << kRounds
            << " copies: " << refused << " were refused, " << lost << " of "
            << total << " items were lost in all" << std::endl;
  EXPECT_GT(lost, 0u);
}

class FailingSyncTest : public testing::Test {
 protected:
  const TempDirectory folder_;
  // Syncs fail while it is there.
  const std::string fails_ = folder_.path() + "/fails";
  Record record_{FaultTable(10000)};
  ShardProcess shard_{
      folder_.path(),
      {.table = record_.spec(),
       .data_dir = folder_.path() + "/data",
       .sync_interval = 0.05,
       .prefix = {"/usr/bin/env", "LD_PRELOAD=" QFLEET_FAILING_SYNC,
                  "QFLEET_FAIL_SYNC=" + fails_,
                  // The preloaded library may come first.
                  "ASAN_OPTIONS=verify_asan_link_order=0"}}};
};

// Of a whole process: the shard's own test ends at the callback for it.
TEST_F(FailingSyncTest, AfterAFailedSyncNoWriteIsTakenAndHealthSaysSo) {
  using grpc::health::v1::HealthCheckResponse;
  shard_.Start();
  std::set<uint64_t> stored;
  {
    Feeder feeder(shard_, record_, TestSeed());
    feeder.Store(20);
    for (const auto& [uid, item] : record_.All()) stored.insert(uid);
    EXPECT_EQ(Health(shard_), HealthCheckResponse::SERVING);
    EXPECT_EQ(shard_.Describe().storage().failed(), "");
    EXPECT_TRUE(Eventually(
        [&] { return shard_.Describe().storage().seconds_since_sync() >= 0; }));

    std::ofstream(fails_).put('\n');
    EXPECT_TRUE(Eventually(
        [&] { return Health(shard_) == HealthCheckResponse::NOT_SERVING; }));
    const grpc::Status refused = feeder.StoreRefused();
    EXPECT_EQ(refused.error_code(), grpc::UNAVAILABLE);
    EXPECT_THAT(refused.error_message(),
                AllOf(HasSubstr("takes no more writes"),
                      HasSubstr("Input/output error")));
  }
  // What a disk forgot it does not remember: good syncs prove nothing.
  std::filesystem::remove(fails_);
  EXPECT_TRUE(Eventually([&] {
    return shard_.Describe().storage().seconds_since_sync() > 10 * 0.05;
  })) << "by the interval there were ten";
  for (int i = 0; i < 2; ++i) {
    const v1::StorageInfo storage = shard_.Describe().storage();
    EXPECT_THAT(storage.failed(), HasSubstr("Input/output error"));
    EXPECT_EQ(Health(shard_), HealthCheckResponse::NOT_SERVING);
    // Samples go on.
    for (uint64_t uid : Sample(shard_, record_, 10)) {
      EXPECT_TRUE(stored.count(uid) == 1) << uid;
    }
  }
  // A new life finds out what there is.
  shard_.Kill();
  shard_.Start();
  EXPECT_EQ(Health(shard_), HealthCheckResponse::SERVING);
  EXPECT_EQ(shard_.Describe().stats().size(), stored.size());
  EXPECT_EQ(shard_.Stop(), 0);
}

TEST_F(FailingSyncTest, AShardWhoseSyncsFailFromTheStartNeverServes) {
  using grpc::health::v1::HealthCheckResponse;
  std::ofstream(fails_).put('\n');
  shard_.Start();
  EXPECT_TRUE(Eventually(
      [&] { return !shard_.Describe().storage().failed().empty(); }));
  EXPECT_TRUE(Eventually(
      [&] { return Health(shard_) == HealthCheckResponse::NOT_SERVING; }));
}

}  // namespace
}  // namespace qfleet
