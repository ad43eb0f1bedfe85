// Appending to a table: edges, one by one. What it holds over time is in
// table_random_test.cc.

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "replay_server/core/table.h"
#include "tests/replay_server/core/table_fixture.h"

namespace qfleet {
namespace {

using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class TableAppendTest : public TableFixture {};

TEST_F(TableAppendTest, MalformedBatchChangesNothing) {
  Fill();
  const std::string stats = table_->Stats().SerializeAsString();
  struct Case {
    std::string field;
    std::function<void(v1::AppendBatch&)> damage;
  };
  const std::vector<Case> cases = {
      {"step_index =", [](auto& b) { b.add_step_index(13); }},
      {"step_starts_episode =", [](auto& b) { b.clear_step_starts_episode(); }},
      {"step_columns = 1",
       [](auto& b) { b.mutable_step_columns()->RemoveLast(); }},
      {"step_columns[0]",
       [](auto& b) { b.mutable_step_columns(0)->mutable_data()->pop_back(); }},
      {"step_columns[1]",
       [](auto& b) { b.mutable_step_columns(1)->mutable_data()->append("x"); }},
      {"step_index[0]", [](auto& b) { b.set_step_index(0, 11); }},
      {"step_index[0]", [](auto& b) { b.set_step_index(0, 9); }},
      {"step_index[2]", [](auto& b) { b.set_step_index(2, 11); }},
      {"step_index[1]", [](auto& b) { b.set_step_index(1, ~0ull); }},
      {"step_index[2]",
       [](auto& b) {
         b.set_step_index(2, 40);
         b.set_step_starts_episode(2, true);
       }},
      {"item_first =", [](auto& b) { b.add_item_first(1); }},
      {"item_last =", [](auto& b) { b.clear_item_last(); }},
      {"item_priority =", [](auto& b) { b.add_item_priority(1); }},
      {"item_priority[1]", [](auto& b) { b.set_item_priority(1, -1); }},
      {"item_priority[1]", [](auto& b) { b.set_item_priority(1, NAN); }},
      {"item_priority[0]", [](auto& b) { b.set_item_priority(0, kInfinity); }},
      {"item_columns = 3", [](auto& b) { b.add_item_columns(); }},
      {"item_columns[1]",
       [](auto& b) { b.mutable_item_columns(1)->mutable_data()->pop_back(); }},
      {"item_first[0]", [](auto& b) { b.set_item_first(0, 13); }},
      // Across the start of an episode, within the batch and before it.
      {"item_first[1]", [](auto& b) { b.set_item_first(1, 11); }},
      {"item_first[0]", [](auto& b) { b.set_item_first(0, 4); }},
      // A step that has not been sent.
      {"item_last[1]", [](auto& b) { b.set_item_last(1, 13); }},
  };
  for (const Case& bad : cases) {
    ModelBatch batch = NewBatch(2);
    AddSteps(batch, 0, 10, 13, {12});
    model_->AddItem(batch, 0, 8, 11, 1);
    model_->AddItem(batch, 0, 12, 12, 1);
    bad.damage(batch.wire);
    absl::Status status = table_->CheckBatch(batch.wire);
    if (status.ok()) status = table_->Reserve(kWriter, batch.wire).status();
    ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.field;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.field));
    EXPECT_THAT(std::string(status.message()), HasSubstr("allowed"));
    EXPECT_EQ(table_->Stats().SerializeAsString(), stats) << bad.field;
    EXPECT_EQ(table_->LastSequence(kWriter), 1u);
    ASSERT_TRUE(table_->CheckInvariants().ok()) << bad.field;
  }
  // The same batch unharmed is good.
  ModelBatch batch = NewBatch(2);
  AddSteps(batch, 0, 10, 13, {12});
  model_->AddItem(batch, 0, 8, 11, 1);
  model_->AddItem(batch, 0, 12, 12, 1);
  EXPECT_EQ(Append(batch).items_stored(), 2u);
}

TEST_F(TableAppendTest, BatchOfMoreThanHalfTheRingIsRefused) {
  const uint64_t half = table_->step_capacity() / 2;
  ModelBatch batch = NewBatch(1);
  AddSteps(batch, 0, 0, half + 1, {0});
  EXPECT_THAT(std::string(table_->CheckBatch(batch.wire).message()),
              HasSubstr("step_stream = "));
  ModelBatch fits = NewBatch(1);
  AddSteps(fits, 1, 0, half, {0});
  Append(fits);
  EXPECT_EQ(table_->Stats().steps(), half);
}

TEST_F(TableAppendTest, ItemMayReachBack4096StepsAndNoFurther) {
  Make(ModelSpec(10000, 1 << 24), 1);
  ModelBatch first = NewBatch(1);
  AddSteps(first, 0, 0, 5000, {0});
  Append(first);
  ModelBatch good = NewBatch(2);
  AddSteps(good, 0, 5000, 5001);
  model_->AddItem(good, 0, 904, 904, 1);   // last = newest - 4096.
  model_->AddItem(good, 0, 904, 5000, 1);  // The longest span.
  EXPECT_EQ(Append(good).items_stored(), 2u);
  ModelBatch far = NewBatch(3);
  model_->AddItem(far, 0, 903, 903, 1);
  EXPECT_THAT(std::string(Try(far).message()),
              HasSubstr("item_last[0] = 903: allowed is 904 to 5000"));
  ModelBatch wide = NewBatch(3);
  model_->AddItem(wide, 0, 903, 5000, 1);
  EXPECT_THAT(std::string(Try(wide).message()),
              HasSubstr("item_first[0] = 903: allowed is 904 to 5000"));
}

TEST_F(TableAppendTest,
       ContinuationOfAnUnknownStreamIsSkippedToTheNextEpisode) {
  ModelBatch batch = NewBatch(9);
  AddSteps(batch, 3, 100, 110, {106});
  model_->AddItem(batch, 3, 101, 103, 1);  // Skipped steps.
  model_->AddItem(batch, 3, 106, 108, 1);
  const v1::AppendResponse response = Append(batch);
  EXPECT_EQ(response.items_stored(), 1u);
  EXPECT_EQ(response.items_skipped(), 1u);
  EXPECT_EQ(table_->Stats().steps(), 4u);
  EXPECT_EQ(table_->Stats().skipped(), 1u);
  EXPECT_EQ(table_->Stats().episodes(), 1u);

  // Skipping goes on over batches, and items alone are skipped too.
  ModelBatch skipped = NewBatch(10);
  AddSteps(skipped, 4, 50, 55);
  model_->AddItem(skipped, 4, 51, 52, 1);
  EXPECT_EQ(Append(skipped).items_skipped(), 1u);
  ModelBatch begins = NewBatch(11);
  AddSteps(begins, 4, 55, 58, {56});
  model_->AddItem(begins, 4, 54, 55, 1);
  model_->AddItem(begins, 4, 56, 57, 1);
  EXPECT_EQ(Append(begins).items_stored(), 1u);
}

TEST_F(TableAppendTest, ItemWhoseStackHasLeftTheRingIsSkipped) {
  Make(ModelSpec(40, 1 << 20), 1);
  const uint64_t capacity = table_->step_capacity();
  ModelBatch batch = NewBatch(1);
  AddSteps(batch, 0, 0, 10, {0});
  Append(batch);
  for (uint64_t sequence = 2, at = 0; at < capacity - 5; ++sequence) {
    const uint64_t end = std::min(at + 100, capacity - 5);
    ModelBatch other = NewBatch(sequence, kWriter + 1);
    AddSteps(other, 0, at, end, {0});
    Append(other);
    at = end;
  }
  // Steps 0 to 4 are gone; the stack of three at step 6 reads step 4.
  ModelBatch late = NewBatch(2);
  model_->AddItem(late, 0, 6, 6, 1);
  model_->AddItem(late, 0, 8, 8, 1);
  const v1::AppendResponse response = Append(late);
  EXPECT_EQ(response.items_skipped(), 1u);
  EXPECT_EQ(response.items_stored(), 1u);
}

TEST_F(TableAppendTest, SequenceIsTheLastCommitted) {
  EXPECT_EQ(table_->LastSequence(kWriter), 0u);
  ModelBatch batch = NewBatch(41);
  AddSteps(batch, 0, 0, 2, {0});
  model_->Reserve(batch);
  auto reservation = table_->Reserve(kWriter, batch.wire);
  ASSERT_TRUE(reservation.ok());
  EXPECT_EQ(table_->LastSequence(kWriter), 0u);
  table_->Write(**reservation);
  EXPECT_EQ(table_->Commit(*std::move(reservation)).sequence(), 41u);
  EXPECT_EQ(table_->LastSequence(kWriter), 41u);
  EXPECT_EQ(table_->LastSequence(kWriter + 1), 0u);
}

TEST_F(TableAppendTest, DrawingHoldsBackWhoeverWouldOverwriteItsSteps) {
  Make(ModelSpec(40, 1 << 20), 1);
  Fill();
  auto drawing = table_->Draw(30);
  ASSERT_TRUE(drawing.ok());
  const uint64_t capacity = table_->step_capacity();
  std::unique_ptr<Table::Reservation> blocked;
  std::unique_ptr<ModelBatch> batch;
  uint64_t sequence = 1;
  for (uint64_t at = 0; at < capacity; at += 100) {
    batch = std::make_unique<ModelBatch>(NewBatch(sequence++, kWriter + 1));
    AddSteps(*batch, 0, at, at + 100, {0});
    model_->Reserve(*batch);
    auto reservation = table_->Reserve(kWriter + 1, batch->wire);
    ASSERT_TRUE(reservation.ok()) << reservation.status();
    if (!table_->Writable(**reservation)) {
      blocked = *std::move(reservation);
      break;
    }
    table_->Write(**reservation);
    table_->Commit(*std::move(reservation));
  }
  ASSERT_NE(blocked, nullptr);
  EXPECT_EQ(table_->Stats().size(), 0u) << "evicted when reserved";
  table_->Release(*std::move(drawing));
  EXPECT_TRUE(table_->Writable(*blocked));
  table_->Write(*blocked);
  table_->Commit(std::move(blocked));
  EXPECT_TRUE(table_->CheckInvariants().ok());
}

// It held back whoever came first to a full ring, until the disk had the copy
// of steps that no item reads any more.
TEST_F(TableAppendTest, SnapshotHoldsBackWhoWouldOverwriteStepsOfItsItems) {
  Make(ModelSpec(2, 1 << 20), 1);
  const uint64_t half = table_->step_capacity() / 2;
  ModelBatch batch = NewBatch(1);
  AddSteps(batch, 0, 0, half, {0});
  Append(batch);
  batch = NewBatch(2);
  AddSteps(batch, 0, half, 2 * half);
  model_->AddItem(batch, 0, 2 * half - 4, 2 * half - 1, 1);
  Append(batch);
  auto snapshot = table_->BeginSnapshot();
  const auto reserve = [&](uint64_t sequence) {
    batch = NewBatch(sequence);
    AddSteps(batch, 0, (sequence - 1) * half, sequence * half);
    model_->Reserve(batch);
    auto reservation = table_->Reserve(kWriter, batch.wire);
    EXPECT_TRUE(reservation.ok()) << reservation.status();
    return *std::move(reservation);
  };
  auto unread = reserve(3);
  EXPECT_TRUE(table_->Writable(*unread));
  table_->Write(*unread);
  table_->Commit(std::move(unread));
  auto read = reserve(4);
  EXPECT_FALSE(table_->Writable(*read));
  table_->EndSnapshot(std::move(snapshot));
  EXPECT_TRUE(table_->Writable(*read));
}

// All of a batch are inserted under one hold of the lock.
TEST_F(TableFixture, ItemsOfABatchAreBounded) {
  ModelBatch batch = NewBatch(1);
  AddSteps(batch, 0, 0, 1, {0});
  for (int j = 0; j < 65537; ++j) model_->AddItem(batch, 0, 0, 0, 1);
  const absl::Status status = Try(batch);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("allowed is at most 65536"));
}

TEST(WriterBookTest, ForgetsTheWriterUnusedForLongest) {
  std::vector<char> region(WriterBook::kBytes);
  WriterBook book(region.data());
  uint64_t commit = 0;
  for (uint64_t id = 1; id <= WriterBook::kMaxWriters; ++id) {
    book.Commit(id, id, ++commit);
  }
  book.Commit(1, 2, ++commit);
  book.Commit(1000000, 1, ++commit);
  for (int life = 0; life < 2; ++life) {
    WriterBook again(region.data());
    if (life == 1) again.Recover();
    const WriterBook& known = life == 0 ? book : again;
    EXPECT_EQ(known.size(), WriterBook::kMaxWriters);
    EXPECT_EQ(known.Find(2), nullptr);
    ASSERT_NE(known.Find(1), nullptr);
    EXPECT_EQ(known.Find(1)->last_sequence, 2u);
    EXPECT_NE(known.Find(3), nullptr);
    EXPECT_NE(known.Find(1000000), nullptr);
  }
}

// 65,536 restarted actors with hundreds of streams each were gigabytes.
TEST(WriterBookTest, StreamsWithoutAStepInTheRingAreForgottenBeyondABound) {
  constexpr uint64_t kSteps = 64;
  std::vector<char> region(WriterBook::kBytes);
  std::vector<char> headers(kSteps * sizeof(StepHeader));
  StepRing ring(headers.data(), nullptr, kSteps, RowLayout({}, 0));
  WriterBook book(region.data());
  size_t most = 0;
  const auto append = [&](uint64_t id, uint64_t sequence, uint32_t stream) {
    WriterState& writer = book.Commit(id, sequence, ring.next_id() + 1);
    book.SetStream(writer, stream, {sequence, ring.Assign(1), 0});
    book.BoundStreams(ring);
    most = std::max(most, book.streams());
  };
  constexpr uint64_t kWriters = WriterBook::kMaxWriters / 2;
  for (uint64_t id = 1; id <= kWriters; ++id) {
    for (uint32_t s = 0; s < 5; ++s) append(id, s + 1, s);
  }
  EXPECT_EQ(most, kSteps + WriterBook::kMaxIdleStreams);
  EXPECT_EQ(book.Find(1)->streams.size(), 0u);
  EXPECT_EQ(book.Find(1)->last_sequence, 5u) << "which it needs to go on";
  EXPECT_EQ(book.Find(kWriters)->streams.size(), 5u);
  // One that has a step in the ring is never forgotten, nor counted twice.
  const size_t before = book.streams();
  append(kWriters, 6, 4);
  EXPECT_EQ(book.streams(), before);
}

TEST(WriterBookTest, TornSlotIsEmptyAndUsedAgain) {
  std::vector<char> region(WriterBook::kBytes);
  WriterBook book(region.data());
  for (uint64_t id = 1; id <= 3; ++id) book.Commit(id, 10 * id, id);
  region[sizeof(WriterSlot) + 9] ^= 1;  // Of the second writer's sequence.
  WriterBook again(region.data());
  again.Recover();
  EXPECT_EQ(again.size(), 2u);
  EXPECT_EQ(again.Find(2), nullptr);
  EXPECT_EQ(again.Commit(4, 40, 4).slot, 1u);
}

}  // namespace
}  // namespace qfleet
