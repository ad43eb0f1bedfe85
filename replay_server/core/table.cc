// Creation, priorities, statistics. Appending is in table_append.cc, sampling
// in table_sample.cc.

#include "replay_server/core/table.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "replay_server/core/table_header.h"

namespace qfleet {
namespace {

// How many rows ahead a pass over rows in random order prefetches.
constexpr int kAhead = 16;

// Of a request, all of which are written under one hold of the lock.
constexpr int kMaxPriorities = 131072;

// A valid priority always gives a mass within these, so that every item can be
// drawn and the sum of 2^32 masses stays finite.
constexpr double kMinMass = 1e-150;
constexpr double kMaxMass = 1e150;

}  // namespace

absl::StatusOr<std::unique_ptr<Table>> Table::Create(const v1::TableSpec& spec,
                                                     Storage& storage,
                                                     uint64_t seed,
                                                     uint32_t shard) {
  QFLEET_ASSIGN_OR_RETURN(
      const v1::TableHeader wanted,
      MakeTableHeader(spec, shard, static_cast<uint32_t>(MixSeed(seed, 0))));
  QFLEET_ASSIGN_OR_RETURN(const Storage::Mapped mapped, storage.Open(wanted));
  std::unique_ptr<Table> table;
  try {
    table.reset(new Table(spec, mapped.header, mapped.regions, seed));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("table \"", spec.name(), "\": no memory for a tree of ",
                     SumTreeBytes(spec.max_items()), " bytes"));
  }
  if (mapped.is_new) return table;
  const absl::Status status = table->Recover();
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat(storage.directory(), "/",
                                                    status.message()));
  }
  // What is dropped must stay so whatever is written from here on.
  // (All of it would take long after a kill, with gigabytes of frames
  // unwritten.)
  if (table->recovery().dropped > 0) {
    QFLEET_RETURN_IF_ERROR(storage.SyncRegion(kItemsRegion));
  }
  return table;
}

Table::Table(const v1::TableSpec& spec, const v1::TableHeader& header,
             const std::vector<char*>& regions, uint64_t seed)
    : spec_(spec),
      step_capacity_(header.step_capacity()),
      header_(header),
      regions_(regions),
      layout_(spec),
      state_(regions[kStateRegion]),
      steps_(regions[kStepsRegion], regions[kPayloadRegion], step_capacity_,
             layout_.step),
      items_(regions[kItemsRegion], layout_.item,
             {.capacity = static_cast<uint32_t>(spec.max_items()),
              .first_generation = header.first_generation(),
              .remover = spec.remover(),
              .by_age = spec.selector().kind() == v1::Selector::FIFO},
             steps_),
      tree_(static_cast<uint32_t>(spec.max_items())),
      writers_(regions[kWritersRegion]),
      random_(MixSeed(seed, 1)) {
  const v1::TableSignature& signature = spec_.signature();
  for (const v1::View& view : signature.views()) {
    int column = 0;
    while (signature.step_columns(column).name() != view.column()) ++column;
    const bool at_last = view.anchor() == v1::View::LAST;
    const uint32_t stack = std::max(view.stack(), 1u);
    views_.push_back({steps_.layout().columns[column], at_last, stack});
    uint32_t& reach = at_last ? reach_.last : reach_.first;
    reach = std::max(reach, stack);
  }
  start_.set_life(MixSeed(seed, 2));
}

v1::TableStats Table::Stats() const {
  v1::TableStats stats = start_;
  stats.set_mass(tree_.total());
  stats.set_size(items_.size());
  stats.set_inserted(items_.inserted());
  stats.set_sampled(state_.sampled());
  stats.set_steps(state_.commit().steps);
  stats.set_episodes(state_.commit().episodes);
  stats.set_bytes(steps_.size() * layout_.step_bytes +
                  items_.size() * layout_.item_bytes);
  stats.set_skipped(state_.commit().skipped);
  return stats;
}

double Table::Mass(float priority) const {
  const v1::Selector& selector = spec_.selector();
  if (selector.kind() == v1::Selector::UNIFORM ||
      selector.kind() == v1::Selector::FIFO) {
    return 1;
  }
  const double base = static_cast<double>(priority) + selector.epsilon();
  return std::clamp(std::pow(base, selector.alpha()), kMinMass, kMaxMass);
}

absl::StatusOr<v1::UpdatePrioritiesResponse> Table::UpdatePriorities(
    const v1::UpdatePrioritiesRequest& request) {
  const int count = request.slot_size();
  if (count > kMaxPriorities) {
    return absl::InvalidArgumentError(absl::StrCat(
        "slot = ", count, " entries: allowed is at most ", kMaxPriorities));
  }
  if (request.generation_size() != count || request.priority_size() != count) {
    return absl::InvalidArgumentError(
        absl::StrCat("slot, generation, priority = lists of ", count, ", ",
                     request.generation_size(), ", ", request.priority_size(),
                     ": allowed are lists of one length"));
  }
  for (int j = 0; j < count; ++j) {
    if (!std::isfinite(request.priority(j)) || request.priority(j) < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("priority[", j, "] = ", request.priority(j),
                       ": allowed is finite and at least 0"));
    }
  }
  v1::UpdatePrioritiesResponse response;
  slots_.clear();
  masses_.clear();
  uint32_t unknown = 0;
  for (int j = 0; j < count; ++j) {
    if (j + kAhead < count && request.slot(j + kAhead) < items_.capacity()) {
      __builtin_prefetch(items_.row(request.slot(j + kAhead)));
    }
    const uint32_t slot = request.slot(j);
    if (slot >= items_.capacity()) {
      ++unknown;
      continue;
    }
    if (!items_.live(slot) ||
        items_.generation(slot) != request.generation(j)) {
      continue;
    }
    items_.SetPriority(slot, request.priority(j));
    slots_.push_back(slot);
    masses_.push_back(Mass(request.priority(j)));
  }
  tree_.Set(slots_, masses_);
  const auto applied = static_cast<uint32_t>(slots_.size());
  response.set_applied(applied);
  response.set_unknown(unknown);
  response.set_stale(static_cast<uint32_t>(count) - applied - unknown);
  return response;
}

absl::Status Table::CheckInvariants() const {
  QFLEET_RETURN_IF_ERROR(tree_.CheckInvariants());
  QFLEET_RETURN_IF_ERROR(items_.CheckInvariants());
  for (uint32_t slot = 0; slot < items_.capacity(); ++slot) {
    const ItemRecord& item = items_.record(slot);
    const bool live = items_.live(slot);
    const auto wrong = [slot](absl::string_view what) {
      return absl::InternalError(absl::StrCat("table: slot ", slot, what));
    };
    if ((tree_.Get(slot) > 0) != live) {
      return wrong(" has a mass and no item, or an item and no mass");
    }
    if (!live) continue;
    if (tree_.Get(slot) != Mass(item.value.priority)) {
      return wrong(" has a mass that is not its priority's");
    }
    if (!steps_.Holds(item.span.last_id) ||
        !steps_.Holds(item.span.oldest_id())) {
      return wrong(" has an item whose steps are gone");
    }
    // Both the first and the oldest step are on the way back from the last.
    bool saw_first = false;
    std::optional<uint64_t> id = item.span.last_id;
    while (id.has_value() && *id > item.span.oldest_id()) {
      saw_first |= *id == item.span.first_id();
      id = steps_.Previous(*id);
    }
    saw_first |= id == item.span.first_id();
    if (id != item.span.oldest_id() || !saw_first) {
      return wrong(" has an item whose steps are not linked");
    }
  }
  if (Stats().bytes() > spec_.max_bytes()) {
    return absl::InternalError(absl::StrCat("table: ", Stats().bytes(),
                                            " bytes are in use, allowed ",
                                            "are ", spec_.max_bytes()));
  }
  return absl::OkStatus();
}

}  // namespace qfleet
