#include "learner/algorithms/algorithm.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "envs/registry.h"
#include "learner/algorithms/categorical_dqn.h"
#include "learner/algorithms/dqn.h"
#include "learner/algorithms/iterated_dqn.h"
#include "learner/algorithms/qr_dqn.h"

namespace qfleet {

absl::StatusOr<std::unique_ptr<Algorithm>> MakeAlgorithm(
    const v1::Config& config) {
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Environment> environment,
                          MakeEnvironment(config.environment()));
  QFLEET_ASSIGN_OR_RETURN(std::shared_ptr<const Network> network,
                          Network::Make(config, environment->spec()));
  const v1::AlgorithmConfig& algorithm = config.algorithm();
  switch (algorithm.kind_case()) {
    case v1::AlgorithmConfig::kDqn:
      return std::make_unique<Dqn>(config, std::move(network));
    case v1::AlgorithmConfig::kRainbow:
      if (algorithm.rainbow().distributional()) {
        return std::make_unique<CategoricalDqn>(config, std::move(network));
      }
      return std::make_unique<Dqn>(config, std::move(network),
                                   algorithm.rainbow().huber_delta());
    case v1::AlgorithmConfig::kQrDqn:
      return std::make_unique<QrDqn>(config, std::move(network));
    case v1::AlgorithmConfig::kIDqn:
      return std::make_unique<IteratedDqn>(config, std::move(network));
    case v1::AlgorithmConfig::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "algorithm has no kind: allowed is dqn, rainbow, qr_dqn, i_dqn");
}

}  // namespace qfleet
