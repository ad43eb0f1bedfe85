// A shard: tables and the lock of each; blocking and callbacks around Table.
//
// Callers are gRPC handlers. One mutex a table; payload is copied outside it.
// Waiting for the rate limiter never holds a thread on the append side: a
// batch that must wait is queued and its callback runs later, in the thread
// that made room (a sample, an update of others' totals, shutdown).
//
// Thread-safe.

#ifndef QFLEET_REPLAY_SERVER_SERVICE_SHARD_H_
#define QFLEET_REPLAY_SERVER_SERVICE_SHARD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/metrics.h"
#include "qfleet/v1/replay.pb.h"

namespace qfleet {

class ServedTable;

class Shard {
 public:
  struct Options {
    uint32_t number = 0;
    std::vector<v1::TableSpec> tables;
    uint64_t seed = 1;
  };

  // `metrics` must outlive the shard.
  static absl::StatusOr<std::unique_ptr<Shard>> Create(const Options& options,
                                                       Metrics& metrics);
  ~Shard();

  // The table's number for the calls below. NOT_FOUND names the tables that
  // there are; FAILED_PRECONDITION says how the signature differs.
  absl::StatusOr<int> Open(const std::string& table,
                           const v1::TableSignature& signature,
                           absl::string_view who) const;

  uint64_t LastSequence(int table, uint64_t writer_id) const;

  // Stores the batch, which must live until `done` has been called, exactly
  // once, in this thread or another. A sequence that is stored already is
  // acknowledged; one that leaves a gap is OUT_OF_RANGE; after Shutdown
  // everything is UNAVAILABLE.
  using AppendDone = std::function<void(absl::StatusOr<v1::AppendResponse>)>;
  void Append(int table, uint64_t writer_id, const v1::AppendBatch& batch,
              AppendDone done);

  // Forgets a queued Append of this writer (its connection broke): its `done`
  // is called with CANCELLED before this returns, unless it was or is being
  // called already.
  void CancelAppend(int table, uint64_t writer_id);

  // Shard number and stats, nothing else.
  void FillStats(int table, v1::SampleResponse& response) const;

  // Waits for the rate limiter, draws, gathers. On an error the response is
  // unspecified.
  absl::Status Sample(int table, const v1::SampleDraw& draw,
                      v1::SampleResponse& response);

  absl::StatusOr<v1::UpdatePrioritiesResponse> UpdatePriorities(
      const v1::UpdatePrioritiesRequest& request);

  v1::DescribeResponse Describe() const;

  // Ends all waits with UNAVAILABLE; later calls get it too.
  void Shutdown();

 private:
  explicit Shard(uint32_t number);

  absl::StatusOr<int> FindTable(const std::string& name) const;

  const uint32_t number_;
  const absl::Time started_;
  // Shared with the metrics' scrape, which may outlive the shard. Constant
  // after Create; each synchronises itself.
  std::vector<std::shared_ptr<ServedTable>> tables_;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_SERVICE_SHARD_H_
