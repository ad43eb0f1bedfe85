// A batch while its parts are being drawn by the shards, and how the parts
// become one.

#ifndef QFLEET_REPLAY_CLIENT_PENDING_BATCH_H_
#define QFLEET_REPLAY_CLIENT_PENDING_BATCH_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_client/sample_answer.h"
#include "replay_client/sampler.h"

namespace qfleet {

struct PendingBatch {
  struct Part {
    int shard;
    uint32_t count;  // 0 once the shard was lost.
    double share;    // Of the shard in the masses that allotted this part.
    // The rows [first_row, first_row + count) of an answer that may hold parts
    // of other batches too.
    std::shared_ptr<const SampleAnswer> answer;
    uint32_t first_row;
  };

  uint32_t unallotted;   // Rows that no part stands for yet.
  uint32_t missing;      // Rows that are not here yet, the unallotted included.
  bool limited = false;  // Some part was held back by the rate limiter.
  std::vector<Part> parts;
};

// INTERNAL naming what is wrong with the answer to a draw of `count`.
absl::Status CheckAnswer(const v1::TableSignature& signature, uint32_t count,
                         const SampleAnswer& answer);

// Merges the parts, whose answers are checked. A row's probability is the
// share that was used times its share within the shard; `size` is the number
// of items in the cluster.
std::unique_ptr<SampleBatch> MergeParts(const PendingBatch& batch,
                                        uint64_t size);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_PENDING_BATCH_H_
