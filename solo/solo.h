// The whole job in one process and one thread, with the cluster's own classes:
// act while the rate limiter wants inserts, update while it allows samples,
// evaluate as policies are published. Deterministic to the bit for a seed, also
// over a stop and a resume: a checkpoint holds all that the run is, the replay
// in a folder beside the file. Where the environment cannot be saved it holds
// the networks only, which the log says.

#ifndef QFLEET_SOLO_SOLO_H_
#define QFLEET_SOLO_SOLO_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "common/metrics.h"
#include "common/status_server.h"
#include "learner/run.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// `resume`: goes on from the newest usable checkpoint of the run directory, or
// starts where there is none. INVALID_ARGUMENT if there are some and none can
// be used, which is so for those that hold the networks only. `web`, if there
// is one, is told of the run.
absl::StatusOr<Outcome> TrainSolo(const v1::Config& config,
                                  const std::string& run_dir,
                                  const std::function<bool()>& interrupted,
                                  Metrics& metrics, bool resume = false,
                                  StatusServer* web = nullptr);

}  // namespace qfleet

#endif  // QFLEET_SOLO_SOLO_H_
