// Table: from masses to a batch.

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replay_server/core/table.h"

namespace qfleet {
namespace {

// Items that Gather resolves together, so that the cache misses of one overlap
// those of the others.
constexpr size_t kGroup = 64;
// How many items ahead rows are prefetched.
constexpr size_t kAhead = 16;

}  // namespace

uint16_t Table::MaxTimesSampled() const {
  return static_cast<uint16_t>(
      std::max(spec_.selector().max_times_sampled(), 1u));
}

uint64_t Table::Drawable() const {
  if (items_.size() == 0) return 0;
  if (spec_.selector().kind() != v1::Selector::FIFO) return ~uint64_t{0};
  // Only the oldest item may have been drawn already.
  const uint16_t times = MaxTimesSampled();
  const uint16_t drawn = items_.record(items_.Oldest()).value.sampled;
  return items_.size() * times - std::min<uint16_t>(drawn, times - 1);
}

absl::StatusOr<std::unique_ptr<Table::Drawing>> Table::Draw(uint32_t count) {
  auto drawing = std::make_unique<Drawing>();
  drawing->stats = Stats();
  if (count > Drawable()) {
    return absl::FailedPreconditionError(
        absl::StrCat("count = ", count, ": allowed is at most ", Drawable(),
                     ", what table \"", spec_.name(), "\" has to draw"));
  }
  drawing->slots.resize(count);
  drawing->masses.resize(count);
  const bool in_order = spec_.selector().kind() == v1::Selector::FIFO;
  uint64_t oldest = steps_.next_id();
  if (in_order) {
    DrawInOrder(count, *drawing);
  } else {
    DrawByMass(count, *drawing);
  }
  if (count > 0) state_.SetSampled(state_.sampled() + count);
  for (const ItemSpan& span : drawing->spans) {
    oldest = std::min(oldest, span.oldest_id());
  }
  drawing->pin = pins_.insert(oldest);
  return drawing;
}

void Table::DrawByMass(uint32_t count, Drawing& drawing) {
  std::vector<double> uniforms(count);
  for (double& uniform : uniforms) uniform = random_.Uniform();
  tree_.Sample(uniforms, absl::MakeSpan(drawing.slots),
               absl::MakeSpan(drawing.masses));
  CopyDrawnItems(drawing);
}

void Table::DrawInOrder(uint32_t count, Drawing& drawing) {
  const uint16_t times = MaxTimesSampled();
  std::vector<uint32_t> used_up;
  uint32_t oldest = 0;
  uint16_t sampled = times;  // Of `oldest`.
  std::fill(drawing.masses.begin(), drawing.masses.end(), 1.0);
  const auto take = [&](uint32_t slot) {
    oldest = slot;
    sampled = std::min<uint16_t>(items_.record(slot).value.sampled, times - 1);
  };
  // The items stay in their place until all were copied.
  auto next = items_.by_age().begin();
  for (uint32_t& slot : drawing.slots) {
    if (sampled == times) take((next++)->second);
    slot = oldest;
    if (++sampled == times) used_up.push_back(slot);
  }
  CopyDrawnItems(drawing);
  // In order, so that whenever the process is killed only the oldest item that
  // is left may have been drawn.
  for (uint32_t slot : used_up) items_.Remove(slot);
  if (count > 0 && sampled < times) items_.SetSampled(oldest, sampled);
  masses_.assign(used_up.size(), 0.0);
  tree_.Set(used_up, masses_);
}

// An item may be gone when its views are gathered, so all of it but the steps
// is taken along.
void Table::CopyDrawnItems(Drawing& drawing) const {
  const size_t count = drawing.slots.size();
  const uint64_t payload = items_.layout().payload;
  drawing.generations.resize(count);
  drawing.spans.resize(count);
  drawing.item_columns.resize(count * payload);
  for (size_t j = 0; j < count; ++j) {
    if (j + kAhead < count) {
      __builtin_prefetch(items_.row(drawing.slots[j + kAhead]));
    }
    const ItemRecord& record = items_.record(drawing.slots[j]);
    drawing.generations[j] = items_.generation(drawing.slots[j]);
    drawing.spans[j] = record.span;
    if (payload == 0) continue;
    std::memcpy(drawing.item_columns.data() + j * payload,
                items_.row(drawing.slots[j]) + items_.layout().header, payload);
  }
}

// The rows of the stacks that end at one end of up to kGroup items.
class Table::Frames {
 public:
  Frames(const StepRing& ring, uint32_t reach)
      : ring_(ring), reach_(reach), rows_(kGroup * reach) {}

  // Walks back from ids[0 .. size), all stacks by one step at a time.
  void Resolve(const uint64_t* ids, size_t size) {
    uint64_t at[kGroup];
    for (size_t j = 0; j < size; ++j) {
      at[j] = ids[j];
      __builtin_prefetch(ring_.row(at[j]));
      if (reach_ > 1) __builtin_prefetch(&ring_.header(at[j]));
    }
    for (uint32_t back = 0; back < reach_; ++back) {
      for (size_t j = 0; j < size; ++j) {
        rows_[j * reach_ + back] = ring_.row(at[j]);
        if (back + 1 == reach_) continue;
        const StepHeader& header = ring_.header(at[j]);
        // Before its start an episode is its first frame.
        if (header.episode_offset == 0) continue;
        at[j] -= header.prev_distance;
        __builtin_prefetch(ring_.row(at[j]));
        __builtin_prefetch(&ring_.header(at[j]));
      }
    }
  }

  // The row `back` frames before the end of item j of the group.
  const char* row(size_t j, uint32_t back) const {
    return rows_[j * reach_ + back];
  }

 private:
  const StepRing& ring_;
  const uint32_t reach_;
  std::vector<const char*> rows_;
};

void Table::Gather(const Drawing& drawing, v1::SampleResponse& response) const {
  const size_t count = drawing.slots.size();
  *response.mutable_stats() = drawing.stats;
  response.mutable_slot()->Assign(drawing.slots.begin(), drawing.slots.end());
  response.mutable_generation()->Assign(drawing.generations.begin(),
                                        drawing.generations.end());
  response.mutable_mass()->Assign(drawing.masses.begin(), drawing.masses.end());
  // Rows are appended, so that no byte is written twice.
  response.clear_item_columns();
  const RowLayout& layout = items_.layout();
  for (const ColumnLayout& column : layout.columns) {
    std::string& data = *response.add_item_columns()->mutable_data();
    data.reserve(count * column.bytes);
    for (size_t j = 0; j < count; ++j) {
      data.append(drawing.item_columns.data() + j * layout.payload +
                      (column.offset - layout.header),
                  column.bytes);
    }
  }
  response.clear_views();
  for (const ViewLayout& view : views_) {
    response.add_views()->mutable_data()->reserve(count * view.stack *
                                                  view.column.bytes);
  }
  Frames first(steps_, reach_.first), last(steps_, reach_.last);
  uint64_t first_ids[kGroup], last_ids[kGroup];
  for (size_t begin = 0; begin < count; begin += kGroup) {
    const size_t size = std::min(kGroup, count - begin);
    for (size_t j = 0; j < size; ++j) {
      first_ids[j] = drawing.spans[begin + j].first_id();
      last_ids[j] = drawing.spans[begin + j].last_id;
    }
    first.Resolve(first_ids, size);
    last.Resolve(last_ids, size);
    for (size_t v = 0; v < views_.size(); ++v) {
      const ViewLayout& view = views_[v];
      const Frames& frames = view.at_last ? last : first;
      std::string& data =
          *response.mutable_views(static_cast<int>(v))->mutable_data();
      for (size_t j = 0; j < size; ++j) {
        for (uint32_t back = view.stack; back-- > 0;) {
          data.append(frames.row(j, back) + view.column.offset,
                      view.column.bytes);
        }
      }
    }
  }
}

void Table::Release(std::unique_ptr<Drawing> drawing) {
  pins_.erase(drawing->pin);
}

}  // namespace qfleet
