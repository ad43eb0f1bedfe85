// One update: sample -> batch -> algorithm -> priorities, and its account.

#ifndef QFLEET_LEARNER_TRAINER_H_
#define QFLEET_LEARNER_TRAINER_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "learner/algorithms/algorithm.h"
#include "qfleet/v1/config.pb.h"
#include "replay_client/sampler.h"

namespace qfleet {

// Sums since the account was last taken.
struct TrainerAccount {
  int64_t updates = 0;
  double loss = 0;
  double mean_q = 0;
  double gradient_norm = 0;
  double wait_seconds = 0;  // For the replay.
  double copy_seconds = 0;  // Samples to tensors.
  double update_seconds = 0;
  double priority_seconds = 0;  // Handing priorities to the sampler.
  double publish_seconds = 0;   // The loop's: weights and checkpoints.
  int64_t skipped = 0;          // Updates that were not finite.
};

// Thread-compatible.
class Trainer {
 public:
  // `sampler` must outlive the trainer.
  Trainer(const v1::Config& config, std::unique_ptr<Algorithm> algorithm,
          Sampler& sampler);

  // One update. Priorities go out as the algorithm has them, on a device one
  // update later. DEADLINE_EXCEEDED: the replay had nothing yet; call again.
  // CANCELLED: another learner of the job asked all to stop.
  // Other errors end the run. INTERNAL: LibTorch's, or too many updates in a
  // row were skipped; the weights are then as after the last update.
  absl::Status Step();

  // Waits for a result that a device still owes, so that its priorities are out
  // and counted.
  absl::Status Settle();

  // Where several learners train together: asks all to stop. Each one's Step
  // gives CANCELLED then.
  absl::Status StopAll();

  Algorithm& algorithm() { return *algorithm_; }
  int64_t updates() const { return algorithm_->updates(); }
  TrainerAccount TakeAccount();

  // Of the newest batch, [rows, observation...], valid until the next Step;
  // undefined before the first.
  const at::Tensor& newest_observations() const { return observations_; }

 private:
  class Lap;

  absl::Status Update(Lap& lap);  // With the newest batch.
  // The result of the oldest batch that had none.
  absl::Status Take(const UpdateResult& result);

  absl::Status TakePart(bool stop);
  absl::Status Finish(const UpdateResult& result);
  absl::Status Skipped(const UpdateResult& result);

  const v1::ReplayConfig config_;
  const int64_t max_skipped_;  // In a row.
  const std::unique_ptr<Algorithm> algorithm_;
  Sampler& sampler_;
  std::unique_ptr<SampleBatch> newest_;
  at::Tensor observations_;                  // Over the newest batch's memory.
  std::deque<std::vector<SampleKey>> keys_;  // Of batches without a result.
  int64_t skipped_in_a_row_ = 0;
  TrainerAccount account_;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_TRAINER_H_
