// A shard with files: what outlives it, checkpoints, and storage that fails.
// Kills of the real process are in tests/fault.

#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "replay_server/core/checkpoint.h"
#include "tests/replay_server/service/test_shard.h"
#include "tests/replay_server/without_life.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

v1::TableSpec UniformTable() {
  v1::TableSpec spec = TestTable();
  spec.mutable_selector()->set_kind(v1::Selector::UNIFORM);
  return spec;
}

struct Item {
  float first = 0;  // The observation at its first step.
  float last = 0;
  uint32_t slot = 0;
  uint32_t generation = 0;
  friend bool operator==(const Item&, const Item&) = default;
};

class DurabilityTest : public ::testing::Test {
 protected:
  Shard::Options Options(const v1::TableSpec& spec) {
    Shard::Options options;
    options.number = 3;
    options.tables = {spec};
    options.seed = ++lives_;
    options.data_dir = DataDir();
    options.sync_interval = absl::Milliseconds(20);
    return options;
  }
  std::string DataDir() const { return directory_.path() + "/data"; }
  std::string CheckpointDir() const { return directory_.path() + "/saved"; }

  absl::Status TryOpen(const Shard::Options& options) {
    shard_.reset();
    metrics_ = std::make_unique<Metrics>();
    auto shard = Shard::Create(options, *metrics_);
    if (shard.ok()) shard_ = *std::move(shard);
    return shard.status();
  }
  void Open(const Shard::Options& options) {
    const absl::Status status = TryOpen(options);
    ASSERT_TRUE(status.ok()) << status;
  }

  absl::Status Append(const v1::AppendBatch& batch, int table = 0) {
    absl::Notification done;
    absl::Status status;
    shard_->Append(table, {kWriter, nullptr}, batch,
                   [&](absl::StatusOr<v1::AppendResponse> result) {
                     status = result.status();
                     done.Notify();
                   });
    done.WaitForNotification();
    return status;
  }
  void Fill(uint64_t batches) {
    for (uint64_t i = 0; i < batches; ++i) {
      ASSERT_TRUE(Append(OneItemBatch(++sequence_)).ok());
    }
  }
  v1::TableInfo Info(int table = 0) { return shard_->Describe().tables(table); }

  // All items by their action, the batch's number. For UniformTable.
  std::map<int64_t, Item> Items() {
    std::map<int64_t, Item> items;
    const uint64_t size = Info().stats().size();
    for (int round = 0; round < 1000 && items.size() < size; ++round) {
      v1::SampleResponse drawn;
      EXPECT_TRUE(shard_->Sample(0, DrawOf(1000), drawn).ok());
      for (int j = 0; j < 1000; ++j) {
        int64_t action;
        std::memcpy(&action, drawn.item_columns(0).data().data() + 8 * j, 8);
        Item item;
        std::memcpy(&item.first, drawn.views(0).data().data() + 4 * j, 4);
        std::memcpy(&item.last, drawn.views(1).data().data() + 4 * j, 4);
        item.slot = drawn.slot(j);
        item.generation = drawn.generation(j);
        const auto known = items.emplace(action, item).first;
        EXPECT_EQ(known->second, item) << "two items of batch " << action;
      }
    }
    EXPECT_THAT(items, SizeIs(size));
    for (const auto& [action, item] : items) {
      EXPECT_EQ(item.first, static_cast<float>(2 * (action - 1))) << action;
      EXPECT_EQ(item.last, static_cast<float>(2 * action - 1)) << action;
    }
    return items;
  }

  v1::CheckpointResponse Checkpoint(uint32_t keep = 0) {
    v1::CheckpointRequest request;
    request.set_directory(CheckpointDir());
    request.set_keep(keep);
    auto response = shard_->Checkpoint(request);
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? *response : v1::CheckpointResponse();
  }

  static constexpr uint64_t kWriter = 5;
  const TempDirectory directory_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Shard> shard_;
  uint64_t lives_ = 0;
  uint64_t sequence_ = 0;
};

TEST_F(DurabilityTest, TablesOutliveTheShard) {
  Open(Options(UniformTable()));
  Fill(1500);  // The table holds 1000.
  const std::map<int64_t, Item> before = Items();
  const v1::TableStats stats = Info().stats();
  Open(Options(UniformTable()));
  EXPECT_TRUE(Info().storage().recovered());
  EXPECT_EQ(Info().storage().recovered_items(), 1000u);
  EXPECT_EQ(WithoutLife(Info().stats()).SerializeAsString(),
            WithoutLife(stats).SerializeAsString());
  EXPECT_EQ(shard_->LastSequence(0, kWriter), 1500u);
  EXPECT_EQ(Items(), before);
  EXPECT_TRUE(Eventually([this] {
    return Info().storage().verified_steps() == Info().storage().verify_total();
  }));
  EXPECT_EQ(Info().storage().damaged_steps(), 0u);
  EXPECT_TRUE(Eventually(
      [this] { return Info().storage().seconds_since_sync() >= 0; }));
  Fill(10);
  EXPECT_EQ(Info().stats().inserted(), 1510u);
}

TEST_F(DurabilityTest, OneShardAFolder) {
  Open(Options(TestTable()));
  Metrics metrics;
  const absl::Status status =
      Shard::Create(Options(TestTable()), metrics).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

TEST_F(DurabilityTest, EachTableHasItsFolder) {
  Shard::Options options = Options(UniformTable());
  options.tables.push_back(TestTable());
  options.tables[1].set_name("second");
  Open(options);
  Fill(3);
  ASSERT_TRUE(Append(OneItemBatch(1), 1).ok());
  Open(options);
  EXPECT_EQ(Info(0).stats().size(), 3u);
  EXPECT_EQ(Info(1).stats().size(), 1u);
  EXPECT_THAT(ListTables(DataDir()), ElementsAre("experience", "second"));
}

// The ring is full, so that each batch overwrites what a snapshot copies.
TEST_F(DurabilityTest, CheckpointUnderLoadIsTheTableAtOneMoment) {
  Open(Options(UniformTable()));
  Fill(1200);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop) ASSERT_TRUE(Append(OneItemBatch(++sequence_)).ok());
  });
  std::thread sampler([&] {
    while (!stop) {
      v1::SampleResponse drawn;
      ASSERT_TRUE(shard_->Sample(0, DrawOf(100), drawn).ok());
    }
  });
  std::vector<std::string> paths;
  for (int i = 0; i < 5; ++i) paths.push_back(Checkpoint(3).path());
  stop = true;
  writer.join();
  sampler.join();
  EXPECT_THAT(ListShardCheckpoints(CheckpointDir(), 3),
              ElementsAre(paths[4], paths[3], paths[2]));
  for (size_t i = 2; i < 5; ++i) {
    Shard::Options options = Options(UniformTable());
    options.data_dir = "";
    options.restore = paths[i];
    Open(options);
    const uint64_t last = shard_->LastSequence(0, kWriter);
    EXPECT_GE(last, 1200u);
    EXPECT_EQ(Info().stats().inserted(), last);
    EXPECT_EQ(Info().storage().recovery_dropped(), 0u);
    const std::map<int64_t, Item> items = Items();
    EXPECT_EQ(items.begin()->first, static_cast<int64_t>(last) - 999);
    EXPECT_EQ(items.rbegin()->first, static_cast<int64_t>(last));
  }
}

// The new one was removed as the oldest.
TEST_F(DurabilityTest, CheckpointIsKeptThoughTheClockWasSetBack) {
  Open(Options(TestTable()));
  Fill(3);
  const std::string future = CheckpointDir() + "/shard-3-29991231T235959.999Z";
  std::filesystem::rename(Checkpoint().path(), future);
  const std::string path = Checkpoint(1).path();
  EXPECT_THAT(ListShardCheckpoints(CheckpointDir(), 3),
              ElementsAre(future, path));
}

TEST_F(DurabilityTest, RestoreBringsContentsCountersAndKeysNotTheLimiter) {
  Open(Options(UniformTable()));
  Fill(50);
  const std::map<int64_t, Item> before = Items();
  const v1::TableStats stats = Info().stats();
  const std::string path = Checkpoint().path();
  Fill(5);  // Not in the checkpoint.
  Shard::Options options = Options(UniformTable());
  options.tables[0].mutable_rate_limiter()->set_min_size(7);
  options.data_dir = directory_.path() + "/elsewhere";
  options.restore = path;
  Open(options);
  EXPECT_EQ(WithoutLife(Info().stats()).SerializeAsString(),
            WithoutLife(stats).SerializeAsString());
  EXPECT_EQ(Info().stats().start_inserted(), 50u);
  EXPECT_EQ(Items(), before);
  EXPECT_EQ(Info().spec().rate_limiter().min_size(), 7u);
  sequence_ = 50;
  Fill(1);
  // A shard that is started again with the same flags keeps what it has.
  Open(options);
  EXPECT_EQ(Info().stats().inserted(), 51u);
}

TEST_F(DurabilityTest, DamagedCheckpointIsRefusedAndLeavesNothing) {
  Open(Options(TestTable()));
  Fill(50);
  const std::string path = Checkpoint().path();
  {
    std::fstream file(path + "/experience/payload",
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(17);
    file.put('?');
  }
  Shard::Options options = Options(TestTable());
  options.data_dir = directory_.path() + "/elsewhere";
  options.restore = path;
  const absl::Status status = TryOpen(options);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("experience/payload"));
  EXPECT_THAT(ListTables(options.data_dir), ElementsAre());
  options.restore = directory_.path() + "/nothing";
  EXPECT_FALSE(TryOpen(options).ok());
}

// The copy of it was in the right one's way.
TEST_F(DurabilityTest, ACheckpointThatCannotBeServedIsNotCopied) {
  Open(Options(TestTable()));
  Fill(50);
  const std::string path = Checkpoint().path();
  Shard::Options options = Options(TestTable());
  options.data_dir = directory_.path() + "/elsewhere";
  options.restore = path;
  options.number = 2;
  absl::Status status = TryOpen(options);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("shard is 3"));
  EXPECT_THAT(ListTables(options.data_dir), ElementsAre());
  options.number = 3;
  options.tables[0].set_max_items(2000);
  status = TryOpen(options);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("max_items is 1000"));
  EXPECT_THAT(ListTables(options.data_dir), ElementsAre());
  options.tables = {TestTable()};
  Open(options);
  EXPECT_EQ(Info().stats().inserted(), 50u);
}

// One table of the checkpoint was there, and the next one's other tables came
// to it.
TEST_F(DurabilityTest, TablesAreRestoredTogetherOrNotAtAll) {
  Shard::Options options = Options(TestTable());
  options.tables.push_back(TestTable());
  options.tables[1].set_name("second");
  Open(options);
  Fill(50);
  const std::string path = Checkpoint().path();
  options.data_dir = directory_.path() + "/elsewhere";
  options.restore = path;
  options.tables[1].set_max_items(2000);
  EXPECT_TRUE(absl::IsFailedPrecondition(TryOpen(options)));
  EXPECT_THAT(ListTables(options.data_dir), ElementsAre());
  options.tables[1].set_max_items(1000);
  const std::string payload = path + "/second/payload";
  {
    std::fstream file(payload, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(17);
    file.put('?');
  }
  EXPECT_TRUE(absl::IsDataLoss(TryOpen(options)));
  EXPECT_THAT(ListTables(options.data_dir), ElementsAre());
  {
    std::fstream file(payload, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(17);
    file.put('\0');
  }
  Open(options);
  EXPECT_EQ(Info(0).stats().inserted(), 50u);
  EXPECT_EQ(Info(1).stats().inserted(), 0u);
}

// Its disk is slow, or its table large: a shard that is asked to stop does not
// wait for it.
TEST_F(DurabilityTest, ShutdownEndsACheckpointAndLeavesNothing) {
  v1::TableSpec spec = TestTable();
  spec.mutable_signature()->mutable_step_columns(0)->add_shape(1 << 14);
  spec.set_max_bytes(512 << 20);
  Open(Options(spec));
  v1::AppendBatch batch;
  std::string& column = *batch.add_step_columns()->mutable_data();
  for (uint64_t index = 0; index < 4000; ++index) {
    if (index % 100 == 0) {
      batch.clear_step_stream();
      batch.clear_step_index();
      batch.clear_step_starts_episode();
      column.clear();
    }
    batch.add_step_stream(0);
    batch.add_step_index(index);
    batch.add_step_starts_episode(index == 0);
    column.append(4 << 14, 'x');
    if (index % 100 != 99) continue;
    batch.set_sequence(index / 100 + 1);
    batch.clear_item_columns();
    batch.clear_item_stream();
    batch.clear_item_first();
    batch.clear_item_last();
    batch.clear_item_priority();
    batch.add_item_stream(0);
    batch.add_item_first(index - 1);
    batch.add_item_last(index);
    batch.add_item_priority(1);
    AddValue(int64_t{1}, batch.add_item_columns());
    ASSERT_EQ(Append(batch), absl::OkStatus());
  }
  absl::StatusOr<v1::CheckpointResponse> written;
  std::thread checkpoint([&] {
    v1::CheckpointRequest request;
    request.set_directory(CheckpointDir());
    written = shard_->Checkpoint(request);
  });
  const auto folders = [this] {
    std::error_code none_yet;
    return std::distance(
        std::filesystem::directory_iterator(CheckpointDir(), none_yet),
        std::filesystem::directory_iterator());
  };
  EXPECT_TRUE(Eventually([&] { return folders() > 0; }));
  shard_->Shutdown();
  checkpoint.join();
  EXPECT_TRUE(absl::IsCancelled(written.status())) << written.status();
  EXPECT_EQ(folders(), 0);
}

// A shard that is asked to stop reads no gigabytes first.
TEST_F(DurabilityTest, ACheckpointIsNotReadBackByAShardThatStops) {
  Open(Options(TestTable()));
  Fill(3);
  const std::string made = Checkpoint().path();
  const std::string temporary = made + ".tmp";
  std::filesystem::rename(made, temporary);
  std::filesystem::remove(temporary + "/MANIFEST");
  bool stopped = true;
  const auto finish = [&] {
    return FinishCheckpoint(temporary, 3, "test", /*keep=*/0,
                            [&] { return stopped; });
  };
  EXPECT_TRUE(absl::IsCancelled(finish().status())) << finish().status();
  EXPECT_THAT(ListShardCheckpoints(CheckpointDir(), 3), ElementsAre());
  stopped = false;
  EXPECT_EQ(*finish(), made);
  EXPECT_TRUE(CheckCheckpoint(made, /*contents=*/true).ok());
}

TEST_F(DurabilityTest, ListsTablesAndNothingElse) {
  Open(Options(TestTable()));
  std::filesystem::create_directories(DataDir() + "/lost+found");
  std::filesystem::create_directories(DataDir() + "/checkpoints/shard-3-1");
  EXPECT_THAT(ListTables(DataDir()), ElementsAre("experience"));
  std::filesystem::remove(DataDir() + "/experience/header");
  EXPECT_THAT(ListTables(DataDir()), ElementsAre("experience")) << "damaged";
}

TEST_F(DurabilityTest, CheckpointNeedsAFolderThatCanBeWritten) {
  Open(Options(TestTable()));
  v1::CheckpointRequest request;
  EXPECT_TRUE(absl::IsInvalidArgument(shard_->Checkpoint(request).status()));
  request.set_directory("/proc/nothing");
  EXPECT_FALSE(shard_->Checkpoint(request).ok());
  EXPECT_EQ(Append(OneItemBatch(1)), absl::OkStatus());
}

class FailingStorage : public AnonymousStorage {
 public:
  explicit FailingStorage(const bool* fails) : fails_(fails) {}
  absl::Status Sync() override {
    return *fails_ ? absl::DataLossError("the disk is gone") : absl::OkStatus();
  }

 private:
  const bool* const fails_;
};

TEST(StorageFailureTest, AFailedSyncRefusesWritesAndSaysSo) {
  Metrics metrics;
  bool fails = false;
  auto table = ServedTable::Create(
      TestTable(), 0, std::make_unique<FailingStorage>(&fails), 1, metrics);
  ASSERT_TRUE(table.ok()) << table.status();
  const auto append = [&](uint64_t sequence) {
    absl::Status status;
    (*table)->Append({1, nullptr}, OneItemBatch(sequence),
                     [&](const absl::StatusOr<v1::AppendResponse>& result) {
                       status = result.status();
                     });
    return status;
  };
  EXPECT_TRUE(append(1).ok());
  EXPECT_TRUE((*table)->Sync().ok());
  fails = true;
  EXPECT_FALSE((*table)->Sync().ok());
  fails = false;  // What was lost then does not come back.
  EXPECT_FALSE((*table)->Sync().ok());
  const absl::Status refused = append(2);
  EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("the disk is gone"));
  v1::UpdatePrioritiesRequest priorities;
  EXPECT_TRUE(
      absl::IsUnavailable((*table)->UpdatePriorities(priorities).status()));
  v1::SampleResponse drawn;
  EXPECT_TRUE((*table)->Sample(DrawOf(4), drawn).ok()) << "samples go on";
  (*table)->ExportMetrics();
  EXPECT_THAT(
      metrics.Text(),
      HasSubstr("qfleet_replay_storage_failed{table=\"experience\"} 1"));
  EXPECT_THAT((*table)->Info().storage().failed(),
              HasSubstr("the disk is gone"));
}

}  // namespace
}  // namespace qfleet
