// The learner's loop: update, publish, report, checkpoint, stop.

#ifndef QFLEET_LEARNER_LOOP_H_
#define QFLEET_LEARNER_LOOP_H_

#include <functional>

#include "absl/status/statusor.h"
#include "learner/checkpoint_writer.h"
#include "learner/publisher.h"
#include "learner/run.h"
#include "learner/trainer.h"
#include "qfleet/v1/config.pb.h"
#include "replay_client/sampler.h"

namespace qfleet {

// What the loop asks of whoever runs it, in its thread.
struct LoopHooks {
  std::function<ActorsView()> actors;
  // Ends the loop.
  std::function<bool()> interrupted;
  // Before each update: what else the thread has to do (solo: act, evaluate).
  // May be null.
  std::function<absl::Status()> step;
  // Adds to a checkpoint what the loop does not know, and says what is to be
  // written beside it. May be null.
  std::function<WriteBeside(v1::Checkpoint&)> save;
};

// Until the run's outcome is decided or `interrupted` (then kNone). Periodic
// checkpoints go to `writer`, which writes them while the loop goes on; one
// that is due while another is being written is left out. Ends with a
// checkpoint, which is written before this returns, whatever ended the loop.
absl::StatusOr<Outcome> TrainUntilDone(const v1::Config& config,
                                       Trainer& trainer, Sampler& sampler,
                                       Publisher& publisher, Run& run,
                                       CheckpointWriter& writer,
                                       const LoopHooks& hooks);

}  // namespace qfleet

#endif  // QFLEET_LEARNER_LOOP_H_
