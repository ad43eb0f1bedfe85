// From the newest usable checkpoint of a run directory to a learner that goes
// on from it.

#ifndef QFLEET_LEARNER_RESUME_H_
#define QFLEET_LEARNER_RESUME_H_

#include <string>

#include "absl/status/statusor.h"
#include "common/checkpoint_file.h"
#include "learner/algorithms/algorithm.h"
#include "qfleet/v1/checkpoint.pb.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// Loads the newest checkpoint of `directory` that can be read, belongs to this
// network and algorithm, and that `accept` takes, if given, into `algorithm`.
// Each that is refused is logged in a line, and set aside if an older one is
// used. NOT_FOUND if there are none at all,
// INVALID_ARGUMENT if none can be used; `algorithm` is as before then.
absl::StatusOr<v1::Checkpoint> LoadNewestCheckpoint(
    const std::string& directory, const v1::Config& config,
    Algorithm& algorithm, const AcceptCheckpoint& accept = nullptr);

// A version that no earlier life of the learner has reached, provided that the
// checkpoint is written again with it before anything is published: lives are
// kVersionsOfALife apart. After a resume versions begin above it.
inline constexpr uint64_t kVersionsOfALife = 1'000'000'000;
uint64_t VersionOfNextLife(uint64_t version);

}  // namespace qfleet

#endif  // QFLEET_LEARNER_RESUME_H_
