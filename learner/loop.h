// The learner's loop: update, publish, report, checkpoint, stop.

#ifndef QFLEET_LEARNER_LOOP_H_
#define QFLEET_LEARNER_LOOP_H_

#include <functional>

#include "absl/status/statusor.h"
#include "learner/publisher.h"
#include "learner/run.h"
#include "learner/trainer.h"
#include "qfleet/v1/config.pb.h"
#include "replay_client/sampler.h"

namespace qfleet {

// Until the run's outcome is decided or `interrupted` (then kNone). Ends with
// a checkpoint in every case but a failed update (INTERNAL) or a write error.
// `step`, if given, runs before each update: what else the thread has to do
// (solo: act, evaluate).
absl::StatusOr<Outcome> TrainUntilDone(
    const v1::Config& config, Trainer& trainer, Sampler& sampler,
    Publisher& publisher, Run& run, const std::function<ActorsView()>& actors,
    const std::function<bool()>& interrupted,
    const std::function<absl::Status()>& step = nullptr);

}  // namespace qfleet

#endif  // QFLEET_LEARNER_LOOP_H_
