// Judges a batch against what a table holds and says what to do with it,
// without changing anything.
//
// A step of a known stream must have the stream's next index. A stream that is
// not known (its writer is new, or its newest steps are lost) begins at an
// episode's start; its steps before that are skipped. An item whose steps were
// skipped or lost, or have left the ring, is counted and skipped.

#ifndef QFLEET_REPLAY_SERVER_CORE_APPEND_PLAN_H_
#define QFLEET_REPLAY_SERVER_CORE_APPEND_PLAN_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_server/core/item_slots.h"
#include "replay_server/core/step_ring.h"
#include "replay_server/core/writer_book.h"

namespace qfleet {

// How far back an item's last step may lie behind its stream's newest, and its
// first behind its last. Bounds the search.
inline constexpr uint64_t kMaxItemReach = 4096;

// Largest stacks of the views at an item's first and last step; 1: no stack.
struct ViewReach {
  uint32_t first = 1;
  uint32_t last = 1;
};

struct PlannedStep {
  uint32_t row;  // Of the batch.
  uint32_t prev_distance;
  uint32_t episode_offset;
};

struct PlannedItem {
  uint32_t row;  // Of the batch.
  ItemSpan span;
};

struct AppendPlan {
  std::vector<PlannedStep> steps;  // Step j gets the ring's next id + j.
  std::vector<PlannedItem> items;
  std::vector<std::pair<uint32_t, StreamState>> streams;  // As they will be.
  uint32_t skipped_items = 0;
  uint32_t episodes = 0;  // Begun.
};

// `writer` may be null. The batch passed Table::CheckBatch. INVALID_ARGUMENT
// names the field, its value and what is allowed.
absl::StatusOr<AppendPlan> PlanAppend(const v1::AppendBatch& batch,
                                      const WriterState* writer,
                                      const StepRing& ring,
                                      const ViewReach& reach);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_APPEND_PLAN_H_
