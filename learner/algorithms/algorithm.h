// A learning algorithm: what turns batches into weights. It owns its networks,
// targets and optimizers; nobody outside sees how many there are.
//
// To add one: a file of its own, a message in AlgorithmConfig's `kind`, a line
// in MakeAlgorithm, and the table that it needs in config/ (TableFor).

#ifndef QFLEET_LEARNER_ALGORITHMS_ALGORITHM_H_
#define QFLEET_LEARNER_ALGORITHMS_ALGORITHM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "learner/batch.h"
#include "learner/collective.h"
#include "model/network.h"
#include "qfleet/v1/checkpoint.pb.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

struct UpdateResult {
  // There is no result: that of the batch just given is still being computed.
  bool pending = false;
  double loss = 0;
  std::vector<float> priorities;  // [B], unweighted |TD error|.
  // The loss or the gradient was not finite: nothing has changed, and there are
  // no priorities.
  bool skipped = false;
  // A learner of the job asked all to stop: nothing has changed.
  bool stopped = false;
  double mean_q = 0;         // Of the best actions, legal or not.
  double gradient_norm = 0;  // Before clipping.
};

// Thread-compatible. May throw LibTorch's exceptions, which the loop catches.
class Algorithm {
 public:
  virtual ~Algorithm() = default;

  // One optimizer step. On the CPU its result is returned. A device computes
  // while the caller goes on: the result is that of the batch before, `pending`
  // for the first one; every batch has one, in order.
  // Where several learners train together, it waits for theirs, and throws if
  // one of them is gone.
  virtual UpdateResult Update(const Batch& batch) = 0;
  // Waits for the result that Update owes; `pending` if it owes none.
  virtual UpdateResult Finish() { return {.pending = true}; }
  // Where several learners train together: takes part in the others' step
  // without a batch, or asks all to stop. `pending`: there was no step.
  virtual UpdateResult TakePart(bool /*stop*/) { return {.pending = true}; }
  // Steps taken. One whose result is owed counts, and no longer if it turns out
  // to have been skipped.
  virtual int64_t updates() const = 0;

  // The parameters that actors run, float32, flat. With Save this waits for the
  // device.
  virtual std::string Publish() const = 0;
  virtual const Network& network() const = 0;

  // All state, so that a loaded algorithm goes on as if never stopped. After it
  // updates() is exact.
  virtual std::vector<v1::NamedTensor> Save() = 0;
  // FAILED_PRECONDITION naming the tensor that is missing or does not fit;
  // nothing has changed then.
  virtual absl::Status Load(int64_t updates,
                            const std::vector<v1::NamedTensor>& tensors) = 0;
};

// The one that config.algorithm() names, on config.learner().device(), which is
// refused if it is not there. `collective`: of the learners that
// train together, which must outlive it; null: there is one.
absl::StatusOr<std::unique_ptr<Algorithm>> MakeAlgorithm(
    const v1::Config& config, Collective* collective = nullptr);

// Gives every rank rank 0's state.
absl::Status ShareState(Algorithm& algorithm, Collective& collective);

}  // namespace qfleet

#endif  // QFLEET_LEARNER_ALGORITHMS_ALGORITHM_H_
