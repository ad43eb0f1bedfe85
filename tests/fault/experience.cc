#include "tests/fault/experience.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/files.h"
#include "common/status_macros.h"
#include "common/table_layout.h"
#include "replay_server/core/storage.h"

namespace qfleet {
namespace {

constexpr uint32_t kStack = 3;
constexpr uint32_t kStreams = 3;  // Of a writer.

}  // namespace

v1::TableSpec FaultTable(uint64_t max_items, uint64_t frame_bytes) {
  v1::TableSpec spec;
  spec.set_name("experience");
  v1::TensorSpec& step = *spec.mutable_signature()->add_step_columns();
  step.set_name("frame");
  step.set_dtype(v1::UINT8);
  step.add_shape(static_cast<int64_t>(frame_bytes));
  v1::TensorSpec& item = *spec.mutable_signature()->add_item_columns();
  item.set_name("uid");
  item.set_dtype(v1::INT64);
  v1::View& frames = *spec.mutable_signature()->add_views();
  frames.set_name("frames");
  frames.set_column("frame");
  frames.set_anchor(v1::View::FIRST);
  frames.set_stack(kStack);
  v1::View& next = *spec.mutable_signature()->add_views();
  next.set_name("next_frame");
  next.set_column("frame");
  next.set_anchor(v1::View::LAST);
  spec.mutable_selector()->set_kind(v1::Selector::PRIORITIZED);
  spec.mutable_selector()->set_alpha(1);
  spec.set_remover(v1::FIFO);
  spec.set_max_items(max_items);
  spec.set_max_bytes(uint64_t{1} << 30);
  spec.mutable_rate_limiter()->set_tolerance(1);
  spec.mutable_rate_limiter()->set_min_size(1);
  return spec;
}

// ----------------------------------------------------------------- record ---

Record::Record(const v1::TableSpec& spec)
    : spec_(spec),
      frame_bytes_(
          static_cast<uint64_t>(spec.signature().step_columns(0).shape(0))) {}

std::string Record::Frame(uint64_t writer, uint32_t stream,
                          uint64_t index) const {
  Random random(MixSeed(MixSeed(writer, stream), index));
  std::string frame(frame_bytes_, '\0');
  for (size_t at = 0; at < frame.size(); at += 8) {
    const uint64_t bits = random.Bits();
    std::memcpy(frame.data() + at, &bits,
                std::min<size_t>(8, frame.size() - at));
  }
  return frame;
}

void Record::Add(const SentItem& item) {
  absl::MutexLock lock(&mutex_);
  items_[item.uid] = item;
}

bool Record::Find(uint64_t uid, SentItem& item) const {
  absl::MutexLock lock(&mutex_);
  auto found = items_.find(uid);
  if (found == items_.end()) return false;
  item = found->second;
  return true;
}

std::map<uint64_t, SentItem> Record::All() const {
  absl::MutexLock lock(&mutex_);
  return {items_.begin(), items_.end()};
}

absl::Status Record::CheckRow(uint64_t uid, absl::string_view frames,
                              absl::string_view next_frame) const {
  SentItem item;
  if (!Find(uid, item)) {
    return absl::DataLossError(absl::StrCat("item ", uid, " was never sent"));
  }
  std::string stack;
  for (uint64_t back = kStack; back-- > 0;) {
    // Before its start an episode is its first frame.
    const uint64_t into = item.first - item.episode_start;
    stack += Frame(item.writer, item.stream, item.first - std::min(back, into));
  }
  if (frames != stack ||
      next_frame != Frame(item.writer, item.stream, item.last)) {
    return absl::DataLossError(
        absl::StrCat("item ", uid, " has frames that are not what was sent"));
  }
  return absl::OkStatus();
}

absl::Status Record::Check(const v1::SampleResponse& response,
                           std::vector<uint64_t>& uids,
                           bool with_others) const {
  const size_t rows = static_cast<size_t>(response.slot_size());
  const uint64_t stack = kStack * frame_bytes_;
  if (rows == 0) return absl::OkStatus();
  if (response.item_columns_size() != 1 || response.views_size() != 2 ||
      response.item_columns(0).data().size() != rows * 8 ||
      response.views(0).data().size() != rows * stack ||
      response.views(1).data().size() != rows * frame_bytes_) {
    return absl::DataLossError("a sample's columns are not of its size");
  }
  const absl::string_view frames = response.views(0).data();
  const absl::string_view next = response.views(1).data();
  for (size_t j = 0; j < rows; ++j) {
    uint64_t uid;
    std::memcpy(&uid, response.item_columns(0).data().data() + 8 * j, 8);
    uids.push_back(uid);
    SentItem item;
    if (with_others && !Find(uid, item)) continue;
    QFLEET_RETURN_IF_ERROR(
        CheckRow(uid, frames.substr(j * stack, stack),
                 next.substr(j * frame_bytes_, frame_bytes_)));
  }
  return absl::OkStatus();
}

// ------------------------------------------------------------- experience ---

Experience::Experience(uint64_t writer, uint64_t seed, Record& record)
    : writer_(writer),
      random_(MixSeed(seed, writer)),
      record_(record),
      streams_(kStreams),
      next_uid_(writer << 32) {}

SentStep Experience::NextStep(uint64_t sequence, std::vector<SentItem>& items) {
  const auto s = static_cast<uint32_t>(random_.Below(kStreams));
  Stream& stream = streams_[s];
  SentStep step;
  step.stream = s;
  step.index = stream.next++;
  step.starts_episode = step.index == stream.episode_end;
  if (step.starts_episode) {
    stream.episode_start = step.index;
    stream.episode_end = step.index + 2 + random_.Below(30);
  }
  step.frame = record_.Frame(writer_, s, step.index);
  const uint64_t into = step.index - stream.episode_start;
  for (uint64_t i = random_.Below(3); i > 0; --i) {
    SentItem item;
    item.uid = next_uid_++;
    item.writer = writer_;
    item.stream = s;
    item.last = step.index;
    item.first = step.index - random_.Below(std::min<uint64_t>(into, 5) + 1);
    item.episode_start = stream.episode_start;
    item.priority = static_cast<float>(random_.Uniform(0.5, 4));
    item.sequence = sequence;
    record_.Add(item);
    items.push_back(item);
  }
  return step;
}

v1::AppendBatch Experience::NextBatch(uint64_t sequence) {
  v1::AppendBatch batch;
  batch.set_sequence(sequence);
  std::string& frames = *batch.add_step_columns()->mutable_data();
  std::string& uids = *batch.add_item_columns()->mutable_data();
  std::vector<SentItem> items;
  for (uint64_t steps = 1 + random_.Below(12); steps > 0; --steps) {
    const SentStep step = NextStep(sequence, items);
    batch.add_step_stream(step.stream);
    batch.add_step_index(step.index);
    batch.add_step_starts_episode(step.starts_episode);
    frames += step.frame;
  }
  for (const SentItem& item : items) {
    batch.add_item_stream(item.stream);
    batch.add_item_first(item.first);
    batch.add_item_last(item.last);
    batch.add_item_priority(item.priority);
    uids.append(reinterpret_cast<const char*>(&item.uid), 8);
  }
  return batch;
}

v1::AppendRequest OpenOf(const v1::TableSpec& spec, uint64_t writer_id) {
  v1::AppendRequest request;
  request.mutable_open()->set_table(spec.name());
  request.mutable_open()->set_writer_id(writer_id);
  *request.mutable_open()->mutable_signature() = spec.signature();
  return request;
}

v1::SampleRequest SampleOpenOf(const v1::TableSpec& spec) {
  v1::SampleRequest request;
  request.mutable_open()->set_table(spec.name());
  *request.mutable_open()->mutable_signature() = spec.signature();
  return request;
}

v1::SampleRequest DrawOf(uint32_t count, uint32_t timeout_ms) {
  v1::SampleRequest request;
  request.mutable_draw()->set_count(count);
  request.mutable_draw()->set_timeout_ms(timeout_ms);
  return request;
}

// ------------------------------------------------------------------ files ---

absl::StatusOr<FoundTable> ReadTableFiles(const std::string& directory,
                                          const Record& record,
                                          const std::vector<uint64_t>& writers,
                                          bool with_others) {
  QFLEET_ASSIGN_OR_RETURN(const v1::TableHeader header,
                          ReadTableHeader(directory));
  // A queue gives each item exactly once, and a table may be opened with
  // another selector than it was written with. Priorities, which it does not
  // give, are read as docs/formats.md says.
  v1::TableSpec spec = record.spec();
  spec.mutable_selector()->Clear();
  spec.mutable_selector()->set_kind(v1::Selector::FIFO);
  MappedStorage storage(directory, MappedStorage::Mode::kPrivate);
  QFLEET_ASSIGN_OR_RETURN(
      std::unique_ptr<Table> table,
      Table::Create(spec, storage, /*seed=*/1, header.shard()));
  QFLEET_RETURN_IF_ERROR(table->CheckInvariants());
  while (auto piece = table->BeginVerify(1024)) {
    const std::vector<uint64_t> damaged = table->Verify(*piece);
    table->EndVerify(std::move(piece), damaged);
  }
  QFLEET_RETURN_IF_ERROR(table->CheckInvariants());
  FoundTable found;
  found.stats = table->Stats();
  found.recovery = table->recovery();
  found.verified = table->verified();
  for (uint64_t writer : writers) {
    found.last_sequence[writer] = table->LastSequence(writer);
  }
  QFLEET_ASSIGN_OR_RETURN(const std::string rows,
                          ReadFile(directory + "/items"));
  const uint64_t stride = TableLayout(spec).item.stride;
  uint64_t drawn = 0;
  while (const uint64_t left = table->Stats().size()) {
    QFLEET_ASSIGN_OR_RETURN(
        std::unique_ptr<Table::Drawing> drawing,
        table->Draw(static_cast<uint32_t>(std::min<uint64_t>(left, 4096))));
    v1::SampleResponse response;
    table->Gather(*drawing, response);
    table->Release(std::move(drawing));
    std::vector<uint64_t> uids;
    QFLEET_RETURN_IF_ERROR(record.Check(response, uids, with_others));
    for (int j = 0; j < response.slot_size(); ++j) {
      ++drawn;
      FoundItem item;
      item.uid = uids[j];
      SentItem sent;
      if (!record.Find(item.uid, sent)) continue;
      item.slot = response.slot(j);
      item.generation = response.generation(j);
      std::memcpy(&item.priority,
                  rows.data() + item.slot * stride +
                      offsetof(ItemRecord, value.priority),
                  sizeof(item.priority));
      found.items.push_back(item);
    }
  }
  if (drawn != found.stats.size()) {
    return absl::DataLossError(absl::StrCat(
        drawn, " items of ", found.stats.size(), " could be drawn"));
  }
  return found;
}

}  // namespace qfleet
