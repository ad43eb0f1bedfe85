#include "replay_client/sample_planner.h"

#include <cmath>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/grpc.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using ::testing::HasSubstr;

v1::TableStats Stats(double mass, uint64_t size, uint64_t inserted = 0,
                     uint64_t sampled = 0) {
  v1::TableStats stats;
  stats.set_mass(mass);
  stats.set_size(size);
  stats.set_inserted(inserted);
  stats.set_sampled(sampled);
  return stats;
}

SamplerOptions Options(int shards, uint32_t batch_size, uint32_t prefetch = 1) {
  SamplerOptions options;
  options.shards.resize(shards);
  options.batch_size = batch_size;
  options.prefetch = prefetch;
  v1::TensorSpec& item = *options.signature.add_item_columns();
  item.set_name("action");
  item.set_dtype(v1::UINT8);
  return options;
}

// Copies what has come, up to the next whole batch; nullptr: there is none yet.
std::unique_ptr<SampleBatch> TakeBatch(SamplePlanner& planner,
                                       uint32_t batch_size) {
  while (std::optional<ArrivedPart> arrived = planner.TakeArrived()) {
    AppendRows(*arrived, batch_size);
    if (arrived->last) return FinishBatch(*arrived->batch, arrived->size);
  }
  return nullptr;
}

// Plays the shards: every draw is answered by rows of mass `mass`.
class SamplePlannerTest : public ::testing::Test {
 protected:
  absl::Time now_ = absl::UnixEpoch();

  v1::SampleDraw Next(SamplePlanner& planner, int shard) {
    EXPECT_TRUE(planner.HasRequest(shard));
    v1::SampleDraw draw;
    planner.NextRequest(shard, draw);
    return draw;
  }
  absl::Status Answer(SamplePlanner& planner, int shard,
                      const v1::SampleResponse& response) {
    return planner.Answer(
        shard, *SampleAnswer::Decode(SerializeMessage(response)), now_);
  }
  v1::SampleResponse Rows(uint32_t count, double mass,
                          const v1::TableStats& stats) {
    v1::SampleResponse response;
    *response.mutable_stats() = stats;
    for (uint32_t j = 0; j < count; ++j) {
      response.add_slot(j);
      response.add_generation(1);
      response.add_mass(mass);
    }
    if (count > 0) {
      response.add_item_columns()->set_data(std::string(count, 'a'));
    }
    return response;
  }
};

TEST_F(SamplePlannerTest, RowsAreAllottedByMass) {
  SamplePlanner planner(Options(3, 60000));
  planner.Connect(0, Stats(1, 1), now_);
  planner.Connect(1, Stats(0, 0), now_);
  planner.Connect(2, Stats(3, 1), now_);
  planner.Plan(0, now_);
  const double first = Next(planner, 0).count();
  EXPECT_EQ(Next(planner, 1).count(), 0u);  // Only for its stats.
  const double third = Next(planner, 2).count();
  EXPECT_EQ(first + third, 60000);
  const double sigma = std::sqrt(60000 * 0.25 * 0.75);
  EXPECT_LT(std::abs(first - 15000), 4 * sigma);
}

// Stale masses: the shard has 10 by now where 1 was known. The probability is
// the one that was really used.
TEST_F(SamplePlannerTest, ProbabilityIsTheOneUsedHoweverStaleTheMass) {
  SamplePlanner planner(Options(2, 8));
  planner.Connect(0, Stats(1, 100), now_);
  planner.Connect(1, Stats(3, 100), now_);
  planner.Plan(0, now_);
  const double shard_mass[] = {10, 3};
  for (int shard : {0, 1}) {
    const uint32_t count = Next(planner, shard).count();
    ASSERT_GT(count, 0u);
    v1::SampleResponse response =
        Rows(count, 0.5, Stats(shard_mass[shard], 150));
    ASSERT_TRUE(Answer(planner, shard, response).ok());
  }
  auto merged = TakeBatch(planner, 8);
  ASSERT_NE(merged, nullptr);
  EXPECT_EQ(TakeBatch(planner, 8), nullptr);
  ASSERT_EQ(merged->rows(), 8);
  EXPECT_EQ(merged->columns[0].size(), 8u);
  for (int j = 0; j < 8; ++j) {
    const double expected = merged->keys[j].shard == 0 ? 300 * 0.25 * 0.5 / 10
                                                       : 300 * 0.75 * 0.5 / 3;
    EXPECT_DOUBLE_EQ(merged->scaled_probability[j], expected);
  }
}

TEST_F(SamplePlannerTest, LimitedDrawIsAskedAgainOfTheSameShard) {
  SamplePlanner planner(Options(2, 8));
  planner.Connect(0, Stats(1, 10, 10, 5), now_);
  planner.Connect(1, Stats(1, 10, 20, 7), now_);
  planner.Plan(0, now_);
  const v1::SampleDraw first = Next(planner, 0);
  EXPECT_EQ(first.others_inserted(), 20u);
  EXPECT_EQ(first.others_sampled(), 7u);
  EXPECT_EQ(first.others_size(), 10u);
  Next(planner, 1);
  v1::SampleResponse rows = Rows(8 - first.count(), 1, Stats(1, 11, 30, 9));
  ASSERT_TRUE(Answer(planner, 1, rows).ok());
  v1::SampleResponse limited;
  limited.set_limited(true);
  *limited.mutable_stats() = Stats(1, 10, 10, 5);
  ASSERT_TRUE(Answer(planner, 0, limited).ok());
  EXPECT_TRUE(planner.waits_for_limiter());
  const v1::SampleDraw second = Next(planner, 0);
  EXPECT_EQ(second.count(), first.count());
  EXPECT_EQ(second.others_inserted(), 30u);  // With the newest totals.
  EXPECT_FALSE(planner.HasRequest(1));
}

// A queue that had fewer items than were asked for was asked for them for ever,
// while another one was full and its writers were held back.
TEST_F(SamplePlannerTest, WhatAShardHasTooFewOfIsAllottedAnew) {
  SamplePlanner planner(Options(2, 64));
  planner.Connect(0, Stats(30, 30), now_);
  planner.Connect(1, Stats(30, 30), now_);
  planner.Plan(0, now_);
  const uint32_t first = Next(planner, 0).count();
  ASSERT_TRUE(
      Answer(planner, 1, Rows(Next(planner, 1).count(), 1, Stats(60, 60)))
          .ok());
  v1::SampleResponse limited;
  limited.set_limited(true);
  limited.set_too_few(true);
  *limited.mutable_stats() = Stats(1, 1);
  ASSERT_TRUE(Answer(planner, 0, limited).ok());
  EXPECT_FALSE(planner.HasRequest(0));
  planner.Plan(0, now_);
  ASSERT_TRUE(planner.HasRequest(1));
  EXPECT_GT(Next(planner, 1).count(), first / 2);  // It has 60 of 61.
}

// Four batches were asked for at once, for ever, of a queue that never held so
// many: its writers waited for the samples, and those for the writers.
TEST_F(SamplePlannerTest, AShortQueueIsAskedForOneBatchAtATime) {
  SamplePlanner planner(Options(1, 64, /*prefetch=*/4));
  planner.Connect(0, Stats(129, 129), now_);
  v1::SampleResponse limited;
  limited.set_limited(true);
  limited.set_too_few(true);
  *limited.mutable_stats() = Stats(129, 129);
  planner.Plan(0, now_);
  EXPECT_EQ(Next(planner, 0).count(), 256u);
  ASSERT_TRUE(Answer(planner, 0, limited).ok());
  planner.Plan(0, now_);
  EXPECT_EQ(Next(planner, 0).count(), 128u);
  ASSERT_TRUE(Answer(planner, 0, limited).ok());
  planner.Plan(0, now_);
  EXPECT_EQ(Next(planner, 0).count(), 64u);
  ASSERT_TRUE(Answer(planner, 0, Rows(64, 1, Stats(100, 100))).ok());
  // And for more at once where it has more.
  for (uint32_t count : {64u, 128u}) {
    EXPECT_EQ(Next(planner, 0).count(), count);
    ASSERT_TRUE(Answer(planner, 0, Rows(count, 1, Stats(300, 300))).ok());
  }
  EXPECT_FALSE(planner.HasRequest(0));
  while (TakeBatch(planner, 64) != nullptr) {
  }
  planner.Plan(0, now_);
  EXPECT_EQ(Next(planner, 0).count(), 256u);
}

// One batch of 64 was asked for at once, for ever, while the limiter held the
// writers of a queue of 22.
TEST_F(SamplePlannerTest, AQueueShorterThanABatchIsDrawnInParts) {
  SamplePlanner planner(Options(1, 64));
  planner.Connect(0, Stats(22, 22), now_);
  v1::SampleResponse limited;
  limited.set_limited(true);
  limited.set_too_few(true);
  *limited.mutable_stats() = Stats(22, 22);
  for (uint32_t count : {64u, 32u}) {
    planner.Plan(0, now_);
    EXPECT_EQ(Next(planner, 0).count(), count);
    ASSERT_TRUE(Answer(planner, 0, limited).ok());
    // What else was under way has too few as well.
    while (planner.HasRequest(0)) {
      Next(planner, 0);
      ASSERT_TRUE(Answer(planner, 0, limited).ok());
    }
  }
  planner.Plan(0, now_);
  uint32_t got = 0;
  while (planner.HasRequest(0)) {
    EXPECT_EQ(Next(planner, 0).count(), 16u);
    got += 16;
    ASSERT_TRUE(Answer(planner, 0, Rows(16, 1, Stats(22, 22))).ok());
  }
  EXPECT_EQ(got, 64u);
  auto batch = TakeBatch(planner, 64);
  ASSERT_NE(batch, nullptr);
  EXPECT_EQ(batch->rows(), 64);
}

TEST_F(SamplePlannerTest, TellsTheAgeOfTheOldestMassThatItAllotsBy) {
  SamplePlanner planner(Options(2, 8));
  planner.Connect(0, Stats(1, 1), now_);
  planner.Connect(1, Stats(1, 1), now_ + absl::Seconds(2));
  planner.Plan(0, now_ + absl::Seconds(3));
  EXPECT_EQ(planner.mass_age(), absl::Seconds(3));
}

TEST_F(SamplePlannerTest, LostPartIsAllottedAnewOverWhatIsLeft) {
  SamplePlanner planner(Options(2, 8));
  planner.Connect(0, Stats(1, 10), now_);
  planner.Connect(1, Stats(1, 10), now_);
  planner.Plan(0, now_);
  const uint32_t lost = Next(planner, 0).count();
  const uint32_t kept = Next(planner, 1).count();
  ASSERT_GT(lost, 0u);
  v1::SampleResponse rows = Rows(kept, 1, Stats(1, 10));
  ASSERT_TRUE(Answer(planner, 1, rows).ok());
  EXPECT_EQ(TakeBatch(planner, 8), nullptr);  // Its rows are copied already.
  planner.Disconnect(0);
  planner.Plan(0, now_);
  EXPECT_EQ(Next(planner, 1).count(), lost);
  rows = Rows(lost, 1, Stats(1, 10));
  ASSERT_TRUE(Answer(planner, 1, rows).ok());
  auto merged = TakeBatch(planner, 8);
  ASSERT_NE(merged, nullptr);
  ASSERT_EQ(merged->rows(), 8);
  for (const SampleKey& key : merged->keys) EXPECT_EQ(key.shard, 1u);
  // The first rows were drawn with half the cluster's mass, the rest with all.
  EXPECT_DOUBLE_EQ(merged->scaled_probability.front(), 10 * 0.5);
  EXPECT_DOUBLE_EQ(merged->scaled_probability.back(), 10 * 1.0);
}

TEST_F(SamplePlannerTest, IdleShardsAreAskedForStatsOneAtATime) {
  SamplePlanner planner(Options(1, 8));
  planner.Connect(0, Stats(0, 0), now_);
  for (int i = 0; i < 3; ++i) {
    now_ += absl::Seconds(1);
    planner.Plan(0, now_);
  }
  EXPECT_EQ(Next(planner, 0).count(), 0u);
  EXPECT_FALSE(planner.HasRequest(0));
  v1::SampleResponse stats = Rows(0, 0, Stats(2, 1));
  ASSERT_TRUE(Answer(planner, 0, stats).ok());
  planner.Plan(0, now_);
  EXPECT_EQ(Next(planner, 0).count(), 8u);
}

TEST_F(SamplePlannerTest, RefillsToPrefetchOnceHalfIsUsedUpInOneRequest) {
  SamplePlanner planner(Options(1, 8, 4));
  planner.Connect(0, Stats(1, 1), now_);
  planner.Plan(3, now_);  // Three of four are ready: none is asked for yet.
  EXPECT_FALSE(planner.HasRequest(0));
  planner.Plan(2, now_);
  EXPECT_EQ(Next(planner, 0).count(), 16u);
  EXPECT_FALSE(planner.HasRequest(0));
  planner.Plan(0, now_);  // Two are on their way.
  EXPECT_EQ(Next(planner, 0).count(), 16u);
  planner.Plan(0, now_);
  EXPECT_FALSE(planner.HasRequest(0));
}

// A batch whose rows are all here counts until they are taken.
TEST_F(SamplePlannerTest, RowsThatAreNotCopiedYetAreNotAskedForAgain) {
  SamplePlanner planner(Options(1, 8, 2));
  planner.Connect(0, Stats(1, 1), now_);
  planner.Plan(0, now_);
  ASSERT_EQ(Next(planner, 0).count(), 16u);
  ASSERT_TRUE(Answer(planner, 0, Rows(16, 1, Stats(1, 1))).ok());
  planner.Plan(0, now_);
  EXPECT_FALSE(planner.HasRequest(0));
  ASSERT_NE(TakeBatch(planner, 8), nullptr);
  planner.Plan(0, now_);
  EXPECT_EQ(Next(planner, 0).count(), 8u);
}

// The last shard was lost before the rows were copied: the cluster had no items
// then, all weights were 0 / 0.
TEST_F(SamplePlannerTest, ALostShardsRowsKeepTheirProbabilities) {
  SamplePlanner planner(Options(1, 8));
  planner.Connect(0, Stats(1, 10), now_);
  planner.Plan(0, now_);
  Next(planner, 0);
  ASSERT_TRUE(Answer(planner, 0, Rows(8, 0.5, Stats(2, 10))).ok());
  planner.Disconnect(0);
  auto batch = TakeBatch(planner, 8);
  ASSERT_NE(batch, nullptr);
  EXPECT_DOUBLE_EQ(batch->scaled_probability[0], 10 * 0.5 / 2);
}

// A table of keys and priorities alone.
TEST_F(SamplePlannerTest, ASignatureNeedsNoColumns) {
  SamplerOptions options = Options(1, 8);
  options.signature.clear_item_columns();
  SamplePlanner planner(options);
  planner.Connect(0, Stats(1, 10), now_);
  planner.Plan(0, now_);
  v1::SampleResponse rows = Rows(Next(planner, 0).count(), 1, Stats(1, 10));
  rows.clear_item_columns();
  ASSERT_TRUE(Answer(planner, 0, rows).ok());
  auto batch = TakeBatch(planner, 8);
  ASSERT_NE(batch, nullptr);
  EXPECT_EQ(batch->rows(), 8);
  EXPECT_TRUE(batch->columns.empty());
}

// One answer for several batches: each row is in one of them.
TEST_F(SamplePlannerTest, RowsOfOneAnswerAreDealtToTheirBatches) {
  SamplePlanner planner(Options(2, 8, 4));
  planner.Connect(0, Stats(1, 1), now_);
  planner.Connect(1, Stats(3, 3), now_);
  planner.Plan(0, now_);
  uint32_t rows = 0;
  for (int shard = 0; shard < 2; ++shard) {
    const uint32_t count = Next(planner, shard).count();
    rows += count;
    v1::SampleResponse response = Rows(count, 1, Stats(1, 1));
    for (uint32_t j = 0; j < count; ++j) {
      (*response.mutable_item_columns(0)->mutable_data())[j] =
          static_cast<char>(j + 100 * shard);
    }
    ASSERT_TRUE(Answer(planner, shard, response).ok());
  }
  EXPECT_EQ(rows, 4u * 8);
  std::set<std::pair<uint32_t, uint32_t>> seen;
  int batches = 0;
  while (std::unique_ptr<SampleBatch> merged = TakeBatch(planner, 8)) {
    ASSERT_EQ(merged->rows(), 8);
    ASSERT_EQ(merged->columns[0].size(), 8u);
    for (int j = 0; j < 8; ++j) {
      // The column's row goes with its key.
      EXPECT_EQ(static_cast<uint32_t>(merged->columns[0][j]),
                merged->keys[j].slot + 100 * merged->keys[j].shard);
      seen.insert({merged->keys[j].shard, merged->keys[j].slot});
    }
    ++batches;
  }
  EXPECT_EQ(batches, 4);
  EXPECT_EQ(seen.size(), 4u * 8);
}

// Several batches of large rows in one answer would be beyond the largest
// message, which ends the stream; a batch of them in one is slow.
TEST_F(SamplePlannerTest, LargeRowsAreAskedForInSeveralAnswers) {
  SamplerOptions options = Options(1, 512, 4);
  // 28 kB a row: a batch is 14 MB, 74 rows fit in 2 MiB, 148 in 4.
  options.signature.mutable_item_columns(0)->add_shape(84 * 84 * 4);
  SamplePlanner planner(options);
  planner.Connect(0, Stats(1, 1), now_);
  planner.Plan(0, now_);
  std::vector<uint32_t> counts;
  while (planner.HasRequest(0)) counts.push_back(Next(planner, 0).count());
  ASSERT_EQ(counts.size(), 4u * 6);
  for (size_t i = 0; i < counts.size(); ++i) {
    EXPECT_EQ(counts[i], i % 6 == 5 ? 512u - 5 * 74 : 74u);
  }
}

// Rows of 3 MB: an answer holds one.
TEST_F(SamplePlannerTest, BatchThatCameInSeveralAnswersIsWhole) {
  constexpr size_t kRowBytes = 3 << 20;
  SamplerOptions options = Options(1, 3);
  options.signature.mutable_item_columns(0)->add_shape(kRowBytes);
  SamplePlanner planner(options);
  planner.Connect(0, Stats(8, 4), now_);
  planner.Plan(0, now_);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(TakeBatch(planner, 3), nullptr);
    ASSERT_EQ(Next(planner, 0).count(), 1u);
    v1::SampleResponse response = Rows(1, 2, Stats(8, 4));
    response.mutable_item_columns(0)->set_data(
        std::string(kRowBytes, static_cast<char>('a' + i)));
    response.set_slot(0, i);
    ASSERT_TRUE(Answer(planner, 0, response).ok());
  }
  auto merged = TakeBatch(planner, 3);
  ASSERT_NE(merged, nullptr);
  ASSERT_EQ(merged->rows(), 3);
  ASSERT_EQ(merged->columns[0].size(), 3 * kRowBytes);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(merged->keys[i].slot, static_cast<uint32_t>(i));
    EXPECT_EQ(merged->scaled_probability[i], 1);  // 4 items, 2 of a mass of 8.
    EXPECT_EQ(merged->columns[0][i * kRowBytes], 'a' + i);
    EXPECT_EQ(merged->columns[0][(i + 1) * kRowBytes - 1], 'a' + i);
  }
}

// A row beyond that bound is asked for alone.
TEST_F(SamplePlannerTest, RowLargerThanAnAnswerIsAskedForAlone) {
  SamplerOptions options = Options(1, 2);
  options.signature.mutable_item_columns(0)->add_shape(5 << 20);
  SamplePlanner planner(options);
  planner.Connect(0, Stats(1, 1), now_);
  planner.Plan(0, now_);
  EXPECT_EQ(Next(planner, 0).count(), 1u);
  EXPECT_EQ(Next(planner, 0).count(), 1u);
  EXPECT_FALSE(planner.HasRequest(0));
}

TEST_F(SamplePlannerTest, ResponseThatDoesNotFitIsAnError) {
  SamplePlanner planner(Options(1, 8));
  v1::SampleResponse none;
  EXPECT_TRUE(absl::IsInternal(Answer(planner, 0, none)));
  planner.Connect(0, Stats(1, 1), now_);
  planner.Plan(0, now_);
  Next(planner, 0);
  v1::SampleResponse rows = Rows(8, 1, Stats(1, 1));
  rows.mutable_item_columns(0)->mutable_data()->pop_back();
  absl::Status status = Answer(planner, 0, rows);
  EXPECT_TRUE(absl::IsInternal(status));
  EXPECT_THAT(status.message(), HasSubstr("action has 7 bytes"));
}

// A shard that lost its memory must not make the limiter's difference jump.
TEST(ClusterStatsTest, CountersOfEarlierLivesStayInTheTotals) {
  ClusterStats stats(2);
  const absl::Time now = absl::UnixEpoch();
  stats.Update(0, Stats(1, 10, 100, 800), now);
  stats.Update(1, Stats(1, 10, 100, 10), now);
  stats.Disconnect(0);
  EXPECT_EQ(stats.View().inserted, 200u);
  EXPECT_EQ(stats.View().shards, 1u);
  EXPECT_EQ(stats.size(), 10u);
  v1::TableStats next = Stats(0, 0, 0, 0);
  next.set_life(2);
  stats.Update(0, next, now);
  EXPECT_EQ(stats.View().inserted, 200u);
  EXPECT_EQ(stats.View().sampled, 810u);
  v1::SampleDraw draw;
  stats.FillOthers(0, draw);  // What shard 0 does not know itself.
  EXPECT_EQ(draw.others_inserted(), 200u);
  EXPECT_EQ(draw.others_sampled(), 810u);
  next.set_inserted(5);
  next.set_sampled(3);
  stats.Update(0, next, now);
  stats.FillOthers(1, draw);
  EXPECT_EQ(draw.others_inserted(), 105u);
  EXPECT_EQ(draw.others_sampled(), 803u);
}

// Of a shard that counted up to `count` (so many items, twice as many samples,
// thrice as many steps), in a life that began at `start`.
v1::TableStats StatsOfLife(uint64_t life, uint64_t start, uint64_t count) {
  v1::TableStats stats;
  stats.set_life(life);
  stats.set_start_inserted(start);
  stats.set_inserted(count);
  stats.set_start_sampled(2 * start);
  stats.set_sampled(2 * count);
  stats.set_start_steps(3 * start);
  stats.set_steps(3 * count);
  stats.set_start_episodes(start);
  stats.set_episodes(count);
  return stats;
}

// What a checkpoint held was counted twice, environment steps too.
TEST(ClusterStatsTest, ARestoredShardIsNotCountedTwice) {
  ClusterStats stats(1);
  const absl::Time now = absl::UnixEpoch();
  const auto expect = [&stats](uint64_t count, uint64_t unknown_to_shard) {
    const ReplayView view = stats.View();
    EXPECT_EQ(view.inserted, count);
    EXPECT_EQ(view.sampled, 2 * count);
    EXPECT_EQ(view.steps, 3 * count);
    EXPECT_EQ(view.episodes, count);
    EXPECT_THAT(view.shard_env_steps,
                ::testing::ElementsAre(EnvSteps(3 * count, count)));
    v1::SampleDraw draw;
    stats.FillOthers(0, draw);
    EXPECT_EQ(draw.others_inserted(), unknown_to_shard);
    EXPECT_EQ(draw.others_sampled(), 2 * unknown_to_shard);
  };
  stats.Update(0, StatsOfLife(1, 20, 100), now);
  expect(100, 0);
  stats.Update(0, StatsOfLife(2, 60, 60), now);  // Its checkpoint was of then.
  expect(100, 40);
  stats.Update(0, StatsOfLife(2, 60, 70), now);
  expect(110, 40);
  // Killed, and nothing is lost: it had 5 more than it had told.
  stats.Update(0, StatsOfLife(3, 75, 80), now);
  expect(120, 40);
  // And that has caught up before anyone saw it.
  stats.Update(0, StatsOfLife(4, 60, 90), now);
  expect(150, 60);
  stats.Update(0, StatsOfLife(5, 0, 200), now);  // Of memory alone.
  expect(350, 150);
}

// What the dead life of a shard had counted was lost with the learner's, and
// the limiter's difference jumped after all.
TEST(ClusterStatsTest, ASamplerOfALaterLifeCountsOn) {
  const absl::Time now = absl::UnixEpoch();
  ClusterStats before(2);
  before.Update(0, StatsOfLife(1, 0, 100), now);
  before.Update(0, StatsOfLife(2, 0, 10), now);
  before.Update(1, StatsOfLife(7, 0, 50), now);
  ClusterStats after(2, before.Known());
  EXPECT_EQ(after.View().inserted, 160u);
  EXPECT_EQ(after.View().shard_env_steps, before.View().shard_env_steps);
  EXPECT_EQ(after.View().shards, 0u);
  EXPECT_FALSE(after.connected(0));
  v1::SampleDraw draw;
  after.FillOthers(1, draw);
  EXPECT_EQ(draw.others_inserted(), 110u);
  // Shard 0 lived on, shard 1 lost its memory meanwhile.
  after.Update(0, StatsOfLife(2, 0, 15), now);
  after.Update(1, StatsOfLife(8, 0, 3), now);
  EXPECT_EQ(after.View().inserted, 100u + 15 + 50 + 3);
  EXPECT_EQ(after.Known()[0].earlier().inserted(), 100u);
  // Of a config with another number of shards.
  EXPECT_EQ(ClusterStats(1, before.Known()).View().inserted, 110u);
  EXPECT_EQ(ClusterStats(3, before.Known()).View().inserted, 160u);
}

// It keeps its items: the cluster must not fall below the limiter's min_size.
TEST(ClusterStatsTest, AShardThatIsAwayCountsForTheLimitersSizeOnly) {
  ClusterStats stats(3);
  const absl::Time now = absl::UnixEpoch();
  v1::SampleDraw draw;
  stats.FillOthers(0, draw);
  EXPECT_EQ(draw.others_size(), 0u);
  stats.Update(0, Stats(1, 10), now);
  stats.Update(1, Stats(1, 20), now);
  stats.Disconnect(1);
  stats.FillOthers(0, draw);
  EXPECT_EQ(draw.others_size(), 20u);
  EXPECT_EQ(stats.View().size, 10u);
  EXPECT_EQ(stats.size(), 10u);
  stats.Update(1, Stats(1, 5), now);  // Back with less.
  stats.FillOthers(0, draw);
  EXPECT_EQ(draw.others_size(), 5u);
}

TEST(AllotTest, NeverChoosesAShardWithoutMass) {
  Random random(1);
  const std::vector<uint32_t> counts =
      Allot({0, 1e-300, 0, 1, 0}, 1000, random);
  EXPECT_EQ(counts[0] + counts[2] + counts[4], 0u);
  EXPECT_EQ(counts[1] + counts[3], 1000u);
}

}  // namespace
}  // namespace qfleet
