// Where a learner's batches come from, and where its priorities go. Remote:
// RemoteSampler; in one process: solo's LocalSampler.

#ifndef QFLEET_REPLAY_CLIENT_SAMPLER_H_
#define QFLEET_REPLAY_CLIENT_SAMPLER_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qfleet/v1/checkpoint.pb.h"

namespace qfleet {

// Names an item for ever.
struct SampleKey {
  uint32_t shard = 0;
  uint32_t slot = 0;
  uint32_t generation = 0;
};

// Column-major: row j of each column belongs to keys[j].
struct SampleBatch {
  std::vector<SampleKey> keys;
  // size * probability of each row over the whole cluster at its draw: the
  // importance weight before beta and before dividing by the maximum.
  std::vector<double> scaled_probability;
  // The signature's item columns, then its views, each `rows * row bytes`.
  std::vector<std::string> columns;

  int rows() const { return static_cast<int>(keys.size()); }
};

// (N P)^-beta over the batch's maximum (Schaul et al. 2016): in (0, 1], the
// largest is 1. `scaled_probability` > 0.
std::vector<float> ImportanceWeights(
    absl::Span<const double> scaled_probability, double beta);

// Counters of the replay as the sampler knows them, summed over the shards.
struct ReplayView {
  uint64_t size = 0;
  uint64_t inserted = 0;
  uint64_t sampled = 0;
  uint64_t steps = 0;
  uint64_t episodes = 0;
  uint64_t bytes = 0;
  double mass = 0;
  uint32_t shards = 0;  // Connected.
  uint64_t priorities_applied = 0;
  uint64_t priorities_stale = 0;
  uint64_t priorities_unknown = 0;
  // Environment steps that each shard has counted; 0: it was never seen.
  // Empty where there are no shards.
  std::vector<uint64_t> shard_env_steps;
};

// An episode of n environment steps is n + 1 stored steps: its final
// observation is one.
inline uint64_t EnvSteps(uint64_t steps, uint64_t episodes) {
  return steps - std::min(steps, episodes);
}

// Thread-compatible: one learner thread.
class Sampler {
 public:
  virtual ~Sampler() = default;

  // The next batch of `batch_size` rows. Blocks while the rate limiter or the
  // network keeps it waiting, at most about `patience`: then
  // DEADLINE_EXCEEDED says who waits for what, and the next call goes on.
  // CANCELLED after Stop. FAILED_PRECONDITION etc. as in replay.proto: do not
  // call again.
  virtual absl::StatusOr<std::unique_ptr<SampleBatch>> Next() = 0;

  // New priorities (unweighted |TD error|) of the rows of a batch. Does not
  // wait for the shards.
  virtual absl::Status UpdatePriorities(absl::Span<const SampleKey> keys,
                                        absl::Span<const float> priorities) = 0;

  virtual ReplayView View() const = 0;

  // What it knows of each shard, in order; none in one process.
  virtual std::vector<v1::KnownShard> Known() const { return {}; }
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_SAMPLER_H_
