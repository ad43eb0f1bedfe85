// Creation, draws and priorities of a table: edges, one by one. What it holds
// over time is in table_random_test.cc.

#include "replay_server/core/table.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/replay_server/core/table_fixture.h"

namespace qfleet {
namespace {

using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class TableTest : public TableFixture {};

TEST_F(TableTest, MaxBytesTooSmallSaysWhatIsNeeded) {
  const v1::TableSpec spec = ModelSpec(100, 5000);
  AnonymousStorage storage;
  auto table = Table::Create(spec, storage, 1);
  ASSERT_EQ(table.status().code(), absl::StatusCode::kInvalidArgument);
  // 100 items of 40 + 16 + 8 bytes and 11 of the tree (16 nodes of 64 bytes
  // make 10.24 each), and 64 steps of 64 + 4 + 16.
  EXPECT_THAT(std::string(table.status().message()),
              HasSubstr("max_bytes = 5000: allowed is at least 12876"));
  EXPECT_TRUE(Table::Create(ModelSpec(100, 12876), storage, 1).ok());
  AnonymousStorage another;
  EXPECT_FALSE(Table::Create(ModelSpec(100, 12875), another, 1).ok());
}

TEST_F(TableTest, HugeRowsAreRefusedWithoutOverflow) {
  v1::TableSpec spec = ModelSpec(4294967280, 1 << 30);
  auto* columns = spec.mutable_signature()->mutable_item_columns();
  for (int i = 0; i < 20; ++i) {
    v1::TensorSpec& column = *columns->Add();
    column.set_name("big" + std::string(1, static_cast<char>('a' + i)));
    column.set_dtype(v1::UINT8);
    column.add_shape(1 << 30);
  }
  AnonymousStorage storage;
  EXPECT_EQ(Table::Create(spec, storage, 1).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(TableTest, InvalidSpecIsRefused) {
  v1::TableSpec spec = ModelSpec(100, 1 << 20);
  spec.mutable_signature()->mutable_views(0)->set_column("nothing");
  AnonymousStorage storage;
  EXPECT_EQ(Table::Create(spec, storage, 1).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// The memory goal: 1.05 frames and 200 bytes for a step with its item.
TEST_F(TableTest, AtariStepWithItsItemFitsTheGoal) {
  v1::TableSpec spec = ModelSpec(1000, 1 << 30);
  v1::TableSignature& signature = *spec.mutable_signature();
  signature.mutable_step_columns(0)->clear_shape();
  signature.mutable_step_columns(0)->add_shape(84);
  signature.mutable_step_columns(0)->add_shape(84);
  AnonymousStorage storage;
  auto table = Table::Create(spec, storage, 1);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ((*table)->step_capacity(), 1000 * 5 / 4 + 1024);
  v1::AppendBatch batch;
  batch.set_sequence(1);
  batch.add_step_stream(0);
  batch.add_step_index(0);
  batch.add_step_starts_episode(true);
  batch.add_step_columns()->mutable_data()->resize(84 * 84);
  batch.add_step_columns()->mutable_data()->resize(8);
  batch.add_item_stream(0);
  batch.add_item_first(0);
  batch.add_item_last(0);
  batch.add_item_priority(1);
  batch.add_item_columns()->mutable_data()->resize(8);
  batch.add_item_columns()->mutable_data()->resize(8);
  ASSERT_TRUE((*table)->CheckBatch(batch).ok());
  auto reservation = (*table)->Reserve(1, batch);
  ASSERT_TRUE(reservation.ok());
  (*table)->Write(**reservation);
  (*table)->Commit(*std::move(reservation));
  EXPECT_GE((*table)->Stats().bytes(), 84u * 84);
  EXPECT_LE((*table)->Stats().bytes(), 1.05 * 84 * 84 + 200);
}

TEST_F(TableTest, GenerationsOfAnotherLifeAreStale) {
  Fill();
  const v1::SampleResponse before = Sample(50);
  Make(ModelSpec(100, 1 << 20), 2);  // The next life, with another seed.
  Fill();
  v1::UpdatePrioritiesRequest request;
  *request.mutable_slot() = before.slot();
  *request.mutable_generation() = before.generation();
  for (int j = 0; j < before.slot_size(); ++j) request.add_priority(9);
  const double mass = table_->Stats().mass();
  auto response = table_->UpdatePriorities(request);
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->stale(), 50u);
  EXPECT_EQ(table_->Stats().mass(), mass);
}

TEST_F(TableTest, MalformedPrioritiesChangeNothing) {
  Fill();
  const v1::SampleResponse drawn = Sample(1);
  const std::string stats = table_->Stats().SerializeAsString();
  for (float bad : {-1.0f, NAN, kInfinity, -kInfinity}) {
    v1::UpdatePrioritiesRequest request;
    for (float priority : {5.0f, bad}) {
      request.add_slot(drawn.slot(0));
      request.add_generation(drawn.generation(0));
      request.add_priority(priority);
    }
    auto response = table_->UpdatePriorities(request);
    EXPECT_EQ(response.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(response.status().message()),
                HasSubstr("priority[1]"));
    EXPECT_EQ(table_->Stats().SerializeAsString(), stats);
  }
  v1::UpdatePrioritiesRequest request;
  request.add_slot(0);
  EXPECT_EQ(table_->UpdatePriorities(request).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// The mass is positive and the total finite, whatever the exponent makes of it.
TEST_F(TableTest, ExtremePrioritiesStayDrawable) {
  v1::TableSpec spec = ModelSpec(100, 1 << 20);
  spec.mutable_selector()->set_alpha(1000);
  spec.mutable_selector()->set_epsilon(0);
  Make(spec, 1);
  for (float priority : {0.0f, 1e-38f, 3e38f}) {
    ModelBatch batch = NewBatch(1, model_->items() + 1);
    AddSteps(batch, 0, 0, 1, {0});
    model_->AddItem(batch, 0, 0, 0, priority);
    Append(batch);
    EXPECT_GT(table_->Stats().mass(), 0);
    EXPECT_TRUE(std::isfinite(table_->Stats().mass()));
    EXPECT_EQ(Sample(20).slot_size(), 20);
  }
  EXPECT_EQ(table_->Stats().size(), 3u);
}

TEST_F(TableTest, DrawOfNoneAnswersEvenIfEmpty) {
  EXPECT_EQ(table_->Draw(1).status().code(),
            absl::StatusCode::kFailedPrecondition);
  const v1::SampleResponse response = Sample(0);
  EXPECT_EQ(response.slot_size(), 0);
  EXPECT_EQ(response.views_size(), 4);
  EXPECT_EQ(table_->Stats().sampled(), 0u);
}

// Twelve items of masses 1 to 12 (epsilon 0, alpha 1); Pearson's statistic has
// 11 degrees of freedom, of which 31.3 is the 99.9th percentile.
TEST_F(TableTest, ItemsAreDrawnByTheirShareOfTheMass) {
  for (auto kind : {v1::Selector::PRIORITIZED, v1::Selector::UNIFORM}) {
    v1::TableSpec spec = ModelSpec(100, 1 << 20);
    spec.mutable_selector()->set_kind(kind);
    spec.mutable_selector()->set_alpha(1);
    spec.mutable_selector()->set_epsilon(0);
    Make(spec, 3);
    ModelBatch batch = NewBatch(1);
    AddSteps(batch, 0, 0, 12, {0});
    for (uint64_t i = 0; i < 12; ++i) {
      model_->AddItem(batch, 0, i, i, static_cast<float>(i + 1));
    }
    Append(batch);
    constexpr uint32_t kDraws = 60000;
    const v1::SampleResponse response = Sample(kDraws);
    EXPECT_EQ(response.stats().sampled(), 0u);
    EXPECT_EQ(table_->Stats().sampled(), kDraws);
    std::vector<double> counts(12);
    for (uint32_t slot : response.slot()) ++counts[slot];
    double statistic = 0;
    for (size_t i = 0; i < 12; ++i) {
      const double mass =
          kind == v1::Selector::UNIFORM ? 1 : static_cast<double>(i + 1);
      const double expected = kDraws * mass / response.stats().mass();
      statistic += std::pow(counts[i] - expected, 2) / expected;
    }
    EXPECT_LT(statistic, 31.3);
  }
}

TEST_F(TableTest, SameSeedDrawsTheSame) {
  std::vector<std::string> draws;
  for (int round = 0; round < 2; ++round) {
    Make(ModelSpec(100, 1 << 20), 12);
    Fill();
    draws.push_back(Sample(100).SerializeAsString());
  }
  EXPECT_EQ(draws[0], draws[1]);
}

// Shard reuses the response of the sample before.
TEST_F(TableTest, GatherReplacesWhatTheResponseHeld) {
  Fill();
  v1::SampleResponse response = Sample(90);
  auto drawing = table_->Draw(7);
  ASSERT_TRUE(drawing.ok());
  v1::SampleResponse fresh;
  table_->Gather(**drawing, response);
  table_->Gather(**drawing, fresh);
  EXPECT_EQ(response.SerializeAsString(), fresh.SerializeAsString());
  table_->Release(*std::move(drawing));
}

// All are written under one hold of the lock.
TEST_F(TableTest, PrioritiesOfARequestAreBounded) {
  v1::UpdatePrioritiesRequest request;
  request.mutable_slot()->Resize(131073, 0);
  request.mutable_generation()->Resize(131073, 0);
  request.mutable_priority()->Resize(131073, 1);
  const absl::Status status = table_->UpdatePriorities(request).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("allowed is at most 131072"));
}

}  // namespace
}  // namespace qfleet
