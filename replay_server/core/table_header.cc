#include "replay_server/core/table_header.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/table_layout.h"
#include "common/table_spec.h"
#include "replay_server/core/table_state.h"
#include "replay_server/core/writer_book.h"

namespace qfleet {

absl::StatusOr<v1::TableHeader> MakeTableHeader(const v1::TableSpec& spec,
                                                uint32_t shard,
                                                uint32_t first_generation) {
  QFLEET_RETURN_IF_ERROR(ValidateTableSpec(spec, "table"));
  QFLEET_ASSIGN_OR_RETURN(const uint64_t capacity, StepCapacity(spec));
  const TableLayout layout(spec);
  v1::TableHeader header;
  header.set_format(kTableFormat);
  header.set_shard(shard);
  *header.mutable_spec() = spec;
  header.set_step_capacity(capacity);
  header.set_first_generation(first_generation);
  const auto add = [&header](const char* name, uint64_t bytes) {
    v1::TableHeader::Region& region = *header.add_regions();
    region.set_name(name);
    region.set_bytes(bytes);
  };
  add("state", TableState::kBytes);
  add("writers", WriterBook::kBytes);
  add("steps", capacity * TableLayout::kStepHeader);
  add("payload", capacity * layout.step.stride);
  add("items", spec.max_items() * layout.item.stride);
  return header;
}

absl::Status CheckTableHeader(const v1::TableHeader& stored,
                              const v1::TableHeader& wanted,
                              absl::string_view directory) {
  const auto differs = [&](absl::string_view what, const auto& theirs,
                           const auto& ours) {
    return absl::FailedPreconditionError(absl::StrCat(
        directory, ": ", what, " is ", theirs, " in these files and ", ours,
        " in the config: allowed is the same, or another folder"));
  };
  if (stored.format() != kTableFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory, ": format = ", stored.format(), ": allowed is ",
                     kTableFormat));
  }
  if (stored.shard() != wanted.shard()) {
    return differs("shard", stored.shard(), wanted.shard());
  }
  const v1::TableSpec& theirs = stored.spec();
  const v1::TableSpec& ours = wanted.spec();
  absl::Status same =
      CheckSameSignature(ours.signature(), theirs.signature(), directory);
  if (!same.ok()) return same;
  if (theirs.max_items() != ours.max_items()) {
    return differs("max_items", theirs.max_items(), ours.max_items());
  }
  if (theirs.max_bytes() != ours.max_bytes()) {
    return differs("max_bytes", theirs.max_bytes(), ours.max_bytes());
  }
  if ((theirs.remover() == v1::LOWEST_PRIORITY) !=
      (ours.remover() == v1::LOWEST_PRIORITY)) {
    return differs("remover", v1::Remover_Name(theirs.remover()),
                   v1::Remover_Name(ours.remover()));
  }
  // Follows from the spec, unless another build counted otherwise.
  if (stored.step_capacity() != wanted.step_capacity() ||
      stored.regions_size() != wanted.regions_size()) {
    return differs("step_capacity", stored.step_capacity(),
                   wanted.step_capacity());
  }
  for (int r = 0; r < wanted.regions_size(); ++r) {
    if (stored.regions(r).name() != wanted.regions(r).name() ||
        stored.regions(r).bytes() != wanted.regions(r).bytes()) {
      return differs(absl::StrCat("the size of ", wanted.regions(r).name()),
                     stored.regions(r).bytes(), wanted.regions(r).bytes());
    }
  }
  return absl::OkStatus();
}

}  // namespace qfleet
