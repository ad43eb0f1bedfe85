// A Writer over gRPC: one Append stream for each shard, acknowledged, resent
// after a reconnect, bounded.

#ifndef QFLEET_REPLAY_CLIENT_REMOTE_WRITER_H_
#define QFLEET_REPLAY_CLIENT_REMOTE_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_client/writer.h"

namespace qfleet {

struct WriterOptions {
  std::string table;
  v1::TableSignature signature;
  std::vector<std::string> shards;  // gRPC addresses, in order.
  // Added to a stream's number before it is spread over the shards, so that
  // the streams of several writers are spread evenly too.
  uint32_t first_stream = 0;
  uint64_t batch_bytes = 64 << 10;
  uint32_t batch_steps = 64;  // 1 to 512.
  absl::Duration batch_age = absl::Milliseconds(20);
  // Of one shard. Few steps, so that an actor that is held back does not act
  // far ahead: what it stores then would be of an old policy.
  uint64_t max_unacknowledged_bytes = 16 << 20;
  uint64_t max_unacknowledged_steps = 256;
  // How long a call may wait at that bound.
  absl::Duration patience = absl::Seconds(300);
};

struct WriterStats {
  uint64_t items_stored = 0;
  uint64_t items_skipped = 0;
  uint64_t batches_resent = 0;
  uint64_t reconnects = 0;
  uint64_t unacknowledged_bytes = 0;  // Now.
  uint32_t shards_connected = 0;      // Now.
  double waited_seconds = 0;          // At the bound, in all.
};

class RemoteWriter : public Writer {
 public:
  // Thread-safe.
  virtual WriterStats Stats() const = 0;
  // Ends all waits with CANCELLED, now and later. Thread-safe.
  virtual void Stop() = 0;
};

// Connects in the background: Make never waits.
std::unique_ptr<RemoteWriter> MakeRemoteWriter(const WriterOptions& options);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_REMOTE_WRITER_H_
