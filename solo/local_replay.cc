#include "solo/local_replay.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

constexpr uint64_t kWriterId = 1;

}  // namespace

absl::StatusOr<std::unique_ptr<LocalReplay>> LocalReplay::Create(
    const v1::TableSpec& spec, uint64_t seed) {
  std::unique_ptr<LocalReplay> replay(new LocalReplay(spec));
  QFLEET_ASSIGN_OR_RETURN(replay->table_,
                          Table::Create(spec, replay->storage_, seed));
  return replay;
}

bool LocalReplay::CanSample() const {
  const v1::TableStats stats = table_->Stats();
  return limiter_.CanSample({.inserted = stats.inserted(),
                             .sampled = stats.sampled(),
                             .size = stats.size()});
}

LocalWriter::LocalWriter(LocalReplay& replay)
    : replay_(replay), builder_(replay.spec().signature()) {}

absl::StatusOr<uint64_t> LocalWriter::AppendStep(
    uint32_t stream, bool starts_episode, absl::Span<const ColumnRow> columns) {
  if (stream >= next_index_.size()) next_index_.resize(stream + 1);
  const uint64_t index = next_index_[stream];
  QFLEET_RETURN_IF_ERROR(
      builder_.AddStep(stream, index, starts_episode, columns));
  ++next_index_[stream];
  return index;
}

absl::Status LocalWriter::AppendItem(uint32_t stream, uint64_t first,
                                     uint64_t last,
                                     absl::Span<const ColumnRow> columns,
                                     float priority) {
  return builder_.AddItem(stream, first, last, columns, priority);
}

absl::Status LocalWriter::Poll() {
  if (builder_.empty()) return absl::OkStatus();
  const v1::AppendBatch batch = builder_.Take(++sequence_);
  Table& table = replay_.table();
  QFLEET_RETURN_IF_ERROR(table.CheckBatch(batch));
  QFLEET_ASSIGN_OR_RETURN(auto reservation, table.Reserve(kWriterId, batch));
  // Nobody reads beside us: always writable.
  table.Write(*reservation);
  table.Commit(std::move(reservation));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SampleBatch>> LocalSampler::Next() {
  if (!replay_.CanSample()) {
    return absl::DeadlineExceededError("the rate limiter waits for inserts");
  }
  Table& table = replay_.table();
  QFLEET_ASSIGN_OR_RETURN(auto drawing, table.Draw(batch_size_));
  v1::SampleResponse response;
  table.Gather(*drawing, response);
  table.Release(std::move(drawing));
  auto batch = std::make_unique<SampleBatch>();
  const double scale =
      static_cast<double>(response.stats().size()) / response.stats().mass();
  for (int j = 0; j < response.slot_size(); ++j) {
    batch->keys.push_back({.shard = 0,
                           .slot = response.slot(j),
                           .generation = response.generation(j)});
    batch->scaled_probability.push_back(response.mass(j) * scale);
  }
  for (auto* columns :
       {response.mutable_item_columns(), response.mutable_views()}) {
    for (v1::Column& column : *columns) {
      batch->columns.push_back(std::move(*column.mutable_data()));
    }
  }
  return batch;
}

absl::Status LocalSampler::UpdatePriorities(
    absl::Span<const SampleKey> keys, absl::Span<const float> priorities) {
  v1::UpdatePrioritiesRequest request;
  request.set_table(replay_.spec().name());
  for (const SampleKey& key : keys) {
    request.add_slot(key.slot);
    request.add_generation(key.generation);
  }
  request.mutable_priority()->Add(priorities.begin(), priorities.end());
  QFLEET_ASSIGN_OR_RETURN(v1::UpdatePrioritiesResponse response,
                          replay_.table().UpdatePriorities(request));
  applied_ += response.applied();
  stale_ += response.stale();
  return absl::OkStatus();
}

ReplayView LocalSampler::View() const {
  const v1::TableStats stats = replay_.table().Stats();
  return {.size = stats.size(),
          .inserted = stats.inserted(),
          .sampled = stats.sampled(),
          .steps = stats.steps(),
          .episodes = stats.episodes(),
          .bytes = stats.bytes(),
          .mass = stats.mass(),
          .shards = 1,
          .priorities_applied = applied_,
          .priorities_stale = stale_};
}

}  // namespace qfleet
