#include "learner/algorithms/algorithm.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "envs/registry.h"
#include "learner/algorithms/categorical_dqn.h"
#include "learner/algorithms/dqn.h"
#include "learner/algorithms/iterated_dqn.h"
#include "learner/algorithms/qr_dqn.h"
#include "model/device.h"
#include "spdlog/spdlog.h"

namespace qfleet {

absl::StatusOr<std::unique_ptr<Algorithm>> MakeAlgorithm(
    const v1::Config& config, Collective* collective) {
  QFLEET_ASSIGN_OR_RETURN(const EnvironmentSpec environment,
                          SpecOf(config.environment()));
  QFLEET_ASSIGN_OR_RETURN(std::shared_ptr<const Network> network,
                          Network::Make(config, environment));
  Placement placement;
  QFLEET_ASSIGN_OR_RETURN(placement.device,
                          FindDevice(config.learner().device()));
  placement.staged = !placement.device.is_cpu();
  placement.bf16 = config.learner().bf16();
  placement.capture = config.learner().cuda_graph();
  if (placement.staged)
    spdlog::info("learns on {}", DeviceText(placement.device));
  const v1::AlgorithmConfig& algorithm = config.algorithm();
  switch (algorithm.kind_case()) {
    case v1::AlgorithmConfig::kDqn:
      return std::make_unique<Dqn>(config, std::move(network), collective,
                                   placement);
    case v1::AlgorithmConfig::kRainbow:
      if (algorithm.rainbow().distributional()) {
        return std::make_unique<CategoricalDqn>(config, std::move(network),
                                                collective, placement);
      }
      return std::make_unique<Dqn>(config, std::move(network), collective,
                                   placement,
                                   algorithm.rainbow().huber_delta());
    case v1::AlgorithmConfig::kQrDqn:
      return std::make_unique<QrDqn>(config, std::move(network), collective,
                                     placement);
    case v1::AlgorithmConfig::kIDqn:
      return std::make_unique<IteratedDqn>(config, std::move(network),
                                           collective, placement);
    case v1::AlgorithmConfig::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "algorithm has no kind: allowed is dqn, rainbow, qr_dqn, i_dqn");
}

absl::Status ShareState(Algorithm& algorithm, Collective& collective) {
  v1::Checkpoint state;
  if (collective.rank() == 0) {
    for (v1::NamedTensor& tensor : algorithm.Save()) {
      *state.add_algorithm() = std::move(tensor);
    }
    state.set_updates(algorithm.updates());  // Exact after Save.
  }
  std::string bytes = state.SerializeAsString();
  QFLEET_RETURN_IF_ERROR(collective.Broadcast(bytes));
  if (collective.rank() == 0) return absl::OkStatus();
  if (!state.ParseFromString(bytes)) {
    return absl::InternalError("rank 0's state does not parse");
  }
  return algorithm.Load(state.updates(),
                        {state.algorithm().begin(), state.algorithm().end()});
}

}  // namespace qfleet
