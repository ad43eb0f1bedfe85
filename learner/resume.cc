#include "learner/resume.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "learner/run.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

absl::Status Belongs(const v1::Checkpoint& checkpoint, const v1::Config& config,
                     const Algorithm& algorithm) {
  if (checkpoint.algorithm_name() != AlgorithmName(config)) {
    return absl::FailedPreconditionError(
        absl::StrCat("algorithm = ", checkpoint.algorithm_name(),
                     ": allowed is the config's, ", AlgorithmName(config)));
  }
  const std::string& network = algorithm.network().signature();
  if (checkpoint.network() != network) {
    return absl::FailedPreconditionError(
        absl::StrCat("network = \"", checkpoint.network(),
                     "\": allowed is the config's, \"", network, "\""));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::Checkpoint> LoadNewestCheckpoint(
    const std::string& directory, const v1::Config& config,
    Algorithm& algorithm, const AcceptCheckpoint& accept) {
  std::vector<std::string> refused;
  absl::StatusOr<v1::Checkpoint> checkpoint = ReadNewestCheckpoint(
      directory, &refused, [&](const v1::Checkpoint& candidate) {
        QFLEET_RETURN_IF_ERROR(Belongs(candidate, config, algorithm));
        if (accept) QFLEET_RETURN_IF_ERROR(accept(candidate));
        // Last: changes the algorithm if it fits.
        return algorithm.Load(
            static_cast<int64_t>(candidate.updates()),
            {candidate.algorithm().begin(), candidate.algorithm().end()});
      });
  for (const std::string& line : refused) {
    spdlog::warn("cannot resume: {}", line);
  }
  if (checkpoint.ok()) {
    SetAsideNewerCheckpoints(directory, checkpoint->updates());
    spdlog::info("resuming after {} updates, {} env steps, {:.1f} s",
                 checkpoint->updates(), checkpoint->env_steps(),
                 checkpoint->wall_seconds());
  } else if (!absl::IsNotFound(checkpoint.status())) {
    return absl::InvalidArgumentError(checkpoint.status().message());
  }
  return checkpoint;
}

uint64_t VersionOfNextLife(uint64_t version) {
  return (version / kVersionsOfALife + 1) * kVersionsOfALife;
}

}  // namespace qfleet
