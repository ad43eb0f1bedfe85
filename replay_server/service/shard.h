// A shard: tables and the lock of each; blocking and callbacks around Table.
//
// Callers are gRPC handlers. One mutex a table; payload is copied outside it.
// Waiting for the rate limiter never holds a thread on the append side: a
// batch that must wait is queued and its callback runs later, in the thread
// that made room (a sample, an update of others' totals, shutdown).
//
// With a data directory the tables are files in it and outlive the process. Two
// threads look after them: one syncs them every sync_interval, one verifies at
// the start what an earlier life left and then ends.
//
// Thread-safe.

#ifndef QFLEET_REPLAY_SERVER_SERVICE_SHARD_H_
#define QFLEET_REPLAY_SERVER_SERVICE_SHARD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/metrics.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_server/core/data_directory.h"
#include "replay_server/core/storage.h"
#include "replay_server/service/served_table.h"

namespace qfleet {

class Shard {
 public:
  struct Options {
    uint32_t number = 0;
    std::vector<v1::TableSpec> tables;
    uint64_t seed = 1;
    // Made if need be; empty: the tables are in memory.
    std::string data_dir;
    absl::Duration sync_interval = absl::Seconds(5);
    // A checkpoint that the tables begin with; empty: none. Where data_dir has
    // a table already, that one is kept.
    std::string restore;
    // Where a table's rows are to be instead, and are synced. Null: as above.
    std::function<std::unique_ptr<Storage>(const v1::TableSpec&)> storage;
    // Called once, in a thread of the shard, when a sync has failed.
    std::function<void()> on_storage_failure;
  };

  // `metrics` must outlive the shard. Errors as Table::Create and
  // DataDirectory::Lock.
  static absl::StatusOr<std::unique_ptr<Shard>> Create(const Options& options,
                                                       Metrics& metrics);
  ~Shard();

  // The table's number for the calls below. NOT_FOUND names the tables that
  // there are; FAILED_PRECONDITION says how the signature differs.
  absl::StatusOr<int> Open(const std::string& table,
                           const v1::TableSignature& signature,
                           absl::string_view who) const;

  // UNAVAILABLE, and why, once the table takes no more writes.
  absl::Status WriteStatus(int table) const;

  uint64_t LastSequence(int table, uint64_t writer_id) const;

  // Stores the batch; what it refers to must live until `done` has been called,
  // exactly once, in this thread or another. A sequence that is stored already
  // is acknowledged; one that leaves a gap is OUT_OF_RANGE; after Shutdown
  // everything is UNAVAILABLE.
  using AppendDone = std::function<void(absl::StatusOr<v1::AppendResponse>)>;
  void Append(int table, const ServedTable::AppendCall& call, AppendInput batch,
              AppendDone done);

  // Forget queued Appends, of one connection (it broke) or of all those of a
  // writer (a new one replaces them): their `done` is called with CANCELLED
  // before this returns, unless it was or is being called already.
  void CancelAppends(int table, const ServedTable::AppendCall& call);
  void CancelAppends(int table, uint64_t writer_id);

  // Shard number and stats, nothing else.
  void FillStats(int table, v1::SampleResponse& response) const;

  // Waits for the rate limiter, draws, gathers. On an error the response is
  // unspecified.
  absl::Status Sample(int table, const v1::SampleDraw& draw,
                      v1::SampleResponse& response);

  absl::StatusOr<v1::UpdatePrioritiesResponse> UpdatePriorities(
      const v1::UpdatePrioritiesRequest& request);

  absl::StatusOr<v1::SetRateLimiterResponse> SetRateLimiter(
      const v1::SetRateLimiterRequest& request);

  // Blocks until the checkpoint is there, synced.
  absl::StatusOr<v1::CheckpointResponse> Checkpoint(
      const v1::CheckpointRequest& request);

  v1::DescribeResponse Describe() const;

  // Ends all waits with UNAVAILABLE, and syncs; later calls get it too.
  void Shutdown();

 private:
  explicit Shard(const Options& options);

  absl::Status Restore();
  absl::Status OpenTable(const v1::TableSpec& spec, Metrics& metrics);
  // Where the table's rows are to be, restored if need be.
  absl::StatusOr<std::unique_ptr<Storage>> StorageFor(
      const v1::TableSpec& spec) const;
  void SyncLoop();
  absl::StatusOr<std::string> WriteCheckpoint(
      const v1::CheckpointRequest& request);
  absl::Status WriteTables(const std::string& path);
  absl::StatusOr<int> FindTable(const std::string& name) const;

  const Options options_;
  const absl::Time started_;
  std::unique_ptr<DataDirectory> directory_;  // Null: none.
  // Shared with the metrics' scrape, which may outlive the shard. Constant
  // after Create; each synchronises itself.
  std::vector<std::shared_ptr<ServedTable>> tables_;

  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool checkpointing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread sync_;
  std::thread verify_;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_SERVICE_SHARD_H_
