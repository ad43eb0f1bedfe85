#include "tests/replay_server/core/table_model.h"

#include <algorithm>
#include <cmath>

#include "common/random.h"
#include "google/protobuf/text_format.h"

namespace qfleet {
namespace {

constexpr uint64_t kFirstStack = 3;
constexpr uint64_t kLastStack = 4;

template <typename T>
void AppendValue(v1::Column& column, T value) {
  column.mutable_data()->append(reinterpret_cast<const char*>(&value),
                                sizeof(value));
}

template <typename Columns>
void EnsureTwo(Columns& columns) {
  while (columns.size() < 2) columns.Add();
}

}  // namespace

v1::TableSpec ModelSpec(uint64_t max_items, uint64_t max_bytes) {
  v1::TableSpec spec;
  const bool parsed = google::protobuf::TextFormat::ParseFromString(
      R"(name: "model"
         signature {
           step_columns { name: "image" dtype: UINT8 shape: 6 }
           step_columns { name: "tag" dtype: INT64 }
           item_columns { name: "uid" dtype: INT64 }
           item_columns { name: "pair" dtype: FLOAT32 shape: 2 }
           views { name: "a" column: "image" anchor: FIRST stack: 3 }
           views { name: "b" column: "image" anchor: LAST stack: 4 }
           views { name: "c" column: "tag" anchor: FIRST }
           views { name: "d" column: "tag" anchor: LAST stack: 1 }
         }
         selector { kind: PRIORITIZED alpha: 0.6 epsilon: 0.01 })",
      &spec);
  if (!parsed) std::abort();
  spec.set_max_items(max_items);
  spec.set_max_bytes(max_bytes);
  return spec;
}

int64_t TagOf(uint64_t writer, uint32_t stream, uint64_t index) {
  return static_cast<int64_t>(MixSeed(MixSeed(writer, stream), index));
}

std::string ImageOf(uint64_t writer, uint32_t stream, uint64_t index) {
  const uint64_t bits =
      MixSeed(static_cast<uint64_t>(TagOf(writer, stream, index)), 99);
  return std::string(reinterpret_cast<const char*>(&bits), 6);
}

const TableModel::Step* TableModel::Find(uint64_t writer, uint32_t stream,
                                         uint64_t index) const {
  auto found = steps_.find({writer, stream, index});
  return found == steps_.end() ? nullptr : &found->second;
}

void TableModel::AddStep(ModelBatch& batch, uint32_t stream, uint64_t index,
                         bool begins) {
  const Step* before =
      index == 0 ? nullptr : Find(batch.writer, stream, index - 1);
  Step& step = steps_[{batch.writer, stream, index}];
  step.kept = begins || (before != nullptr && before->kept);
  step.episode_start =
      begins || before == nullptr ? index : before->episode_start;
  v1::AppendBatch& wire = batch.wire;
  wire.add_step_stream(stream);
  wire.add_step_index(index);
  wire.add_step_starts_episode(begins);
  EnsureTwo(*wire.mutable_step_columns());
  wire.mutable_step_columns(0)->mutable_data()->append(
      ImageOf(batch.writer, stream, index));
  AppendValue(*wire.mutable_step_columns(1),
              TagOf(batch.writer, stream, index));
}

void TableModel::AddItem(ModelBatch& batch, uint32_t stream, uint64_t first,
                         uint64_t last, float priority) {
  const uint64_t uid = items_.size();
  items_.push_back({batch.writer, stream, first, last, priority});
  batch.item_uids.push_back(uid);
  v1::AppendBatch& wire = batch.wire;
  wire.add_item_stream(stream);
  wire.add_item_first(first);
  wire.add_item_last(last);
  wire.add_item_priority(priority);
  EnsureTwo(*wire.mutable_item_columns());
  AppendValue(*wire.mutable_item_columns(0), static_cast<int64_t>(uid));
  AppendValue(*wire.mutable_item_columns(1), static_cast<float>(uid) + 0.5f);
  AppendValue(*wire.mutable_item_columns(1), -static_cast<float>(uid));
}

uint64_t TableModel::EpisodeStart(uint64_t writer, uint32_t stream,
                                  uint64_t index) const {
  return Find(writer, stream, index)->episode_start;
}

void TableModel::Reserve(ModelBatch& batch) {
  EnsureTwo(*batch.wire.mutable_step_columns());
  EnsureTwo(*batch.wire.mutable_item_columns());
  batch.first_id = next_id_;
  for (int j = 0; j < batch.wire.step_stream_size(); ++j) {
    Step& step = steps_.at(
        {batch.writer, batch.wire.step_stream(j), batch.wire.step_index(j)});
    if (step.kept) step.id = next_id_++;
  }
  batch.end_id = next_id_;
}

v1::AppendResponse TableModel::Commit(const ModelBatch& batch) {
  v1::AppendResponse response;
  response.set_sequence(batch.wire.sequence());
  for (uint64_t uid : batch.item_uids) {
    ModelItem& item = items_[uid];
    const Step* oldest = Find(item.writer, item.stream, OldestIndex(item));
    if (!oldest->kept || oldest->id < OldestHeldId()) {
      response.set_items_skipped(response.items_skipped() + 1);
      continue;
    }
    item.inserted = true;
    item.number = inserted_.size();
    inserted_.push_back(uid);
    response.set_items_stored(response.items_stored() + 1);
  }
  for (int j = 0; j < batch.wire.step_stream_size(); ++j) {
    const Step* step =
        Find(batch.writer, batch.wire.step_stream(j), batch.wire.step_index(j));
    if (step->kept && batch.wire.step_starts_episode(j)) ++episodes_;
  }
  committed_steps_ += batch.end_id - batch.first_id;
  skipped_ += response.items_skipped();
  return response;
}

uint64_t TableModel::OldestIndex(const ModelItem& item) const {
  const uint64_t start = EpisodeStart(item.writer, item.stream, item.last);
  const auto back = [start](uint64_t index, uint64_t stack) {
    return std::max(start, index - std::min(index, stack - 1));
  };
  return std::min(back(item.first, kFirstStack), back(item.last, kLastStack));
}

uint64_t TableModel::OldestId(uint64_t uid) const {
  const ModelItem& item = items_[uid];
  return Find(item.writer, item.stream, OldestIndex(item))->id;
}

bool TableModel::Live(uint64_t uid) const {
  const ModelItem& item = items_[uid];
  return item.inserted && item.number + spec_.max_items() >= inserted_.size() &&
         OldestId(uid) >= OldestHeldId();
}

uint64_t TableModel::LiveSteps() const { return std::min(next_id_, capacity_); }

double TableModel::Mass(uint64_t uid) const {
  if (spec_.selector().kind() == v1::Selector::UNIFORM) return 1;
  return std::pow(static_cast<double>(items_[uid].priority) + 0.01, 0.6);
}

v1::TableStats TableModel::Stats() const {
  v1::TableStats stats;
  double mass = 0;
  // Others are gone by their number.
  const uint64_t from = inserted_.size() -
                        std::min<uint64_t>(inserted_.size(), spec_.max_items());
  for (uint64_t number = from; number < inserted_.size(); ++number) {
    const uint64_t uid = inserted_[number];
    if (!Live(uid)) continue;
    mass += Mass(uid);
    stats.set_size(stats.size() + 1);
  }
  stats.set_mass(mass);
  stats.set_inserted(inserted_.size());
  stats.set_sampled(sampled_);
  stats.set_steps(committed_steps_);
  stats.set_episodes(episodes_);
  stats.set_skipped(skipped_);
  return stats;
}

std::string TableModel::Stack(const ModelItem& item, uint64_t anchor,
                              uint64_t size) const {
  const uint64_t start = EpisodeStart(item.writer, item.stream, item.last);
  std::string stack;
  for (uint64_t back = size; back-- > 0;) {
    const uint64_t index = anchor < start + back ? start : anchor - back;
    stack += ImageOf(item.writer, item.stream, index);
  }
  return stack;
}

std::vector<std::string> TableModel::Views(uint64_t uid) const {
  const ModelItem& item = items_[uid];
  const int64_t first = TagOf(item.writer, item.stream, item.first);
  const int64_t last = TagOf(item.writer, item.stream, item.last);
  return {Stack(item, item.first, kFirstStack),
          Stack(item, item.last, kLastStack),
          std::string(reinterpret_cast<const char*>(&first), sizeof(first)),
          std::string(reinterpret_cast<const char*>(&last), sizeof(last))};
}

}  // namespace qfleet
