// A table that is opened again: after a kill at an awkward moment, and after
// damage to its files. That nothing is lost otherwise is in
// table_random_test.cc and tests/fault.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "replay_server/core/checkpoint.h"
#include "replay_server/core/inspect.h"
#include "replay_server/core/table.h"
#include "replay_server/core/table_header.h"
#include "tests/replay_server/core/table_fixture.h"
#include "tests/replay_server/without_life.h"

namespace qfleet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class TableRecoverTest : public TableFixture {
 protected:
  TableRecoverTest() { Reopen(); }

  // As after a kill: nothing is done but what was done already.
  absl::Status TryReopen() {
    table_.reset();
    storage_ =
        std::make_unique<MappedStorage>(path_, MappedStorage::Mode::kServe);
    auto table = Table::Create(spec_, *storage_, ++lives_);
    if (table.ok()) table_ = *std::move(table);
    return table.status();
  }
  void Reopen() {
    const absl::Status status = TryReopen();
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_TRUE(table_->CheckInvariants().ok()) << table_->CheckInvariants();
  }

  void Flip(const std::string& region, size_t offset) {
    const char byte = Read(region)[offset];
    Overwrite(region, offset, std::string(1, static_cast<char>(byte ^ 4)));
  }

  // The uids of the items that can be drawn; with Fill these are 0, 1, 2.
  std::set<int64_t> Uids() {
    std::set<int64_t> uids;
    if (table_->Stats().size() == 0) return uids;
    const v1::SampleResponse drawn = Sample(200);
    const std::string& column = drawn.item_columns(0).data();
    for (size_t j = 0; j < 200; ++j) {
      int64_t uid;
      std::memcpy(&uid, column.data() + 8 * j, 8);
      uids.insert(uid);
    }
    return uids;
  }

  Table::Verified VerifyAll() {
    while (auto piece = table_->BeginVerify(3)) {
      const std::vector<uint64_t> damaged = table_->Verify(*piece);
      table_->EndVerify(std::move(piece), damaged);
    }
    EXPECT_TRUE(table_->CheckInvariants().ok()) << table_->CheckInvariants();
    return table_->verified();
  }

  // As Append, where the model does not know what the table lost.
  v1::AppendResponse Store(ModelBatch& batch) {
    model_->Reserve(batch);
    auto reservation = table_->Reserve(batch.writer, batch.wire);
    if (!reservation.ok()) {
      ADD_FAILURE() << reservation.status();
      return {};
    }
    table_->Write(**reservation);
    return table_->Commit(*std::move(reservation));
  }

  // Steps 10 and 11, an item over both.
  ModelBatch SecondBatch() {
    ModelBatch batch = NewBatch(2);
    AddSteps(batch, 0, 10, 12);
    model_->AddItem(batch, 0, 10, 11, 4);
    model_->Reserve(batch);
    return batch;
  }

  v1::TableSpec spec_ = ModelSpec(100, 1 << 20);
  uint64_t lives_ = 0;
};

TEST_F(TableRecoverTest, KilledBeforeTheCommitCanBeSentAgain) {
  Fill();
  ModelBatch batch = SecondBatch();
  auto reservation = table_->Reserve(kWriter, batch.wire);
  ASSERT_TRUE(reservation.ok());
  table_->Write(**reservation);
  Reopen();
  EXPECT_EQ(table_->LastSequence(kWriter), 1u);
  EXPECT_EQ(table_->Stats().size(), 3u);
  EXPECT_EQ(table_->Stats().steps(), 10u);
  EXPECT_EQ(Store(batch).items_stored(), 1u);
  EXPECT_THAT(Uids(), ElementsAre(0, 1, 2, 3));
  Reopen();
  EXPECT_THAT(Uids(), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(table_->Stats().steps(), 12u);
}

TEST_F(TableRecoverTest, KilledInMidWriteDropsTheTornRow) {
  Fill();
  ModelBatch batch = SecondBatch();
  auto reservation = table_->Reserve(kWriter, batch.wire);
  ASSERT_TRUE(reservation.ok());
  table_->Write(**reservation);
  Overwrite("steps", 11 * sizeof(StepHeader), std::string(20, '\0'));
  Reopen();
  EXPECT_THAT(Uids(), ElementsAre(0, 1, 2));
  EXPECT_EQ(table_->recovery().dropped, 0u);
  Store(batch);
  EXPECT_THAT(Uids(), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(VerifyAll().damaged_steps, 0u);
}

TEST_F(TableRecoverTest, KilledBetweenCommitAndWriterBookKeepsTheSequence) {
  Fill();
  const std::string before = Read("writers");
  ModelBatch batch = SecondBatch();
  Store(batch);
  Overwrite("writers", 0, before);
  Reopen();
  EXPECT_EQ(table_->LastSequence(kWriter), 2u);
  // And the stream goes on where the batch left it.
  ModelBatch next = NewBatch(3);
  AddSteps(next, 0, 12, 13);
  model_->Reserve(next);
  EXPECT_TRUE(table_->Reserve(kWriter, next.wire).ok());
}

TEST_F(TableRecoverTest, OneOfTwoCommitRecordsIsEnough) {
  Fill();
  const std::string before = Read("state");
  ModelBatch batch = SecondBatch();
  Store(batch);
  const std::string after = Read("state");
  Flip("state", 8);  // The first copy.
  Reopen();
  EXPECT_EQ(table_->Stats().inserted(), 4u);
  Overwrite("state", 0, after);
  Flip("state", 64 + 8);  // The second one.
  Reopen();
  EXPECT_EQ(table_->Stats().inserted(), 4u);
  // Killed while the first was written: the batch is not part of the table.
  Overwrite("state", 0, before);
  Flip("state", 8);
  Reopen();
  EXPECT_EQ(table_->Stats().inserted(), 3u);
  EXPECT_THAT(Uids(), ElementsAre(0, 1, 2));
}

TEST_F(TableRecoverTest, BothCommitRecordsDamagedIsRefusedInWords) {
  Fill();
  Flip("state", 8);
  Flip("state", 64 + 8);
  const absl::Status status = TryReopen();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("commit record"));
}

TEST_F(TableRecoverTest, FlippedPayloadIsFoundAndItsItemsGo) {
  Fill();  // Items over steps 0 to 3, 5 to 8, 9, with their stacks.
  Flip("payload", 6 * 16 + 3);
  Reopen();
  EXPECT_EQ(table_->recovery().dropped, 0u) << "not looked at yet";
  const Table::Verified verified = VerifyAll();
  EXPECT_EQ(verified.total, 10u);
  EXPECT_EQ(verified.steps, 10u);
  EXPECT_EQ(verified.damaged_steps, 1u);
  // Step 6 is read by the item over 5 to 8 and by the stack of 4 at step 9.
  EXPECT_EQ(verified.damaged_items, 2u);
  EXPECT_THAT(Uids(), ElementsAre(0));
  Reopen();
  EXPECT_THAT(Uids(), ElementsAre(0)) << "they stay away";
}

TEST_F(TableRecoverTest, FlippedStepHeaderDropsItsItemsOnly) {
  Fill();
  Flip("steps", 2 * sizeof(StepHeader) + offsetof(StepHeader, prev_distance));
  Reopen();
  EXPECT_EQ(table_->recovery().dropped, 1u);
  EXPECT_THAT(Uids(), ElementsAre(1, 2));
}

// It lay in the table until two lives later other steps had its steps' numbers.
TEST_F(TableRecoverTest, AnItemOfADamagedNewestStepNeverComesBack) {
  Fill();
  Flip("payload", 9 * 16 + 3);  // Of step 9, which is item 2 as well.
  Reopen();
  EXPECT_EQ(VerifyAll().damaged_steps, 1u);
  for (int life = 0; life < 2; ++life) {
    Reopen();
    EXPECT_THAT(Uids(), ElementsAre(0, 1));
  }
  ModelBatch batch = NewBatch(1, kWriter + 1);
  AddSteps(batch, 7, 0, 3, {0});
  Store(batch);
  Reopen();
  EXPECT_THAT(Uids(), ElementsAre(0, 1));
}

class CountingStorage : public MappedStorage {
 public:
  using MappedStorage::MappedStorage;
  absl::Status SyncRegion(int region) override {
    ++syncs[region];
    return MappedStorage::SyncRegion(region);
  }
  std::map<int, int> syncs;
};

// Or the power might fail again, and the item be there with others' steps.
TEST_F(TableRecoverTest, WhatIsDroppedIsSyncedBeforeAnythingIsWritten) {
  Fill();
  const auto syncs_of_opening = [this] {
    table_.reset();
    CountingStorage storage(path_, MappedStorage::Mode::kServe);
    auto table = Table::Create(spec_, storage, ++lives_);
    EXPECT_TRUE(table.ok()) << table.status();
    return storage.syncs;
  };
  EXPECT_THAT(syncs_of_opening(), testing::IsEmpty()) << "all is well";
  Flip("steps", 2 * sizeof(StepHeader) + offsetof(StepHeader, index));
  EXPECT_THAT(syncs_of_opening(), ElementsAre(std::pair(kItemsRegion + 0, 1)));
}

// After a kill of a full table a shard and `inspect` spoke of damage.
TEST_F(TableRecoverTest, AKillThatTearsTheOldestRowIsNoDamage) {
  const uint64_t capacity = table_->step_capacity();
  for (uint64_t b = 0; b < 4; ++b) {
    ModelBatch batch = NewBatch(1 + b);
    AddSteps(batch, 0, b * capacity / 4, (b + 1) * capacity / 4, {0});
    if (b == 0) model_->AddItem(batch, 0, 0, 1, 1);
    Append(batch);
  }
  ModelBatch batch = NewBatch(5);
  AddSteps(batch, 0, capacity, capacity + 1);
  model_->AddItem(batch, 0, capacity - 2, capacity - 1, 1);
  model_->Reserve(batch);
  ASSERT_EQ(table_->Stats().size(), 1u);
  auto reservation = table_->Reserve(kWriter, batch.wire);
  ASSERT_TRUE(reservation.ok()) << reservation.status();
  // A page that was lost: zeros.
  const std::string header = Read("steps").substr(0, sizeof(StepHeader));
  Overwrite("steps", 0, std::string(sizeof(StepHeader), '\0'));
  auto report = InspectTable(path_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_FALSE(report->intact());
  EXPECT_EQ(report->recovery.dropped, 1u);
  // Killed in the midst of writing its step to row 0: the tag alone.
  Overwrite("steps", 0, std::string(8, '\0') + header.substr(8));
  report = InspectTable(path_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->intact());
  EXPECT_EQ(report->stats.size(), 0u);
  Reopen();
  EXPECT_EQ(table_->recovery().dropped, 0u);
  EXPECT_EQ(Store(batch).items_stored(), 1u);
}

TEST_F(TableRecoverTest, FlippedItemIsDroppedAndItsSlotUsedAgain) {
  Fill();
  const uint64_t stride = 56;
  Flip("items", 1 * stride + 44);                           // A column.
  Flip("items", 2 * stride + offsetof(ItemRecord, value));  // The priority.
  Reopen();
  EXPECT_EQ(table_->recovery().dropped, 2u);
  EXPECT_THAT(Uids(), ElementsAre(0));
  EXPECT_EQ(table_->Stats().inserted(), 3u) << "as was acknowledged";
}

TEST_F(TableRecoverTest, WriterOfADamagedStepGoesOnWithItsNextEpisode) {
  Fill();
  Flip("steps", 9 * sizeof(StepHeader) + offsetof(StepHeader, index));
  Reopen();
  EXPECT_EQ(table_->recovery().damaged_steps, 1u);
  ModelBatch batch = NewBatch(2);
  AddSteps(batch, 0, 10, 13, {11});
  model_->AddItem(batch, 0, 10, 10, 1);
  model_->AddItem(batch, 0, 11, 12, 1);
  const v1::AppendResponse response = Store(batch);
  EXPECT_EQ(response.items_skipped(), 1u);
  EXPECT_EQ(response.items_stored(), 1u);
}

// It was told for ever that its next step is another one, and ended with that.
TEST_F(TableRecoverTest,
       WriterWhoseNewestStepsAreLostGoesOnWithItsNextEpisode) {
  Fill();
  const std::string before = Read("steps");
  ModelBatch batch = SecondBatch();
  EXPECT_EQ(Store(batch).items_stored(), 1u);
  // The power failed when all but these pages were on the disk.
  Overwrite("steps", 0, before);
  for (uint64_t life = 0; life < 2; ++life) {
    SCOPED_TRACE(life);
    Reopen();
    EXPECT_EQ(table_->LastSequence(kWriter), 2 + life);
    EXPECT_THAT(Uids(), ElementsAre(0, 1, 2));
    // Items alone, over steps that are lost and over some that are not.
    ModelBatch items = NewBatch(3 + life);
    model_->AddItem(items, 0, 10, 11, 1);
    model_->AddItem(items, 0, 9, 10, 1);
    const v1::AppendResponse response = Store(items);
    EXPECT_EQ(response.items_skipped(), 2u);
    EXPECT_EQ(response.items_stored(), 0u);
  }
  ModelBatch next = NewBatch(5);
  AddSteps(next, 0, 12, 16, {14});
  model_->AddItem(next, 0, 9, 12, 1);   // Into what is lost.
  model_->AddItem(next, 0, 12, 13, 1);  // Its episode's beginning is lost.
  model_->AddItem(next, 0, 14, 15, 1);
  const v1::AppendResponse response = Store(next);
  EXPECT_EQ(response.items_skipped(), 2u);
  EXPECT_EQ(response.items_stored(), 1u);
  EXPECT_TRUE(table_->CheckInvariants().ok()) << table_->CheckInvariants();
  // The item over 10 and 11, which are other steps now, does not come back.
  for (int life = 0; life < 2; ++life) {
    Reopen();
    EXPECT_EQ(Uids().size(), 4u);
    EXPECT_EQ(table_->Stats().size(), 4u);
  }
  ModelBatch on = NewBatch(6);
  AddSteps(on, 0, 16, 17);
  Store(on);
  // From here on a gap is the writer's own.
  ModelBatch gap = NewBatch(7);
  AddSteps(gap, 0, 18, 19, {18});
  const absl::Status status = Try(gap);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("step_index[0] = 18"));
}

// Damage is dropped when it is found, and the next life took that for a tear.
TEST_F(TableRecoverTest, WriterOfADamagedStepGoesOnAfterASecondKill) {
  Fill();
  Flip("steps", 9 * sizeof(StepHeader) + offsetof(StepHeader, index));
  Reopen();
  EXPECT_EQ(table_->recovery().damaged_steps, 1u);
  Reopen();
  EXPECT_EQ(table_->recovery().damaged_steps, 0u);
  ModelBatch batch = NewBatch(2);
  AddSteps(batch, 0, 10, 13, {11});
  model_->AddItem(batch, 0, 11, 12, 1);
  EXPECT_EQ(Store(batch).items_stored(), 1u);
}

// Other streams had to wait for their next episodes.
TEST_F(TableRecoverTest, StreamsWithoutDamageGoOnInTheirEpisodes) {
  Fill();
  Flip("steps", 2 * sizeof(StepHeader) + offsetof(StepHeader, index));
  Reopen();
  EXPECT_EQ(table_->recovery().damaged_steps, 1u);
  ModelBatch batch = SecondBatch();
  EXPECT_EQ(Store(batch).items_stored(), 1u);
}

// A checkpoint lacked the items that inserts overwrote before it came to them.
TEST_F(TableRecoverTest, SnapshotHasTheItemsThatAreOverwrittenWhileItIsMade) {
  for (const v1::Remover remover : {v1::FIFO, v1::LOWEST_PRIORITY}) {
    SCOPED_TRACE(v1::Remover_Name(remover));
    table_.reset();
    std::filesystem::remove_all(path_);
    spec_ = ModelSpec(3, 1 << 20);
    spec_.set_remover(remover);
    Reopen();
    model_ = std::make_unique<TableModel>(spec_, table_->step_capacity());
    Fill();
    auto snapshot = table_->BeginSnapshot();
    std::vector<Table::Piece> pieces;
    ASSERT_TRUE(table_->CopyItems(*snapshot, 1, pieces));
    // Twice each, one of them copied already.
    for (uint64_t i = 0; i < 6; ++i) {
      ModelBatch batch = NewBatch(2 + i);
      AddSteps(batch, 0, 10 + i, 11 + i);
      model_->AddItem(batch, 0, 10 + i, 10 + i, 10.0f + static_cast<float>(i));
      ASSERT_EQ(Store(batch).items_stored(), 1u);
    }
    while (table_->CopyItems(*snapshot, 1, pieces)) {
    }
    std::vector<Table::Piece> kept;
    table_->ItemsCopied(*snapshot, kept);
    pieces.insert(pieces.end(), kept.begin(), kept.end());
    const std::string copy = path_ + "_copy_" + v1::Remover_Name(remover);
    TableFilesWriter files;
    ASSERT_TRUE(files.Open(copy, snapshot->header).ok());
    for (const Table::Piece& piece : pieces) {
      ASSERT_TRUE(files
                      .Write(kItemsRegion, piece.offset, piece.data.data(),
                             piece.data.size())
                      .ok());
    }
    Table::StepRows rows;
    while (table_->NextSteps(*snapshot, 1 << 20, rows)) {
      ASSERT_TRUE(files
                      .Write(kStepsRegion, rows.header_offset, rows.headers,
                             rows.header_bytes)
                      .ok());
      ASSERT_TRUE(files
                      .Write(kPayloadRegion, rows.payload_offset, rows.payload,
                             rows.payload_bytes)
                      .ok());
      table_->StepsCopied(*snapshot, rows);
    }
    ASSERT_TRUE(files
                    .Write(kStateRegion, 0, snapshot->state.data(),
                           snapshot->state.size())
                    .ok());
    ASSERT_TRUE(files
                    .Write(kWritersRegion, 0, snapshot->writers.data(),
                           snapshot->writers.size())
                    .ok());
    table_->EndSnapshot(std::move(snapshot));
    ASSERT_TRUE(files.Sync().ok());
    EXPECT_THAT(Uids(), ElementsAre(6, 7, 8));
    table_.reset();
    storage_ =
        std::make_unique<MappedStorage>(copy, MappedStorage::Mode::kServe);
    auto table = Table::Create(spec_, *storage_, ++lives_);
    ASSERT_TRUE(table.ok()) << table.status();
    table_ = *std::move(table);
    EXPECT_THAT(Uids(), ElementsAre(0, 1, 2));
    EXPECT_EQ(table_->recovery().dropped, 0u);
    EXPECT_TRUE(table_->CheckInvariants().ok()) << table_->CheckInvariants();
  }
}

// A shard and `inspect` took the files for intact.
TEST_F(TableRecoverTest, DamagedWriterIsReportedButNotWhatAKillTears) {
  Fill();
  ModelBatch other = NewBatch(1, kWriter + 1);
  AddSteps(other, 0, 0, 1, {0});
  Append(other);
  Reopen();
  EXPECT_EQ(table_->recovery().damaged_writers, 0u);
  const std::string intact = Read("writers");
  Flip("writers", 32 + 8);  // The newest commit's, which names it as well.
  Reopen();
  EXPECT_EQ(table_->recovery().damaged_writers, 0u);
  EXPECT_EQ(table_->LastSequence(kWriter + 1), 1u);
  Overwrite("writers", 0, intact);
  Flip("writers", 8);
  auto report = InspectTable(path_);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_FALSE(report->intact());
  Reopen();
  EXPECT_EQ(table_->recovery().damaged_writers, 1u);
  EXPECT_EQ(table_->LastSequence(kWriter), 0u);
}

TEST_F(TableRecoverTest, PrioritiesAndCountersSurviveAndAlphaMayChange) {
  Fill();
  v1::UpdatePrioritiesRequest request;
  const v1::SampleResponse drawn = Sample(1);
  request.add_slot(drawn.slot(0));
  request.add_generation(drawn.generation(0));
  request.add_priority(50);
  ASSERT_EQ(table_->UpdatePriorities(request)->applied(), 1u);
  const v1::TableStats before = table_->Stats();
  Reopen();
  const v1::TableStats after = table_->Stats();
  EXPECT_NE(after.life(), before.life());
  EXPECT_EQ(after.start_inserted(), before.inserted());
  EXPECT_EQ(after.start_sampled(), before.sampled());
  EXPECT_EQ(after.start_steps(), before.steps());
  EXPECT_EQ(after.start_episodes(), before.episodes());
  EXPECT_EQ(WithoutLife(after).SerializeAsString(),
            WithoutLife(before).SerializeAsString());
  EXPECT_EQ(table_->UpdatePriorities(request)->applied(), 1u) << "same keys";
  spec_.mutable_selector()->set_kind(v1::Selector::UNIFORM);
  Reopen();
  EXPECT_EQ(table_->Stats().mass(), 3);
}

}  // namespace
}  // namespace qfleet
