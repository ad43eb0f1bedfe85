// A batch while its rows are being drawn by the shards. They are copied to it
// answer by answer, as these come: one is a few megabytes and in the caches
// then, and its memory is free for the next.

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

// Rows of a batch that a shard is asked for.
struct BatchPart {
  int shard = 0;
  uint32_t count = 0;
  double share = 0;  // Of the shard in the masses that allotted this part.
};

struct PendingBatch {
  uint32_t unallotted;   // Rows that no part stands for yet.
  uint32_t missing;      // Rows that are not here yet, the unallotted included.
  bool limited = false;  // Some part was held back by the rate limiter.

  // Those that are copied. They belong to the thread that copies, all else to
  // the planner, whoever may use that. A row's probability is the share that
  // was used times its share within the shard; until FinishBatch it is not
  // scaled.
  std::unique_ptr<SampleBatch> rows = std::make_unique<SampleBatch>();
};

// The rows [first_row, first_row + part.count) of an answer, which may hold
// parts of other batches too.
struct ArrivedPart {
  std::shared_ptr<PendingBatch> batch;
  BatchPart part;
  std::shared_ptr<const SampleAnswer> answer;
  uint32_t first_row;
  uint64_t size;  // Items in the cluster when the answer came.
  bool last;      // The batch has all its rows with it.
};

// INTERNAL naming what is wrong with the answer to a draw of `count`.
absl::Status CheckAnswer(const v1::TableSignature& signature, uint32_t count,
                         const SampleAnswer& answer);

// Copies the rows, of an answer that is checked, to their batch, which will
// have `batch_size`.
void AppendRows(const ArrivedPart& arrived, uint32_t batch_size);

// The batch, to which its last rows were copied. `size` is theirs.
std::unique_ptr<SampleBatch> FinishBatch(PendingBatch& batch, uint64_t size);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_PENDING_BATCH_H_
