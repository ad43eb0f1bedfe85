// A Writer over gRPC: one Append stream for each shard, acknowledged, resent
// after a reconnect, bounded.
//
// A stream has its shard. While that is away it goes on elsewhere: at once
// where an episode begins; an episode that is under way is given up once the
// shard's queue is full and `shard_patience` is over, and its rest is dropped
// and counted. What is queued by then waits for the shard to come back.

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
  // How long after its loss (or the writer's start, if it was never there) a
  // shard may hold a call up at that bound while another one is connected.
  absl::Duration shard_patience = absl::Seconds(2);
  // A shard that holds a call up and says nothing for so long (the rate limiter
  // may hold it back, or it is stopped, or its host cut off) is asked whether
  // it is there, if another one is connected; and if it does not answer for as
  // long again it is away.
  absl::Duration silence_patience = absl::Seconds(4);
  // How long the first step waits for shards that are not connected yet: else
  // all streams began at the one that is quickest, and stayed there for as long
  // as their first episodes last.
  absl::Duration connect_patience = absl::Seconds(2);
};

struct WriterStats {
  // What became of the items; those that are not counted yet are under way.
  uint64_t items_stored = 0;
  uint64_t items_skipped = 0;
  uint64_t items_dropped = 0;  // With their episode, of a shard that is away.
  // Taken, but the connection broke before the shard could say whether they
  // were stored or skipped.
  uint64_t items_unconfirmed = 0;
  uint64_t steps_dropped = 0;
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

// Connects in the background: Make never waits, the first step may.
std::unique_ptr<RemoteWriter> MakeRemoteWriter(const WriterOptions& options);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_REMOTE_WRITER_H_
