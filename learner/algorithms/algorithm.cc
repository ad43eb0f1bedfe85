#include "learner/algorithms/algorithm.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "envs/registry.h"
#include "learner/algorithms/dqn.h"

namespace qfleet {

absl::StatusOr<std::unique_ptr<Algorithm>> MakeAlgorithm(
    const v1::Config& config) {
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Environment> environment,
                          MakeEnvironment(config.environment()));
  QFLEET_ASSIGN_OR_RETURN(std::shared_ptr<const Network> network,
                          Network::Make(config.network(), environment->spec()));
  switch (config.algorithm().kind_case()) {
    case v1::AlgorithmConfig::kDqn:
      return std::make_unique<Dqn>(config, std::move(network));
    default:
      break;
  }
  return absl::InvalidArgumentError("algorithm is not set: allowed is dqn { }");
}

}  // namespace qfleet
