// A table's counters, and the commit of a batch: the one store after which the
// batch is part of the table, whole.
//
// Region "state", little-endian: two copies of CommitRecord at 0 and 64, two of
// SampledRecord at 128 and 192. A change is written to the first copy and then
// to the second. Whoever is killed meanwhile leaves at least one that is whole;
// the newer whole one counts. Damage to one of them is made good by the other.
//
// What makes this enough against kill -9: stores to a shared mapping reach the
// file's pages in program order, and none that was done is lost with the
// process. Against a power failure only a sync helps (Storage::Sync).
//
// Thread-compatible.

#ifndef QFLEET_REPLAY_SERVER_CORE_TABLE_STATE_H_
#define QFLEET_REPLAY_SERVER_CORE_TABLE_STATE_H_

#include <cstdint>

#include "absl/status/status.h"

namespace qfleet {

// Totals after a batch, and whose batch it was.
struct CommitRecord {
  uint64_t number;  // 1, 2, 3, ...; 0: nothing was committed yet.
  uint64_t inserted;
  uint64_t steps;
  uint64_t episodes;
  uint64_t skipped;
  uint64_t writer_id;
  uint64_t sequence;
  uint64_t check;  // XXH3-64 of the fields before; 0 in a new region.
};
static_assert(sizeof(CommitRecord) == 64);

struct SampledRecord {
  uint64_t number;
  uint64_t sampled;
  uint64_t check;
};

class TableState {
 public:
  static constexpr uint64_t kBytes = 4096;

  // `region`: kBytes, zero when new.
  explicit TableState(char* region);

  // Takes what an earlier life left. DATA_LOSS if neither copy of a record is
  // whole.
  absl::Status Recover();

  // The newest; number and check are the state's own.
  const CommitRecord& commit() const { return commit_; }
  void Commit(CommitRecord record);

  uint64_t sampled() const { return sampled_.sampled; }
  void SetSampled(uint64_t sampled);

 private:
  char* const region_;
  CommitRecord commit_ = {};
  SampledRecord sampled_ = {};
};

// Keeps the compiler from moving stores across: what stands before it in the
// program is in memory before what stands after it, as a killed process leaves
// them.
inline void StoreBarrier() { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_TABLE_STATE_H_
