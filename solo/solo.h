// The whole job in one process and one thread, with the cluster's own classes:
// act while the rate limiter wants inserts, update while it allows samples,
// evaluate as policies are published. Deterministic to the bit for a seed.

#ifndef QFLEET_SOLO_SOLO_H_
#define QFLEET_SOLO_SOLO_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "common/metrics.h"
#include "learner/run.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

absl::StatusOr<Outcome> TrainSolo(const v1::Config& config,
                                  const std::string& run_dir,
                                  const std::function<bool()>& interrupted,
                                  Metrics& metrics);

}  // namespace qfleet

#endif  // QFLEET_SOLO_SOLO_H_
