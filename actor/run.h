// The loops of the actor process: acting, and evaluating.

#ifndef QFLEET_ACTOR_RUN_H_
#define QFLEET_ACTOR_RUN_H_

#include <string>

#include "absl/status/status.h"
#include "common/metrics.h"
#include "common/shutdown.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// Acts with number `index` of config.actors().count() until shutdown is
// requested. OK then; what the shards do not acknowledge within half a second
// is given up.
absl::Status RunActor(const v1::Config& config, int index,
                      ShutdownSignal& shutdown, Metrics& metrics);

// Evaluates publications, newest first, evaluation.period_updates apart, and
// reports to the learner, until shutdown is requested.
absl::Status RunEvaluator(const v1::Config& config, ShutdownSignal& shutdown,
                          Metrics& metrics);

struct EvaluateOptions {
  std::string run_dir;
  int episodes = 0;  // 0: as the run's config says.
  bool json = false;
  // What an actor's policy would be that has the weights in this form. With
  // another than FP32, beside the policy of the weights as they are.
  v1::WeightCodec codec = v1::FP32;
};

// Evaluates the newest checkpoint of a run directory and prints the result.
absl::Status EvaluateRun(const EvaluateOptions& options);

}  // namespace qfleet

#endif  // QFLEET_ACTOR_RUN_H_
