// Sends new priorities to one shard, without anybody waiting for it: at most
// one call is in flight, what comes meanwhile goes with the next.
//
// Thread-safe.

#ifndef QFLEET_REPLAY_CLIENT_PRIORITY_UPDATER_H_
#define QFLEET_REPLAY_CLIENT_PRIORITY_UPDATER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/client_context.h"
#include "prometheus/counter.h"
#include "qfleet/v1/replay.grpc.pb.h"

namespace qfleet {

class PriorityUpdater {
 public:
  struct Counts {
    uint64_t applied = 0;
    uint64_t stale = 0;
    uint64_t unknown = 0;
  };

  // `dropped` counts priorities that never got there, because the shard was
  // away or too slow: they only make sampling less sharp. It must outlive the
  // updater.
  PriorityUpdater(std::unique_ptr<v1::Replay::Stub> stub,
                  const std::string& table, prometheus::Counter& dropped);
  // Cancels the call in flight.
  ~PriorityUpdater();

  // slot, generation and priority of `request` are used; equally long. They go
  // out with the next Flush.
  void Add(const v1::UpdatePrioritiesRequest& request);

  // Sends what has come together. While a call is in flight it goes out when
  // that has ended.
  void Flush();

  Counts counts() const;

  // What was added and is not applied yet.
  struct Backlog {
    uint64_t priorities = 0;
    double seconds = 0;  // Since the oldest of them was added.
  };
  Backlog backlog() const;

 private:
  // Of what waits, 1 MiB of 12 bytes each.
  static constexpr int kMaxWaiting = (1 << 20) / 12;

  void StartCall() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnReply(const grpc::Status& status);

  const std::unique_ptr<v1::Replay::Stub> stub_;
  const std::string table_;
  prometheus::Counter& dropped_;

  mutable absl::Mutex mutex_;
  v1::UpdatePrioritiesRequest waiting_ ABSL_GUARDED_BY(mutex_);
  absl::Time waiting_since_ ABSL_GUARDED_BY(mutex_);  // If there are any.
  bool in_flight_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  Counts counts_ ABSL_GUARDED_BY(mutex_);
  // Of the call in flight.
  std::unique_ptr<grpc::ClientContext> context_ ABSL_GUARDED_BY(mutex_);
  absl::Time request_since_ ABSL_GUARDED_BY(mutex_);
  v1::UpdatePrioritiesRequest request_ ABSL_GUARDED_BY(mutex_);
  v1::UpdatePrioritiesResponse response_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_PRIORITY_UPDATER_H_
