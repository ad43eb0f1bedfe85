// The selector FIFO and the remover LOWEST_PRIORITY, in memory and across
// lives.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "replay_server/core/table.h"
#include "tests/replay_server/core/table_fixture.h"

namespace qfleet {
namespace {

using testing::ElementsAre;

class TableSelectorTest : public TableFixture {
 protected:
  void Open(const v1::TableSpec& spec) {
    table_.reset();
    storage_ =
        std::make_unique<MappedStorage>(path_, MappedStorage::Mode::kServe);
    auto table = Table::Create(spec, *storage_, 1);
    ASSERT_TRUE(table.ok()) << table.status();
    table_ = *std::move(table);
    ASSERT_TRUE(table_->CheckInvariants().ok()) << table_->CheckInvariants();
  }

  // One batch: an episode of a step for each priority, and an item over it.
  // Uids count on.
  void Insert(const std::vector<float>& priorities) {
    v1::AppendBatch batch;
    batch.set_sequence(++sequence_);
    for (int c = 0; c < 2; ++c) {
      batch.add_step_columns();
      batch.add_item_columns();
    }
    for (float priority : priorities) {
      batch.add_step_stream(0);
      batch.add_step_index(next_);
      batch.add_step_starts_episode(true);
      batch.mutable_step_columns(0)->mutable_data()->append(6, 'x');
      batch.mutable_step_columns(1)->mutable_data()->append(8, 'y');
      batch.add_item_stream(0);
      batch.add_item_first(next_);
      batch.add_item_last(next_);
      batch.add_item_priority(priority);
      const auto uid = static_cast<int64_t>(next_++);
      batch.mutable_item_columns(0)->mutable_data()->append(
          reinterpret_cast<const char*>(&uid), 8);
      batch.mutable_item_columns(1)->mutable_data()->append(8, 'z');
    }
    ASSERT_TRUE(table_->CheckBatch(batch).ok());
    auto reservation = table_->Reserve(kWriter, batch);
    ASSERT_TRUE(reservation.ok()) << reservation.status();
    table_->Write(**reservation);
    table_->Commit(*std::move(reservation));
    ASSERT_TRUE(table_->CheckInvariants().ok()) << table_->CheckInvariants();
  }

  std::vector<int64_t> Draw(uint32_t count, v1::SampleResponse* all = nullptr) {
    const v1::SampleResponse drawn = Sample(count);
    EXPECT_TRUE(table_->CheckInvariants().ok()) << table_->CheckInvariants();
    std::vector<int64_t> uids(count);
    std::memcpy(uids.data(), drawn.item_columns(0).data().data(), 8 * count);
    if (all != nullptr) *all = drawn;
    return uids;
  }

  uint64_t sequence_ = 0;
  uint64_t next_ = 0;
};

v1::TableSpec QueueSpec(uint32_t times) {
  v1::TableSpec spec = ModelSpec(10, 1 << 20);
  spec.mutable_selector()->set_kind(v1::Selector::FIFO);
  spec.mutable_selector()->set_max_times_sampled(times);
  return spec;
}

TEST_F(TableSelectorTest, FifoDrawsInOrderAndRemoves) {
  Open(QueueSpec(0));
  EXPECT_EQ(table_->Drawable(), 0u);
  Insert({1, 1, 1, 1});
  EXPECT_THAT(Draw(3), ElementsAre(0, 1, 2));
  EXPECT_EQ(table_->Stats().size(), 1u);
  Insert({1});
  EXPECT_THAT(Draw(2), ElementsAre(3, 4));
  EXPECT_EQ(table_->Draw(1).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(table_->Stats().sampled(), 5u);
}

TEST_F(TableSelectorTest, FifoDrawsEachItemSoManyTimesAcrossLives) {
  Open(QueueSpec(3));
  Insert({1, 1, 1});
  EXPECT_EQ(table_->Drawable(), 9u);
  EXPECT_THAT(Draw(4), ElementsAre(0, 0, 0, 1));
  EXPECT_EQ(table_->Drawable(), 5u);
  Open(QueueSpec(3));
  EXPECT_EQ(table_->Drawable(), 5u);
  EXPECT_THAT(Draw(5), ElementsAre(1, 1, 2, 2, 2));
  Open(QueueSpec(3));
  EXPECT_EQ(table_->Stats().size(), 0u);
  EXPECT_EQ(table_->Stats().sampled(), 9u);
}

// The count of what could be drawn was too high, and a draw of all went beyond
// the last item.
TEST_F(TableSelectorTest, KilledInMidDrawLeavesAQueueThatCanBeDrawn) {
  Open(QueueSpec(3));
  Insert({1, 1, 1, 1});
  const std::string before = Read("items");
  EXPECT_THAT(Draw(7), ElementsAre(0, 0, 0, 1, 1, 1, 2));
  const std::string after = Read("items");
  // The mark of the last item that was drawn got there, that of the first one
  // did not: pages reach the disk in any order.
  Overwrite("items", 0, before.substr(0, 8));
  Open(QueueSpec(3));
  EXPECT_EQ(table_->Drawable(), 5u);
  EXPECT_THAT(Draw(5), ElementsAre(2, 2, 3, 3, 3));
  // All marks but the last.
  const size_t row =
      std::mismatch(after.begin() + 8, after.end(), before.begin() + 8).first -
      after.begin();
  const size_t stride = row / 8 * 8;
  Overwrite("items", 0,
            after.substr(0, 2 * stride) + before.substr(2 * stride));
  Open(QueueSpec(3));
  EXPECT_EQ(table_->Drawable(), 6u);
  EXPECT_THAT(Draw(6), ElementsAre(2, 2, 2, 3, 3, 3));
}

TEST_F(TableSelectorTest, FullFifoLosesTheOldest) {
  Open(QueueSpec(1));
  for (int i = 0; i < 12; ++i) Insert({1});
  EXPECT_EQ(table_->Drawable(), 10u);
  EXPECT_THAT(Draw(2), ElementsAre(2, 3));
}

TEST_F(TableSelectorTest, LowestPriorityGoesFirstOfEqualsTheOldest) {
  v1::TableSpec spec = ModelSpec(4, 1 << 20);
  spec.set_remover(v1::LOWEST_PRIORITY);
  Open(spec);
  Insert({5, 1, 1, 7});
  Insert({3});  // For uid 1.
  v1::SampleResponse drawn;
  std::vector<int64_t> uids = Draw(200, &drawn);
  EXPECT_THAT(std::set<int64_t>(uids.begin(), uids.end()),
              ElementsAre(0, 2, 3, 4));
  // Uid 3 gets the lowest priority.
  v1::UpdatePrioritiesRequest request;
  for (size_t j = 0; j < 200 && request.slot_size() == 0; ++j) {
    if (uids[j] != 3) continue;
    request.add_slot(drawn.slot(static_cast<int>(j)));
    request.add_generation(drawn.generation(static_cast<int>(j)));
    request.add_priority(0);
  }
  ASSERT_EQ(table_->UpdatePriorities(request)->applied(), 1u);
  Open(spec);
  Insert({2});
  EXPECT_EQ(table_->UpdatePriorities(request)->stale(), 1u);
  uids = Draw(200);
  EXPECT_THAT(std::set<int64_t>(uids.begin(), uids.end()),
              ElementsAre(0, 2, 4, 5));
}

// What was written of it came to life one life later, beside what was sent
// again, once the count of inserts had passed it.
TEST_F(TableSelectorTest, LowestPriorityBatchKilledBeforeItsCommitStaysAway) {
  v1::TableSpec spec = ModelSpec(10, 1 << 20);
  spec.set_remover(v1::LOWEST_PRIORITY);
  Open(spec);
  Insert({5, 5});
  const std::string state = Read("state"), writers = Read("writers");
  const uint64_t sequence = sequence_, next = next_;
  Insert({6, 7});
  Overwrite("state", 0, state);
  Overwrite("writers", 0, writers);
  Open(spec);
  EXPECT_EQ(table_->Stats().size(), 2u);
  sequence_ = sequence;
  next_ = next;
  Insert({6, 7});
  Open(spec);
  EXPECT_EQ(table_->Stats().size(), 4u);
  EXPECT_EQ(table_->recovery().dropped, 0u);
}

// Against a plain list, with steps leaving the ring as well.
TEST_F(TableSelectorTest, LowestPriorityAgainstAModel) {
  v1::TableSpec spec = ModelSpec(16, 1 << 20);
  spec.set_remover(v1::LOWEST_PRIORITY);
  Open(spec);
  const uint64_t ring = table_->step_capacity();
  std::map<int64_t, float> model;
  Random random(5);
  for (int i = 0; i < 3000; ++i) {
    std::vector<float> priorities;
    for (uint64_t n = 1 + random.Below(3); n > 0; --n) {
      priorities.push_back(static_cast<float>(random.Below(50)));
    }
    for (size_t j = 0; j < priorities.size(); ++j) {
      const auto uid = static_cast<int64_t>(next_ + j);
      const auto gone = static_cast<int64_t>(next_ + priorities.size());
      std::erase_if(model, [&](const auto& item) {
        return item.first + static_cast<int64_t>(ring) < gone;
      });
      if (model.size() == 16) {
        auto lowest = model.begin();
        for (auto at = model.begin(); at != model.end(); ++at) {
          if (at->second < lowest->second) lowest = at;
        }
        model.erase(lowest);
      }
      model[uid] = priorities[j];
    }
    Insert(priorities);
    if (i % 100 == 0) Open(spec);
    ASSERT_EQ(table_->Stats().size(), model.size()) << i;
    for (int64_t uid : Draw(8)) ASSERT_TRUE(model.contains(uid)) << i;
  }
}

}  // namespace
}  // namespace qfleet
