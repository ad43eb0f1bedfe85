// What a sampler knows of its shards' tables, newest reply by newest reply.
//
// A shard that lost its memory begins to count at 0 again, and one that was
// restored where its checkpoint was. What it had counted beyond that in earlier
// lives stays in the cluster's totals of inserted and sampled: the limiter's
// difference would else jump, and hold one side back for long.
//
// Thread-compatible.

#ifndef QFLEET_REPLAY_CLIENT_CLUSTER_STATS_H_
#define QFLEET_REPLAY_CLIENT_CLUSTER_STATS_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/random.h"
#include "qfleet/v1/checkpoint.pb.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_client/sampler.h"

namespace qfleet {

class ClusterStats {
 public:
  // `known` by an earlier life of the sampler's.
  explicit ClusterStats(int shards,
                        const std::vector<v1::KnownShard>& known = {});

  // A reply of the shard, which is connected by that.
  void Update(int shard, const v1::TableStats& stats, absl::Time now);
  void Disconnect(int shard) { shards_[shard].connected = false; }

  bool connected(int shard) const { return shards_[shard].connected; }
  absl::Time updated_at(int shard) const { return shards_[shard].updated_at; }

  // Of each shard; 0 where it is not connected.
  std::vector<double> Masses() const;

  // Items of the connected shards.
  uint64_t size() const;

  // Totals of all but `shard`, for its rate limiter: what it does not count
  // itself, its own earlier lives included. The size is over all shards as they
  // were last known: one that is away keeps its items and comes back with them,
  // and the cluster must not fall below the limiter's min_size by that.
  void FillOthers(int shard, v1::SampleDraw& draw) const;

  std::vector<v1::KnownShard> Known() const;

  // All but the priorities' counts.
  ReplayView View() const;

 private:
  struct Shard {
    bool connected = false;
    v1::TableStats stats;
    v1::TableStats earlier;  // What earlier lives counted and lost, summed.
    absl::Time updated_at;
  };
  std::vector<Shard> shards_;
};

// `count` independent draws of an index, each with probability mass / sum of
// masses: how often each came. The sum must be > 0.
std::vector<uint32_t> Allot(absl::Span<const double> masses, uint32_t count,
                            Random& random);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_CLUSTER_STATS_H_
