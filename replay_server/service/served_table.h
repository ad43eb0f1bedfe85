// A table and its lock: the calls of many handlers on one Table.
//
// The lock is held for bookkeeping, payload is copied outside it. Appends that
// the rate limiter holds back stand in a queue; whoever changes what the
// limiter looks at drains it, outside the lock, in order.
//
// If its storage fails (a sync did not succeed) nothing is written any more:
// appends and priorities are UNAVAILABLE, samples go on.
//
// Thread-safe.

#ifndef QFLEET_REPLAY_SERVER_SERVICE_SERVED_TABLE_H_
#define QFLEET_REPLAY_SERVER_SERVICE_SERVED_TABLE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/metrics.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_server/core/checkpoint.h"
#include "replay_server/core/rate_limiter.h"
#include "replay_server/core/storage.h"
#include "replay_server/core/table.h"
#include "replay_server/service/table_metrics.h"

namespace qfleet {

class ServedTable {
 public:
  using AppendDone = std::function<void(absl::StatusOr<v1::AppendResponse>)>;
  // Whose an append is: the writer's, by one of its connections.
  struct AppendCall {
    uint64_t writer_id = 0;
    const void* connection = nullptr;
  };

  // `shard` is its number. Errors as Table::Create.
  static absl::StatusOr<std::unique_ptr<ServedTable>> Create(
      const v1::TableSpec& spec, uint32_t shard,
      std::unique_ptr<Storage> storage, uint64_t seed, Metrics& metrics);
  ~ServedTable();

  const v1::TableSpec& spec() const { return table_->spec(); }

  // The methods are those of Shard, which documents them.
  absl::Status WriteStatus() const;
  uint64_t LastSequence(uint64_t writer_id) const;
  void Append(const AppendCall& call, AppendInput batch, AppendDone done);
  void CancelAppends(const AppendCall& call);
  void CancelAppends(uint64_t writer_id);
  absl::Status Sample(const v1::SampleDraw& draw, v1::SampleResponse& response);
  absl::StatusOr<v1::UpdatePrioritiesResponse> UpdatePriorities(
      const v1::UpdatePrioritiesRequest& request);
  v1::TableStats Stats() const;
  v1::TableInfo Info() const;
  v1::RateLimiter SetRateLimiter(const v1::RateLimiter& limiter);

  // Syncs the storage. After an error the table takes no more writes.
  absl::Status Sync();
  // Verifies the payload that an earlier life left, until done or Shutdown.
  void VerifyAll();
  // Writes the table's files as of now into `directory`, which is made. Blocks;
  // one at a time. CANCELLED by Shutdown.
  absl::Status WriteSnapshot(const std::string& directory);

  void ExportMetrics() { metrics_.Export(Info()); }
  void Shutdown();

 private:
  struct QueuedAppend {
    AppendCall call;
    AppendInput batch;
    AppendDone done;
    absl::Time since;
  };

  ServedTable(std::unique_ptr<Storage> storage, std::unique_ptr<Table> table,
              double recovery_seconds, Metrics& metrics);

  // Stores queued appends for as long as there is one that may be stored.
  void Drain();
  std::optional<QueuedAppend> TakeRunnable()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<v1::AppendResponse> Store(const QueuedAppend& append);
  // The end of what TakeRunnable began.
  void NoteStored(const QueuedAppend& append);
  // The answer to a sequence that is not the next one.
  std::optional<absl::StatusOr<v1::AppendResponse>> Settle(uint64_t writer_id,
                                                           uint64_t sequence)
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);

  // OK, or `response` says `limited`, or UNAVAILABLE.
  absl::Status AwaitSample(const v1::SampleDraw& draw,
                           v1::SampleResponse& response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool CanInsert() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  bool CanSample(uint32_t count) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // In words; empty: for nothing.
  std::string WritersWaitFor() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  std::string SamplersWaitFor() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // Cancels what `chosen` chooses of the queue.
  void CancelIf(const std::function<bool(const AppendCall&)>& chosen);
  // `items` are in memory, and there may be more.
  absl::Status WriteRows(Table::Snapshot& snapshot, bool more,
                         std::vector<Table::Piece> items,
                         TableFilesWriter& files);
  // So many that they fit in memory; whether there are more.
  absl::StatusOr<bool> CopyItems(Table::Snapshot& snapshot,
                                 std::vector<Table::Piece>& items);
  absl::Status WriteItems(const std::vector<Table::Piece>& items,
                          TableFilesWriter& files);
  absl::Status WriteSteps(Table::Snapshot& snapshot, TableFilesWriter& files);
  absl::Status Reject(const absl::Status& status);

  const std::unique_ptr<Storage> storage_;
  // Guarded by mutex_ but for spec, CheckBatch, Write and Gather.
  const std::unique_ptr<Table> table_;
  TableMetrics metrics_;
  const double recovery_seconds_;
  const uint64_t max_draw_;

  mutable absl::Mutex mutex_;
  RateLimiter limiter_ ABSL_GUARDED_BY(mutex_);
  ReplayTotals others_ ABSL_GUARDED_BY(mutex_);  // As a sampler told last.
  std::deque<QueuedAppend> queue_ ABSL_GUARDED_BY(mutex_);  // Oldest first.
  // How many appends of a writer are queued or being stored, and the writers
  // one of whose batches is being stored. A connection that replaces a broken
  // one may send what the old one is still storing.
  absl::flat_hash_map<uint64_t, int> appends_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<uint64_t> storing_ ABSL_GUARDED_BY(mutex_);
  uint64_t items_storing_ ABSL_GUARDED_BY(mutex_) = 0;
  std::multiset<absl::Time> sampler_waits_ ABSL_GUARDED_BY(mutex_);
  // A snapshot begins as soon as no append is being stored; threads that are
  // about to store one wait, which is for milliseconds. (The thread that writes
  // the snapshot stores none: it would wait for rows that it has pinned.)
  bool quiescing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failed_ ABSL_GUARDED_BY(mutex_);  // Of the storage.
  std::optional<absl::Time> synced_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_SERVICE_SERVED_TABLE_H_
