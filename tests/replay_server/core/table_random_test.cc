// Thousands of random operations of several writers, samplers and learners,
// interleaved as Shard would, against TableModel.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/random.h"
#include "common/table_layout.h"
#include "gtest/gtest.h"
#include "replay_server/core/table.h"
#include "tests/replay_server/core/table_model.h"
#include "tests/replay_server/without_life.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

constexpr size_t kWriters = 4;

struct Stream {
  uint64_t next = 0;
  bool begun = false;  // Has sent a step.
};

struct Writer {
  uint64_t id = 0;
  uint64_t sequence = 0;
  std::map<uint32_t, Stream> streams;
  // The reservation that is open, if any.
  std::unique_ptr<ModelBatch> batch;
  std::unique_ptr<Table::Reservation> reservation;
  bool written = false;
};

struct Sampler {
  std::unique_ptr<Table::Drawing> drawing;
  uint64_t oldest = 0;
  v1::TableStats stats;  // Of the model, before the draw.
};

class Exercise {
 public:
  // In memory, or in files under `directory`, which are opened again and again.
  Exercise(const v1::TableSpec& spec, uint64_t seed,
           const std::string& directory = "")
      : spec_(spec), directory_(directory), random_(seed), writers_(kWriters) {
    Open(seed);
    model_ = std::make_unique<TableModel>(spec, table_->step_capacity());
    for (Writer& writer : writers_) writer.id = ++last_writer_;
  }

  void Run(int operations) {
    for (int i = 0; i < operations; ++i) {
      Operate();
      if (testing::Test::HasFatalFailure()) FAIL() << "operation " << i;
      CheckState();
      if (testing::Test::HasFatalFailure()) FAIL() << "operation " << i;
    }
    EXPECT_GT(model_->Stats().sampled(), 0u);
    EXPECT_GT(waits_, 0) << "no reservation ever had to wait";
    if (!directory_.empty()) {
      EXPECT_GT(reopened_, 10);
    }
    EXPECT_GT(stale_, 0) << "no priority was ever stale";
  }

  const TableModel& model() const { return *model_; }
  const Table& table() const { return *table_; }

 private:
  void Open(uint64_t seed) {
    table_.reset();
    if (directory_.empty()) {
      storage_ = std::make_unique<AnonymousStorage>();
    } else {
      storage_ = std::make_unique<MappedStorage>(directory_ + "/table",
                                                 MappedStorage::Mode::kServe);
    }
    auto table = Table::Create(spec_, *storage_, seed);
    ASSERT_TRUE(table.ok()) << table.status();
    table_ = *std::move(table);
  }

  // Nothing is acknowledged that is not in the table's regions.
  void Reopen() {
    while (!samplers_.empty()) GatherAndRelease();
    // In the order of their reservation, of which none waits for a later one.
    for (;;) {
      Writer* oldest = nullptr;
      for (Writer& writer : writers_) {
        if (writer.reservation == nullptr) continue;
        if (oldest == nullptr ||
            writer.batch->first_id < oldest->batch->first_id) {
          oldest = &writer;
        }
      }
      if (oldest == nullptr) break;
      if (!oldest->written) Write(*oldest);
      ASSERT_TRUE(oldest->written);
      Commit(*oldest);
    }
    Open(random_.Bits());
    ASSERT_TRUE(table_->recovery().recovered);
    ASSERT_EQ(table_->recovery().dropped, 0u);
    for (const Writer& writer : writers_) {
      ASSERT_EQ(table_->LastSequence(writer.id), writer.sequence);
    }
    while (auto piece = table_->BeginVerify(7)) {
      const std::vector<uint64_t> damaged = table_->Verify(*piece);
      ASSERT_TRUE(damaged.empty());
      table_->EndVerify(std::move(piece), damaged);
    }
    ++reopened_;
  }

  void Operate() {
    if (!directory_.empty() && random_.Below(100) == 0) Reopen();
    Writer& writer = writers_[random_.Below(kWriters)];
    switch (random_.Below(8)) {
      case 0:
      case 1:
      case 2:
      case 3:
        if (writer.reservation == nullptr) {
          Reserve(writer);
        } else if (!writer.written) {
          Write(writer);
        } else {
          Commit(writer);
        }
        break;
      case 4:
        Draw();
        break;
      case 5:
      case 6:
        GatherAndRelease();
        break;
      case 7:
        UpdatePriorities();
        break;
    }
    // A writer that comes back without its past: a shard that was restarted
    // has forgotten it, and its streams are in the middle of episodes.
    if (writer.reservation == nullptr && random_.Below(60) == 0) {
      writer.id = ++last_writer_;
      writer.sequence = 0;
      for (auto& [number, stream] : writer.streams) stream.begun = false;
    }
  }

  void Reserve(Writer& writer) {
    writer.batch = std::make_unique<ModelBatch>();
    ModelBatch& batch = *writer.batch;
    batch.writer = writer.id;
    batch.wire.set_sequence(++writer.sequence);
    for (uint64_t j = random_.Below(25); j > 0; --j) {
      const auto number = static_cast<uint32_t>(random_.Below(3));
      Stream& stream = writer.streams[number];
      const bool first_ever = stream.next == 0;
      model_->AddStep(batch, number, stream.next,
                      first_ever || random_.Below(8) == 0);
      if (!stream.begun) first_index_[{writer.id, number}] = stream.next;
      stream.begun = true;
      ++stream.next;
    }
    for (uint64_t j = random_.Below(25); j > 0; --j) AddItem(writer);
    model_->Reserve(batch);
    ASSERT_TRUE(table_->CheckBatch(batch.wire).ok())
        << table_->CheckBatch(batch.wire);
    auto reservation = table_->Reserve(writer.id, batch.wire);
    ASSERT_TRUE(reservation.ok()) << reservation.status();
    writer.reservation = *std::move(reservation);
    writer.written = false;
    pins_.insert(batch.first_id);
  }

  void AddItem(Writer& writer) {
    const auto number = static_cast<uint32_t>(random_.Below(3));
    const Stream& stream = writer.streams[number];
    if (!stream.begun) return;
    const uint64_t oldest = first_index_[{writer.id, number}];
    const uint64_t last =
        stream.next - 1 -
        random_.Below(std::min<uint64_t>(stream.next - oldest, 40));
    const uint64_t start = model_->EpisodeStart(writer.id, number, last);
    const uint64_t first =
        last - random_.Below(std::min<uint64_t>(last - start + 1, 6));
    model_->AddItem(*writer.batch, number, first, last,
                    static_cast<float>(random_.Uniform(0, 3)));
  }

  void Write(Writer& writer) {
    const uint64_t end = writer.batch->end_id;
    const uint64_t capacity = model_->capacity();
    const bool writable = end <= capacity || *pins_.begin() >= end - capacity;
    ASSERT_EQ(table_->Writable(*writer.reservation), writable);
    if (!writable) {
      ++waits_;
      return;
    }
    table_->Write(*writer.reservation);
    writer.written = true;
  }

  void Commit(Writer& writer) {
    const v1::AppendResponse expected = model_->Commit(*writer.batch);
    const v1::AppendResponse response =
        table_->Commit(std::move(writer.reservation));
    ASSERT_EQ(response.SerializeAsString(), expected.SerializeAsString())
        << response.ShortDebugString() << " expected "
        << expected.ShortDebugString();
    ASSERT_EQ(table_->LastSequence(writer.id), writer.sequence);
    pins_.erase(pins_.find(writer.batch->first_id));
    writer.batch.reset();
  }

  void Draw() {
    if (samplers_.size() >= 3) return;
    const auto count = static_cast<uint32_t>(random_.Below(100));
    auto drawing = table_->Draw(count);
    const v1::TableStats stats = model_->Stats();
    if (stats.size() == 0 && count > 0) {
      ASSERT_EQ(drawing.status().code(), absl::StatusCode::kFailedPrecondition);
      return;
    }
    ASSERT_TRUE(drawing.ok()) << drawing.status();
    Sampler sampler;
    sampler.stats = stats;
    sampler.oldest = ~uint64_t{0};
    v1::SampleResponse response;
    table_->Gather(**drawing, response);
    for (uint32_t j = 0; j < count; ++j) {
      const uint64_t uid = UidOf(response, j);
      ASSERT_TRUE(model_->Live(uid)) << "drawn item is gone";
      ASSERT_DOUBLE_EQ(response.mass(j), model_->Mass(uid));
      sampler.oldest = std::min(sampler.oldest, model_->OldestId(uid));
    }
    CheckResponse(response, count);
    model_->CountSampled(count);
    sampler.drawing = *std::move(drawing);
    if (count > 0) pins_.insert(sampler.oldest);
    samplers_.push_back(std::move(sampler));
  }

  // Some time after the draw: the steps must still be there.
  void GatherAndRelease() {
    if (samplers_.empty()) return;
    const size_t chosen = random_.Below(samplers_.size());
    Sampler sampler = std::move(samplers_[chosen]);
    samplers_.erase(samplers_.begin() + static_cast<int64_t>(chosen));
    const size_t count = sampler.drawing->slots.size();
    v1::SampleResponse response;
    table_->Gather(*sampler.drawing, response);
    CheckResponse(response, count);
    ASSERT_EQ(response.stats().size(), sampler.stats.size());
    ASSERT_EQ(response.stats().sampled(), sampler.stats.sampled());
    ASSERT_NEAR(response.stats().mass(), sampler.stats.mass(),
                1e-9 * sampler.stats.mass());
    table_->Release(std::move(sampler.drawing));
    if (count > 0) pins_.erase(pins_.find(sampler.oldest));
  }

  static uint64_t UidOf(const v1::SampleResponse& response, size_t j) {
    int64_t uid = 0;
    std::memcpy(&uid, response.item_columns(0).data().data() + 8 * j, 8);
    return static_cast<uint64_t>(uid);
  }

  void CheckResponse(const v1::SampleResponse& response, size_t count) {
    ASSERT_EQ(response.slot_size(), static_cast<int>(count));
    ASSERT_EQ(response.item_columns_size(), 2);
    ASSERT_EQ(response.views_size(), 4);
    std::vector<std::string> views(4);
    for (size_t j = 0; j < count; ++j) {
      const int row = static_cast<int>(j);
      const uint64_t uid = UidOf(response, j);
      ASSERT_LT(uid, model_->items());
      float pair[2];
      std::memcpy(pair, response.item_columns(1).data().data() + 8 * j, 8);
      ASSERT_EQ(pair[0], static_cast<float>(uid) + 0.5f);
      ASSERT_EQ(pair[1], -static_cast<float>(uid));
      ASSERT_EQ(response.slot(row), model_->SlotOf(uid));
      // A key names one item for ever.
      const auto key =
          std::make_pair(response.slot(row), response.generation(row));
      ASSERT_EQ(keys_.emplace(key, uid).first->second, uid);
      const std::vector<std::string> expected = model_->Views(uid);
      for (size_t v = 0; v < 4; ++v) views[v] += expected[v];
    }
    for (int v = 0; v < 4; ++v) {
      ASSERT_EQ(response.views(v).data(), views[static_cast<size_t>(v)]) << v;
    }
  }

  void UpdatePriorities() {
    if (keys_.empty()) return;
    v1::UpdatePrioritiesRequest request;
    v1::UpdatePrioritiesResponse expected;
    for (uint64_t j = random_.Below(30); j > 0; --j) {
      // Keys from all of the table's life, near the key of a random slot.
      auto key = keys_.lower_bound({static_cast<uint32_t>(random_.Below(60)),
                                    static_cast<uint32_t>(random_.Bits())});
      if (key == keys_.end()) key = keys_.begin();
      const auto priority = static_cast<float>(random_.Uniform(0, 5));
      request.add_slot(key->first.first);
      request.add_generation(key->first.second);
      request.add_priority(priority);
      if (model_->Live(key->second)) {
        model_->SetPriority(key->second, priority);
        expected.set_applied(expected.applied() + 1);
      } else {
        expected.set_stale(expected.stale() + 1);
      }
    }
    request.add_slot(1 << 20);
    request.add_generation(0);
    request.add_priority(1);
    expected.set_unknown(1);
    auto response = table_->UpdatePriorities(request);
    ASSERT_TRUE(response.ok()) << response.status();
    ASSERT_EQ(response->SerializeAsString(), expected.SerializeAsString())
        << response->ShortDebugString();
    stale_ += response->stale();
  }

  void CheckState() {
    ASSERT_TRUE(table_->CheckInvariants().ok()) << table_->CheckInvariants();
    v1::TableStats stats = WithoutLife(table_->Stats());
    v1::TableStats expected = model_->Stats();
    ASSERT_NEAR(stats.mass(), expected.mass(), 1e-9 * (1 + expected.mass()));
    ASSERT_LE(stats.bytes(), table_->spec().max_bytes());
    stats.clear_mass();
    stats.clear_bytes();
    expected.clear_mass();
    ASSERT_EQ(stats.SerializeAsString(), expected.SerializeAsString())
        << stats.ShortDebugString() << " expected "
        << expected.ShortDebugString();
  }

  const v1::TableSpec spec_;
  const std::string directory_;
  std::unique_ptr<Storage> storage_;
  std::unique_ptr<Table> table_;
  std::unique_ptr<TableModel> model_;
  Random random_;
  std::vector<Writer> writers_;
  std::vector<Sampler> samplers_;
  std::multiset<uint64_t> pins_;
  std::map<std::pair<uint32_t, uint32_t>, uint64_t> keys_;  // Of uids.
  std::map<std::pair<uint64_t, uint32_t>, uint64_t> first_index_;
  uint64_t last_writer_ = 0;
  int waits_ = 0;
  int reopened_ = 0;
  int64_t stale_ = 0;
};

// A table of exactly so many items and steps.
v1::TableSpec Spec(uint64_t max_items, uint64_t steps) {
  const v1::TableSpec spec = ModelSpec(max_items, 0);
  return ModelSpec(max_items, static_cast<uint64_t>(
                                  BytesFor(spec, static_cast<double>(steps))));
}

class TableRandomTest : public testing::TestWithParam<uint64_t> {};

TEST_P(TableRandomTest, StepsAreTheBound) {
  Exercise exercise(Spec(400, 100), GetParam());
  ASSERT_EQ(exercise.table().step_capacity(), 100u);
  exercise.Run(6000);
  EXPECT_GT(exercise.model().Stats().steps(), 30 * 100u);
}

TEST_P(TableRandomTest, ItemsAndStepsAreTheBound) {
  Exercise exercise(Spec(50, 130), GetParam());
  exercise.Run(6000);
  EXPECT_GT(exercise.model().Stats().inserted(), 50 * 50u);
}

TEST_P(TableRandomTest, OpenedAgainIsTheSame) {
  // Large enough that no stream is silent for a whole lap: such a one is
  // forgotten by a table that is opened again.
  const TempDirectory directory;
  Exercise exercise(Spec(150, 600), GetParam(), directory.path());
  exercise.Run(6000);
}

TEST_P(TableRandomTest, Uniform) {
  v1::TableSpec spec = Spec(50, 64);
  spec.mutable_selector()->set_kind(v1::Selector::UNIFORM);
  Exercise exercise(spec, GetParam());
  exercise.Run(4000);
}

INSTANTIATE_TEST_SUITE_P(Seeds, TableRandomTest,
                         testing::Values(1, 2, 3, 4, 5, 6));

}  // namespace
}  // namespace qfleet
