// A Sampler over gRPC and over all shards: exact global sampling.
//
// A batch of B rows is allotted over the shards by B independent draws with
// the shards' newest known masses; each shard draws its part; the parts are
// merged. A row's probability is the product of what was really used, the
// allotment's share of the shard and the item's share within the shard at the
// draw, so that importance weights stay exact however stale the masses were.
// Prefetch keeps several batches in flight; masses are at most that many
// batches old (qfleet_sampler_mass_age_seconds).
//
// A shard that cannot be reached gets no allotment, the rest are sampled with
// the weights that are right for what is left; it is taken in again when it
// is back.

#ifndef QFLEET_REPLAY_CLIENT_REMOTE_SAMPLER_H_
#define QFLEET_REPLAY_CLIENT_REMOTE_SAMPLER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/metrics.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_client/sampler.h"

namespace qfleet {

struct SamplerOptions {
  std::string table;
  v1::TableSignature signature;
  std::vector<std::string> shards;  // gRPC addresses, in order.
  uint32_t batch_size = 64;
  uint32_t prefetch = 2;                       // Batches.
  uint64_t seed = 1;                           // Of the allotment.
  absl::Duration patience = absl::Seconds(1);  // Of Next().
  // A shard that lets a draw wait so long is given up until it answers again,
  // and the others are sampled. It holds none back for more than 20 ms itself.
  absl::Duration shard_patience = absl::Seconds(5);
  // What the sampler of an earlier life knew last (Sampler::Known), so that its
  // counters go on.
  std::vector<v1::KnownShard> known;
};

class RemoteSampler : public Sampler {
 public:
  // Ends all waits with CANCELLED, now and later. Thread-safe.
  virtual void Stop() = 0;
};

// Connects in the background: Make never waits. `metrics` must outlive it.
std::unique_ptr<RemoteSampler> MakeRemoteSampler(const SamplerOptions& options,
                                                 Metrics& metrics);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_REMOTE_SAMPLER_H_
