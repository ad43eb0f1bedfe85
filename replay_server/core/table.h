// A table: steps and items of one signature, how items are drawn, which go.
//
// Steps stand in one ring in the order of their arrival, whatever their
// stream. Step id n = 0, 1, 2, ... lies in row n % capacity. Each row has a
// header that links it to the step before it in its stream and says how far
// into its episode it is; frame stacks are read by walking these links.
// Items stand in slots (item_slots.h). An item knows the ids of its first and
// last step. When a step's row is to be reused, the items that read
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
// All that is acknowledged is in the storage's regions, written such that a
// process killed at any moment leaves a table that can be opened again: rows
// are whole or known to be torn, and a batch becomes part of the table by one
// record (table_state.h). What can be derived (lists, the tree, where streams
// stand) is in memory only; Create derives it anew.
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
#include "common/table_layout.h"
#include "qfleet/v1/replay.pb.h"
#include "qfleet/v1/storage.pb.h"
#include "replay_server/core/append_input.h"
#include "replay_server/core/append_plan.h"
#include "replay_server/core/item_slots.h"
#include "replay_server/core/step_ring.h"
#include "replay_server/core/storage.h"
#include "replay_server/core/sum_tree.h"
#include "replay_server/core/table_state.h"
#include "replay_server/core/writer_book.h"

namespace qfleet {

// An item's key within its shard.
struct ItemKey {
  uint32_t slot = 0;
  uint32_t generation = 0;
};

class Table {
 public:
  // `storage` must outlive the table and is for it alone. If it has the rows of
  // an earlier life, the table begins with them. INVALID_ARGUMENT if the spec
  // is not valid or max_bytes too small for 64 steps and the items;
  // RESOURCE_EXHAUSTED if there is no room; FAILED_PRECONDITION if the storage
  // has another table; DATA_LOSS if it is damaged beyond use. `seed` seeds the
  // draws, the generation numbers of a new table (so that keys of an earlier
  // one that lost its memory are stale) and the number of this life.
  static absl::StatusOr<std::unique_ptr<Table>> Create(
      const v1::TableSpec& spec, Storage& storage, uint64_t seed,
      uint32_t shard = 0);

  const v1::TableSpec& spec() const { return spec_; }
  v1::TableStats Stats() const;
  // Rows of the step ring: 5/4 of max_items + 1024, or what max_bytes allows.
  uint64_t step_capacity() const { return step_capacity_; }

  // How many writers' sequences are known.
  uint64_t writers() const { return writers_.size(); }

  // What Create found.
  struct Recovery {
    bool recovered = false;  // There was an earlier life.
    uint64_t items = 0;
    uint64_t dropped = 0;        // Items whose rows were lost or damaged.
    uint64_t damaged_steps = 0;  // Whose header did not match its checksum.
    // Whose sequences are lost: what they send again may be stored twice.
    uint64_t damaged_writers = 0;
  };
  const Recovery& recovery() const { return recovery_; }

  // ---- Appending ----------------------------------------------------------

  // What of a batch can be judged without the table's contents: list lengths,
  // column sizes, finite priorities, first <= last and at most 4096 apart, at
  // most half the ring's steps. Touches no mutable state.
  absl::Status CheckBatch(const AppendInput& batch) const;

  // The last sequence that was committed of this writer; 0: none.
  uint64_t LastSequence(uint64_t writer_id) const;

  struct Reservation;

  // Judges the rest (a stream's indices have no gap, spans stay within an
  // episode), and if all is well evicts and assigns step ids. On an error
  // nothing has changed. `batch` passed CheckBatch. At most one reservation a
  // writer at a time.
  absl::StatusOr<std::unique_ptr<Reservation>> Reserve(uint64_t writer_id,
                                                       AppendInput batch);

  // Whether no reader is left in the rows to be overwritten.
  bool Writable(const Reservation& reservation) const;

  // Copies step columns and links.
  void Write(const Reservation& reservation);

  // Inserts the items; what the writer is to be told.
  v1::AppendResponse Commit(std::unique_ptr<Reservation> reservation);

  // ---- Sampling -----------------------------------------------------------

  struct Drawing;

  // How many items may be drawn now: without bound if there is one, but with
  // the selector FIFO what is left of the queue.
  uint64_t Drawable() const;

  // `count` items: independently, each with probability mass / total mass, or
  // with the selector FIFO the next ones of the queue. Counts them as sampled.
  // FAILED_PRECONDITION if `count` exceeds Drawable.
  absl::StatusOr<std::unique_ptr<Drawing>> Draw(uint32_t count);

  // Fills stats, slot, generation, mass, item_columns and views of `response`.
  void Gather(const Drawing& drawing, v1::SampleResponse& response) const;

  void Release(std::unique_ptr<Drawing> drawing);

  // ---- Priorities ---------------------------------------------------------

  // INVALID_ARGUMENT (nothing changed) if lengths differ or a priority is not
  // finite or negative.
  absl::StatusOr<v1::UpdatePrioritiesResponse> UpdatePriorities(
      const v1::UpdatePrioritiesRequest& request);

  // ---- Verification -------------------------------------------------------

  // Create looks at headers and items, which is quick. The payload that an
  // earlier life left is verified piece by piece, from the oldest:
  //
  //   while (auto piece = BeginVerify(1024)) {     // lock
  //     damaged = Verify(*piece);                  // no lock
  //     EndVerify(std::move(piece), damaged);      // lock
  //   }
  struct VerifyPiece;
  std::unique_ptr<VerifyPiece> BeginVerify(uint64_t max_rows);
  // Ids of steps whose payload does not match its checksum.
  std::vector<uint64_t> Verify(const VerifyPiece& piece) const;
  // Removes those steps and the items that read them.
  void EndVerify(std::unique_ptr<VerifyPiece> piece,
                 const std::vector<uint64_t>& damaged);

  struct Verified {
    uint64_t steps = 0;  // Verified so far ...
    uint64_t total = 0;  // ... of so many.
    uint64_t damaged_steps = 0;
    uint64_t damaged_items = 0;
  };
  const Verified& verified() const { return verified_; }

  // ---- Snapshots ----------------------------------------------------------

  // The table's regions as of BeginSnapshot, at which no reservation may be
  // open, while it goes on; one at a time. Steps are pinned until they were
  // copied, oldest first; those that were of no live item at the beginning,
  // older ones, are left out. Items that are overwritten before they were
  // copied are kept in memory, so that these are to be copied first, and fast:
  //
  //   snapshot = BeginSnapshot();                          // lock
  //   while (CopyItems(*snapshot, 256 << 10, pieces)) ...  // lock, each
  //   ItemsCopied(*snapshot, kept);                        // lock
  //   while (NextSteps(*snapshot, 1 << 20, rows)) {        // no lock
  //     write rows                                         // no lock
  //     StepsCopied(*snapshot, rows);                      // lock
  //   }
  //   EndSnapshot(std::move(snapshot));                    // lock
  //
  // Priorities are those at the copying of their item. Opened, the copy is the
  // table (Recover drops what items came after BeginSnapshot).
  struct Snapshot;
  struct Piece {
    uint64_t offset = 0;  // In the region.
    std::string data;
  };
  struct StepRows {
    uint64_t count = 0;
    const char* headers = nullptr;
    uint64_t header_offset = 0;  // In the region.
    uint64_t header_bytes = 0;
    const char* payload = nullptr;
    uint64_t payload_offset = 0;
    uint64_t payload_bytes = 0;
  };
  std::unique_ptr<Snapshot> BeginSnapshot();
  // Adds the next rows to `pieces`, which are to be written in this order;
  // false if there are none.
  bool CopyItems(Snapshot& snapshot, uint64_t max_bytes,
                 std::vector<Piece>& pieces) const;
  // All of them. `kept`: what is to be written after those.
  void ItemsCopied(Snapshot& snapshot, std::vector<Piece>& kept);
  bool NextSteps(const Snapshot& snapshot, uint64_t max_bytes,
                 StepRows& rows) const;
  void StepsCopied(Snapshot& snapshot, const StepRows& rows);
  void EndSnapshot(std::unique_ptr<Snapshot> snapshot);

  // What the regions lack for a table that goes on draw by draw. Restore: for a
  // table that was opened from a copy of the regions of the same moment;
  // DATA_LOSS if it does not belong to it, and nothing has changed.
  v1::TableVolatile SaveVolatile() const;
  absl::Status RestoreVolatile(const v1::TableVolatile& saved);

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

  Table(const v1::TableSpec& spec, const v1::TableHeader& header,
        const std::vector<char*>& regions, uint64_t seed);

  // Takes what an earlier life left. DATA_LOSS if that cannot be.
  absl::Status Recover();
  void RecoverStreams();
  absl::Status CheckSteps(const AppendInput& input) const;
  absl::Status CheckItems(const AppendInput& input) const;
  void EvictRows(uint64_t first_id, uint64_t end_id);
  uint64_t OldestNeeded() const;
  // Before the row of the slot is overwritten.
  void KeepForSnapshot(uint32_t slot);
  uint32_t InsertItem(const AppendInput& batch, const PlannedItem& item);
  void DrawByMass(uint32_t count, Drawing& drawing);
  void DrawInOrder(uint32_t count, Drawing& drawing);
  void CopyDrawnItems(Drawing& drawing) const;
  uint16_t MaxTimesSampled() const;
  double Mass(float priority) const;

  const v1::TableSpec spec_;
  const uint64_t step_capacity_;
  const v1::TableHeader header_;
  const std::vector<char*> regions_;
  const TableLayout layout_;
  std::vector<ViewLayout> views_;  // In the signature's order.
  ViewReach reach_;

  TableState state_;
  StepRing steps_;
  ItemSlots items_;
  SumTree tree_;  // A leaf for each slot.
  WriterBook writers_;
  Random random_;
  // Rows of these step ids and of later ones may be in use outside the lock:
  // one for each reservation, drawing, snapshot and piece that is verified.
  std::multiset<uint64_t> pins_;
  Snapshot* snapshot_ = nullptr;  // Of which items are to be copied.
  v1::TableStats start_;          // What it says of this life's beginning.
  Recovery recovery_;
  Verified verified_;
  uint64_t verify_next_ = 0;  // Ids from here ...
  uint64_t verify_end_ = 0;   // ... to here are not verified yet.
  // Scratch of the method that runs.
  std::vector<uint32_t> slots_;
  std::vector<double> masses_;
};

// Rows of the ring that one batch is about to fill. Callers only keep it.
struct Table::Reservation {
  uint64_t writer_id = 0;
  AppendInput batch;
  uint64_t first_id = 0;
  uint64_t end_id = 0;
  AppendPlan plan;
  std::multiset<uint64_t>::iterator pin;
};

// Steps [first, end) while they are verified. Callers only keep it.
struct Table::VerifyPiece {
  uint64_t first_id = 0;
  uint64_t end_id = 0;
  std::multiset<uint64_t>::iterator pin;
};

// Callers only keep it, and read the first three.
struct Table::Snapshot {
  v1::TableHeader header;
  std::string state;
  std::string writers;
  uint64_t next_id = 0;  // Steps from here ...
  uint64_t end_id = 0;   // ... to here are to be copied.
  std::multiset<uint64_t>::iterator pin;
  uint64_t inserted = 0;  // Items with greater numbers came after it.
  uint32_t next_slot = 0;
  uint32_t slots_left = 0;
  std::vector<Piece> kept;
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
