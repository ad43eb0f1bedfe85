// Creation, priorities, statistics. Appending is in table_append.cc, sampling
// in table_sample.cc.

#include "replay_server/core/table.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/table_spec.h"

namespace qfleet {
namespace {

constexpr uint64_t kMinSteps = 64;
// How many rows ahead a pass over rows in random order prefetches.
constexpr int kAhead = 16;

// A valid priority always gives a mass within these, so that every item can be
// drawn and the sum of 2^32 masses stays finite.
constexpr double kMinMass = 1e-150;
constexpr double kMaxMass = 1e150;

// Of one item: its row and its share of the tree, rounded up.
uint64_t ItemBytes(const v1::TableSpec& spec) {
  const RowLayout layout(spec.signature().item_columns(), sizeof(ItemRecord));
  const uint64_t tree = SumTree::BytesFor(spec.max_items());
  return layout.stride + (tree + spec.max_items() - 1) / spec.max_items();
}

absl::StatusOr<uint64_t> StepCapacity(const v1::TableSpec& spec) {
  const RowLayout layout(spec.signature().step_columns(), sizeof(StepHeader));
  // In 128 bits, for rows may have gigabytes.
  using Wide = unsigned __int128;
  const Wide items = Wide{spec.max_items()} * ItemBytes(spec);
  const Wide needed = items + Wide{kMinSteps} * layout.stride;
  if (spec.max_bytes() < needed) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_bytes = ", spec.max_bytes(), ": allowed is at least ",
        static_cast<double>(needed) < 1e18 ? static_cast<uint64_t>(needed)
                                           : static_cast<uint64_t>(1e18),
        ", for max_items = ", spec.max_items(), " items and ", kMinSteps,
        " steps"));
  }
  const uint64_t wanted = spec.max_items() + spec.max_items() / 4 + 1024;
  const uint64_t room =
      (spec.max_bytes() - static_cast<uint64_t>(items)) / layout.stride;
  return std::min({wanted, room, StepRing::kMaxCapacity});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Table>> Table::Create(const v1::TableSpec& spec,
                                                     Storage& storage,
                                                     uint64_t seed) {
  QFLEET_RETURN_IF_ERROR(ValidateTableSpec(spec, "table"));
  QFLEET_ASSIGN_OR_RETURN(const uint64_t step_capacity, StepCapacity(spec));
  const RowLayout steps(spec.signature().step_columns(), sizeof(StepHeader));
  const RowLayout items(spec.signature().item_columns(), sizeof(ItemRecord));
  QFLEET_ASSIGN_OR_RETURN(char* step_rows,
                          storage.Region(absl::StrCat(spec.name(), ".steps"),
                                         step_capacity * steps.stride));
  QFLEET_ASSIGN_OR_RETURN(char* item_rows,
                          storage.Region(absl::StrCat(spec.name(), ".items"),
                                         spec.max_items() * items.stride));
  try {
    return std::unique_ptr<Table>(
        new Table(spec, step_capacity, step_rows, item_rows, seed));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("table \"", spec.name(), "\": no memory for a tree of ",
                     SumTree::BytesFor(spec.max_items()), " bytes"));
  }
}

Table::Table(const v1::TableSpec& spec, uint64_t step_capacity, char* step_rows,
             char* item_rows, uint64_t seed)
    : spec_(spec),
      step_capacity_(step_capacity),
      item_bytes_(ItemBytes(spec)),
      steps_(step_rows, step_capacity,
             RowLayout(spec.signature().step_columns(), sizeof(StepHeader))),
      items_(item_rows, static_cast<uint32_t>(spec.max_items()),
             RowLayout(spec.signature().item_columns(), sizeof(ItemRecord)),
             static_cast<uint32_t>(MixSeed(seed, 0)), steps_),
      tree_(static_cast<uint32_t>(spec.max_items())),
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
}

v1::TableStats Table::Stats() const {
  v1::TableStats stats;
  stats.set_mass(tree_.total());
  stats.set_size(items_.size());
  stats.set_inserted(items_.inserted());
  stats.set_sampled(sampled_);
  stats.set_steps(steps_appended_);
  stats.set_episodes(episodes_);
  stats.set_bytes(steps_.size() * steps_.layout().stride +
                  items_.size() * item_bytes_);
  stats.set_skipped(skipped_);
  return stats;
}

double Table::Mass(float priority) const {
  const v1::Selector& selector = spec_.selector();
  if (selector.kind() == v1::Selector::UNIFORM) return 1;
  const double base = static_cast<double>(priority) + selector.epsilon();
  return std::clamp(std::pow(base, selector.alpha()), kMinMass, kMaxMass);
}

absl::StatusOr<v1::UpdatePrioritiesResponse> Table::UpdatePriorities(
    const v1::UpdatePrioritiesRequest& request) {
  const int count = request.slot_size();
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
    const ItemRecord& record = items_.record(slot);
    if (!record.live || record.generation != request.generation(j)) continue;
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
    const auto wrong = [slot](absl::string_view what) {
      return absl::InternalError(absl::StrCat("table: slot ", slot, what));
    };
    if ((tree_.Get(slot) > 0) != (item.live != 0)) {
      return wrong(" has a mass and no item, or an item and no mass");
    }
    if (!item.live) continue;
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
