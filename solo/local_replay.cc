#include "solo/local_replay.h"

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/files.h"
#include "common/hash.h"
#include "common/status_macros.h"
#include "replay_server/core/checkpoint.h"

namespace qfleet {
namespace {

constexpr uint64_t kWriterId = 1;
// Bytes of a region that are copied at once: as many as lie side by side.
constexpr uint64_t kAll = ~uint64_t{0};

// Not of the time when they were written, so that equal contents have equal
// hashes.
uint64_t HashOf(const v1::CheckpointManifest& manifest) {
  Hasher hasher;
  for (const v1::CheckpointManifest::File& file : manifest.files()) {
    const std::string line =
        absl::StrCat(file.path(), " ", file.bytes(), " ", file.hash(), "\n");
    hasher.Add(line.data(), line.size());
  }
  return hasher.Digest();
}

}  // namespace

absl::StatusOr<uint64_t> WriteTableCopy(const TableCopy& copy,
                                        const std::string& path) {
  const std::string temporary = path + ".tmp";
  std::error_code ignored;
  std::filesystem::remove_all(temporary, ignored);
  QFLEET_RETURN_IF_ERROR(MakeWritableDirectory(temporary));
  TableFilesWriter files;
  QFLEET_RETURN_IF_ERROR(files.Open(
      absl::StrCat(temporary, "/", copy.header.spec().name()), copy.header));
  for (int region = 0; region < kRegionCount; ++region) {
    for (const Table::Piece& piece : copy.regions[region]) {
      QFLEET_RETURN_IF_ERROR(files.Write(region, piece.offset,
                                         piece.data.data(), piece.data.size()));
    }
  }
  QFLEET_RETURN_IF_ERROR(files.Sync());
  QFLEET_RETURN_IF_ERROR(FinishCheckpoint(temporary, copy.header.shard(),
                                          /*version=*/"solo", /*keep=*/0,
                                          /*stopped=*/nullptr)
                             .status());
  QFLEET_ASSIGN_OR_RETURN(const v1::CheckpointManifest manifest,
                          CheckCheckpoint(path, /*contents=*/false));
  return HashOf(manifest);
}

absl::Status CheckTableCopy(const std::string& path, uint64_t hash) {
  QFLEET_ASSIGN_OR_RETURN(const v1::CheckpointManifest manifest,
                          CheckCheckpoint(path, /*contents=*/true));
  if (HashOf(manifest) == hash) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(path, " is the replay of another checkpoint"));
}

absl::StatusOr<std::unique_ptr<LocalReplay>> LocalReplay::Create(
    const v1::TableSpec& spec, uint64_t seed) {
  std::unique_ptr<LocalReplay> replay(new LocalReplay(spec));
  replay->storage_ = std::make_unique<AnonymousStorage>();
  QFLEET_ASSIGN_OR_RETURN(replay->table_,
                          Table::Create(spec, *replay->storage_, seed));
  return replay;
}

absl::StatusOr<std::unique_ptr<LocalReplay>> LocalReplay::Open(
    const v1::TableSpec& spec, const std::string& path,
    const v1::TableVolatile& rest) {
  std::unique_ptr<LocalReplay> replay(new LocalReplay(spec));
  replay->storage_ = std::make_unique<MappedStorage>(
      absl::StrCat(path, "/", spec.name()), MappedStorage::Mode::kPrivate);
  QFLEET_ASSIGN_OR_RETURN(replay->table_,
                          Table::Create(spec, *replay->storage_, /*seed=*/0));
  QFLEET_RETURN_IF_ERROR(replay->table_->RestoreVolatile(rest));
  return replay;
}

TableCopy LocalReplay::Copy() {
  TableCopy copy;
  std::unique_ptr<Table::Snapshot> snapshot = table_->BeginSnapshot();
  copy.header = snapshot->header;
  copy.regions[kStateRegion].push_back({0, snapshot->state});
  copy.regions[kWritersRegion].push_back({0, snapshot->writers});
  while (table_->CopyItems(*snapshot, kAll, copy.regions[kItemsRegion])) {
  }
  Table::StepRows rows;
  while (table_->NextSteps(*snapshot, kAll, rows)) {
    copy.regions[kStepsRegion].push_back(
        {rows.header_offset, std::string(rows.headers, rows.header_bytes)});
    copy.regions[kPayloadRegion].push_back(
        {rows.payload_offset, std::string(rows.payload, rows.payload_bytes)});
    table_->StepsCopied(*snapshot, rows);
  }
  table_->EndSnapshot(std::move(snapshot));
  copy.rest = table_->SaveVolatile();
  return copy;
}

bool LocalReplay::CanSample(uint32_t count) const {
  if (table_->Drawable() < count) return false;
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

void LocalWriter::Save(v1::SoloState& state) const {
  state.mutable_next_index()->Assign(next_index_.begin(), next_index_.end());
  state.set_sequence(sequence_);
}

void LocalWriter::Load(const v1::SoloState& state) {
  next_index_.assign(state.next_index().begin(), state.next_index().end());
  sequence_ = state.sequence();
}

absl::StatusOr<std::unique_ptr<SampleBatch>> LocalSampler::Next() {
  if (!replay_.CanSample(batch_size_)) {
    return absl::DeadlineExceededError(
        "the rate limiter, or a queue that is too short, waits for inserts");
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
