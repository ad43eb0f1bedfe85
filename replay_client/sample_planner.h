// Which shard is asked for what: makes batches, allots their rows over the
// shards by the newest masses, and collects the answers. No threads, no gRPC.
//
//   planner.Connect(shard, stats, now);
//   planner.Plan(ready, now);                   // now and then
//   if (planner.HasRequest(shard)) planner.NextRequest(shard, draw);
//   planner.Answer(shard, answer, now);         // in the requests' order
//   while (auto arrived = planner.TakeArrived()) ...
//
// Thread-compatible.

#ifndef QFLEET_REPLAY_CLIENT_SAMPLE_PLANNER_H_
#define QFLEET_REPLAY_CLIENT_SAMPLE_PLANNER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/random.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_client/cluster_stats.h"
#include "replay_client/pending_batch.h"
#include "replay_client/remote_sampler.h"

namespace qfleet {

// How many rows a shard is asked for at once, where there are many: some 2 MiB.
uint32_t AnswerRows(const v1::TableSignature& signature);

class SamplePlanner {
 public:
  explicit SamplePlanner(const SamplerOptions& options);

  // ---- One shard's connection ----------------------------------------------

  // The answer to `open`.
  void Connect(int shard, const v1::TableStats& stats, absl::Time now);
  // What it was asked for is allotted anew, over the shards that are left.
  void Disconnect(int shard);

  bool HasRequest(int shard) const { return !shards_[shard].to_send.empty(); }
  void NextRequest(int shard, v1::SampleDraw& draw);
  // INTERNAL if the answer does not fit its request.
  absl::Status Answer(int shard, std::shared_ptr<const SampleAnswer> answer,
                      absl::Time now);

  // ---- Batches -------------------------------------------------------------

  // Starts batches so that with the `ready` ones there are `prefetch`, once
  // half of these are used up (so that one request asks for several), allots
  // what is not allotted, and asks idle shards for their stats.
  void Plan(size_t ready, absl::Time now);
  // The next rows that are here, in the order in which they came.
  std::optional<ArrivedPart> TakeArrived();

  // How soon Plan should run again if nothing happens.
  absl::Duration period() const;
  // Age of the oldest mass when rows were last allotted.
  absl::Duration mass_age() const { return mass_age_; }
  const ClusterStats& stats() const { return stats_; }

  // What an unfinished batch waits for.
  bool waits_for_limiter() const;
  bool waits_for(int shard) const { return !shards_[shard].in_flight.empty(); }

 private:
  // A part of `batch`, or just the stats if that is null.
  struct Ask {
    std::shared_ptr<PendingBatch> batch;
    BatchPart part;
    uint32_t count() const { return part.count; }
  };
  // What goes out as one draw. Its rows are independent, so that they can be
  // dealt to its parts in order.
  using Request = std::vector<Ask>;
  struct Shard {
    std::deque<Ask> to_send;
    std::deque<Request> in_flight;
    // Of a request that is for several: fewer while its queue is short.
    uint32_t most_rows = 0;
    bool idle() const { return to_send.empty() && in_flight.empty(); }
  };

  void AllotRows(const std::shared_ptr<PendingBatch>& batch, absl::Time now);
  // `count` rows of a shard, in parts that an answer may have.
  void AddParts(const std::shared_ptr<PendingBatch>& batch, int shard,
                uint32_t count, double share);
  void Refresh(absl::Time now);
  static void Unallot(const Ask& ask);
  // After an answer without rows.
  void AskAgain(Shard& asked, const Request& request,
                const v1::SampleResponse& answer);
  void Deal(const Request& request,
            const std::shared_ptr<const SampleAnswer>& answer);

  const SamplerOptions options_;
  ClusterStats stats_;
  const uint32_t answer_rows_;      // Of a request, where there are many,
  const uint32_t max_answer_rows_;  // and the most.
  Random random_;
  std::vector<Shard> shards_;
  std::vector<std::shared_ptr<PendingBatch>> pending_;
  std::deque<ArrivedPart> arrived_;
  absl::Duration mass_age_;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_SAMPLE_PLANNER_H_
