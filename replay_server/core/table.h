// A table: steps and items of one signature, how items are drawn, which go.
//
// Steps stand in one ring in the order of their arrival, whatever their
// stream. Step id n = 0, 1, 2, ... lies in row n % capacity. Each row has a
// header that links it to the step before it in its stream and says how far
// into its episode it is; frame stacks are read by walking these links.
// Items stand in slots, a ring as well (FIFO). An item knows the ids of its
// first and last step. When a step's row is to be reused, the items that read
// it are removed first: each row heads a list of the items whose *oldest* step
// (the first one's frame stack included) it is. So an item in the tree can
// always be materialised, and a sample never has to be rejected.
//
// Appending and sampling copy payload. A caller with a lock (Shard) holds it
// for Reserve, Commit, Draw and Release and not for Write and Gather, which do
// the copying:
//
//   append:  CheckBatch -> Reserve -> (until Writable) -> Write -> Commit
//   sample:  Draw -> Gather -> Release
//
// Between Draw and Release the drawn items' steps are *pinned*: their rows are
// not written. Likewise a reservation pins its own rows. Reserve evicts first
// and assigns ids at once; Writable says whether the last reader of the rows
// to be overwritten has left.
//
// Thread-compatible, except that CheckBatch, Write and Gather may run while
// other methods do, as above.

#ifndef QFLEET_REPLAY_SERVER_CORE_TABLE_H_
#define QFLEET_REPLAY_SERVER_CORE_TABLE_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/random.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_server/core/append_plan.h"
#include "replay_server/core/item_slots.h"
#include "replay_server/core/row_layout.h"
#include "replay_server/core/step_ring.h"
#include "replay_server/core/storage.h"
#include "replay_server/core/sum_tree.h"
#include "replay_server/core/writer_book.h"

namespace qfleet {

// An item's key within its shard.
struct ItemKey {
  uint32_t slot = 0;
  uint32_t generation = 0;
};

class Table {
 public:
  // `storage` must outlive the table and be new to it; its regions are named
  // "TABLE.steps" and "TABLE.items". INVALID_ARGUMENT if the spec is not
  // valid or max_bytes too small for 64 steps and the items;
  // RESOURCE_EXHAUSTED if there is no memory. `seed` seeds the draws and the
  // first generation number (so that keys of an earlier life of the shard
  // are stale in this one).
  static absl::StatusOr<std::unique_ptr<Table>> Create(
      const v1::TableSpec& spec, Storage& storage, uint64_t seed);

  const v1::TableSpec& spec() const { return spec_; }
  v1::TableStats Stats() const;
  // Rows of the step ring: 5/4 of max_items + 1024, or what max_bytes allows.
  uint64_t step_capacity() const { return step_capacity_; }

  // ---- Appending ----------------------------------------------------------

  // What of a batch can be judged without the table's contents: list lengths,
  // column sizes, finite priorities, first <= last and at most 4096 apart, at
  // most half the ring's steps. Touches no mutable state.
  absl::Status CheckBatch(const v1::AppendBatch& batch) const;

  // The last sequence that was committed of this writer; 0: none.
  uint64_t LastSequence(uint64_t writer_id) const;

  struct Reservation;

  // Judges the rest (a stream's indices have no gap, spans stay within an
  // episode), and if all is well evicts and assigns step ids. On an error
  // nothing has changed. `batch` passed CheckBatch and must live and stay
  // unchanged until Commit. At most one reservation a writer at a time.
  absl::StatusOr<std::unique_ptr<Reservation>> Reserve(
      uint64_t writer_id, const v1::AppendBatch& batch);

  // Whether no reader is left in the rows to be overwritten.
  bool Writable(const Reservation& reservation) const;

  // Copies step columns and links.
  void Write(const Reservation& reservation);

  // Inserts the items; what the writer is to be told.
  v1::AppendResponse Commit(std::unique_ptr<Reservation> reservation);

  // ---- Sampling -----------------------------------------------------------

  struct Drawing;

  // `count` items, independently, each with probability mass / total mass.
  // Counts them as sampled. FAILED_PRECONDITION if the table's mass is 0 and
  // `count` is not.
  absl::StatusOr<std::unique_ptr<Drawing>> Draw(uint32_t count);

  // Fills stats, slot, generation, mass, item_columns and views of `response`.
  void Gather(const Drawing& drawing, v1::SampleResponse& response) const;

  void Release(std::unique_ptr<Drawing> drawing);

  // ---- Priorities ---------------------------------------------------------

  // INVALID_ARGUMENT (nothing changed) if lengths differ or a priority is not
  // finite or negative.
  absl::StatusOr<v1::UpdatePrioritiesResponse> UpdatePriorities(
      const v1::UpdatePrioritiesRequest& request);

  // For tests: links, lists, tree and counters agree.
  absl::Status CheckInvariants() const;

 private:
  // A view, resolved.
  struct ViewLayout {
    ColumnLayout column;  // Of a step's row.
    bool at_last;         // Else at the item's first step.
    uint32_t stack;
  };
  // The step rows that a drawn item's views read.
  class Frames;

  Table(const v1::TableSpec& spec, uint64_t step_capacity, char* step_rows,
        char* item_rows, uint64_t seed);

  absl::Status CheckSteps(const v1::AppendBatch& batch) const;
  absl::Status CheckItems(const v1::AppendBatch& batch) const;
  void EvictRows(uint64_t first_id, uint64_t end_id);
  uint32_t InsertItem(const v1::AppendBatch& batch, const PlannedItem& item);
  void CopyDrawnItems(Drawing& drawing) const;
  double Mass(float priority) const;

  const v1::TableSpec spec_;
  const uint64_t step_capacity_;
  const uint64_t item_bytes_;      // Of one item: row and share of the tree.
  std::vector<ViewLayout> views_;  // In the signature's order.
  ViewReach reach_;

  StepRing steps_;
  ItemSlots items_;
  SumTree tree_;  // A leaf for each slot.
  WriterBook writers_;
  Random random_;
  // Rows of these step ids and of later ones may be in use outside the lock:
  // one for each reservation and each drawing.
  std::multiset<uint64_t> pins_;
  uint64_t steps_appended_ = 0;
  uint64_t episodes_ = 0;
  uint64_t sampled_ = 0;
  uint64_t skipped_ = 0;
  // Scratch of the method that runs.
  std::vector<uint32_t> slots_;
  std::vector<double> masses_;
};

// Rows of the ring that one batch is about to fill. Callers only keep it.
struct Table::Reservation {
  uint64_t writer_id = 0;
  const v1::AppendBatch* batch = nullptr;
  uint64_t first_id = 0;
  uint64_t end_id = 0;
  AppendPlan plan;
  std::multiset<uint64_t>::iterator pin;
};

// What was drawn, row j of each list for the j-th item. Callers only keep it.
struct Table::Drawing {
  v1::TableStats stats;  // Just before the draw.
  std::vector<uint32_t> slots;
  std::vector<uint32_t> generations;
  std::vector<double> masses;
  std::vector<ItemSpan> spans;
  std::vector<char> item_columns;  // The items' columns, row by row.
  std::multiset<uint64_t>::iterator pin;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_TABLE_H_
