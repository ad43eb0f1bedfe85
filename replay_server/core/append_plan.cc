#include "replay_server/core/append_plan.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

struct Located {
  uint64_t id;
  uint32_t episode_offset;
};

// One stream of the batch.
struct Trail {
  bool known = false;  // Its next step may continue an episode.
  bool has_new_steps = false;
  StreamState state;  // After the steps planned so far.
  // Index of the batch's first step that is kept; `fresh` are these in order.
  uint64_t first_fresh = 0;
  absl::InlinedVector<Located, 8> fresh;
  // The steps before first_fresh, newest first, as far as anyone asked.
  absl::InlinedVector<Located, 8> older;
};

class Planner {
 public:
  Planner(const v1::AppendBatch& batch, const WriterState* writer,
          const StepRing& ring, const ViewReach& reach)
      : batch_(batch), writer_(writer), ring_(ring), reach_(reach) {}

  absl::StatusOr<AppendPlan> Run() {
    plan_.steps.reserve(batch_.step_stream_size());
    plan_.items.reserve(batch_.item_stream_size());
    for (int j = 0; j < batch_.step_stream_size(); ++j) {
      QFLEET_RETURN_IF_ERROR(AddStep(j));
    }
    for (int j = 0; j < batch_.item_stream_size(); ++j) {
      QFLEET_RETURN_IF_ERROR(AddItem(j));
    }
    QFLEET_RETURN_IF_ERROR(CollectStreams());
    return std::move(plan_);
  }

 private:
  Trail& TrailOf(uint32_t stream) {
    auto [found, is_new] = trails_.try_emplace(stream);
    Trail& trail = found->second;
    if (!is_new || writer_ == nullptr) return trail;
    auto state = writer_->streams.find(stream);
    if (state == writer_->streams.end()) return trail;
    trail.known = true;
    trail.state = state->second;
    trail.first_fresh = trail.state.next_index;
    if (ring_.Holds(trail.state.newest_id) &&
        ring_.Has(trail.state.newest_id)) {
      trail.older.push_back(
          {trail.state.newest_id, trail.state.episode_offset});
    }
    return trail;
  }

  absl::Status AddStep(int j) {
    Trail& trail = TrailOf(batch_.step_stream(j));
    const uint64_t index = batch_.step_index(j);
    const bool begins = batch_.step_starts_episode(j);
    // Those between are lost, and with them where the episode stands.
    if (trail.state.recovered && index > trail.state.next_index) {
      trail = Trail();
    }
    trail.state.recovered = false;
    const bool any_index = !trail.known && !trail.has_new_steps;
    if (!any_index && index != trail.state.next_index) {
      return absl::InvalidArgumentError(
          absl::StrCat("step_index[", j, "] = ", index, ": allowed is ",
                       trail.state.next_index, ", the next of stream ",
                       batch_.step_stream(j)));
    }
    trail.has_new_steps = true;
    trail.state.next_index = index + 1;
    if (!trail.known && !begins) {  // Skipped.
      trail.first_fresh = index + 1;
      return absl::OkStatus();
    }
    if (!trail.known) trail.first_fresh = index;
    const uint64_t id = ring_.next_id() + plan_.steps.size();
    // A step before that is out of reach already is none.
    uint64_t distance = trail.known ? id - trail.state.newest_id : 0;
    if (distance >= ring_.capacity()) distance = 0;
    trail.known = true;
    trail.state.newest_id = id;
    trail.state.episode_offset =
        begins ? 0
               : std::min(trail.state.episode_offset,
                          std::numeric_limits<uint32_t>::max() - 1) +
                     1;
    trail.fresh.push_back({id, trail.state.episode_offset});
    plan_.steps.push_back({static_cast<uint32_t>(j),
                           static_cast<uint32_t>(distance),
                           trail.state.episode_offset});
    plan_.episodes += begins;
    return absl::OkStatus();
  }

  // Where the stream's step `index`, less than its next one, is; nothing if
  // it is not in the ring.
  std::optional<Located> Locate(Trail& trail, uint64_t index) {
    if (index >= trail.first_fresh) {
      return trail.fresh[index - trail.first_fresh];
    }
    const uint64_t back = trail.first_fresh - 1 - index;
    while (trail.older.size() <= back) {
      if (trail.older.empty()) return std::nullopt;
      std::optional<uint64_t> id = ring_.Previous(trail.older.back().id);
      if (!id.has_value()) return std::nullopt;
      trail.older.push_back({*id, ring_.header(*id).episode_offset});
    }
    return trail.older[back];
  }

  absl::Status AddItem(int j) {
    Trail& trail = TrailOf(batch_.item_stream(j));
    const uint64_t first = batch_.item_first(j);
    const uint64_t last = batch_.item_last(j);
    // Every item takes this way out or is added at the end.
    const auto skip = [this] {
      ++plan_.skipped_items;
      return absl::OkStatus();
    };
    const uint64_t next = trail.state.next_index;
    // Its steps are lost.
    if (trail.state.recovered && last >= next) return skip();
    // Of a stream that was not seen nothing can be said.
    if (trail.known || trail.has_new_steps) {
      if (last >= next || next - 1 - last > kMaxItemReach) {
        return absl::InvalidArgumentError(absl::StrCat(
            "item_last[", j, "] = ", last, ": allowed is ",
            next - std::min(next, kMaxItemReach + 1), " to ", next - 1,
            ", near the newest step of stream ", batch_.item_stream(j)));
      }
    }
    if (!trail.known) return skip();
    std::optional<Located> last_step = Locate(trail, last);
    if (!last_step.has_value()) return skip();
    if (last_step->episode_offset < last - first) {
      return absl::InvalidArgumentError(
          absl::StrCat("item_first[", j, "] = ", first, ": allowed is ",
                       last - last_step->episode_offset, " to ", last,
                       ", the episode of the item's last step"));
    }
    std::optional<Located> first_step = Locate(trail, first);
    if (!first_step.has_value()) return skip();
    // The stacks reach back, but not across the episode's start.
    const uint64_t oldest =
        std::min(first - std::min(reach_.first - 1, first_step->episode_offset),
                 last - std::min(reach_.last - 1, last_step->episode_offset));
    std::optional<Located> oldest_step = Locate(trail, oldest);
    if (!oldest_step.has_value()) return skip();
    plan_.items.push_back(
        {static_cast<uint32_t>(j),
         {last_step->id, static_cast<uint32_t>(last_step->id - first_step->id),
          static_cast<uint32_t>(last_step->id - oldest_step->id)}});
    return absl::OkStatus();
  }

  absl::Status CollectStreams() {
    size_t known = writer_ == nullptr ? 0 : writer_->streams.size();
    for (const auto& [stream, trail] : trails_) {
      if (!trail.known || !trail.has_new_steps) continue;
      plan_.streams.emplace_back(stream, trail.state);
      if (writer_ == nullptr || !writer_->streams.contains(stream)) ++known;
    }
    if (known > WriterBook::kMaxStreams) {
      return absl::InvalidArgumentError(
          absl::StrCat("step_stream = ", known, " streams of one writer: ",
                       "allowed is at most ", WriterBook::kMaxStreams));
    }
    return absl::OkStatus();
  }

  const v1::AppendBatch& batch_;
  const WriterState* const writer_;
  const StepRing& ring_;
  const ViewReach reach_;
  absl::flat_hash_map<uint32_t, Trail> trails_;
  AppendPlan plan_;
};

}  // namespace

absl::StatusOr<AppendPlan> PlanAppend(const v1::AppendBatch& batch,
                                      const WriterState* writer,
                                      const StepRing& ring,
                                      const ViewReach& reach) {
  return Planner(batch, writer, ring, reach).Run();
}

}  // namespace qfleet
