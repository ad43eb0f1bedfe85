// The built-in environments by their ids. To add one: a file of its own, and a
// line in registry.cc.

#ifndef QFLEET_ENVS_REGISTRY_H_
#define QFLEET_ENVS_REGISTRY_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "envs/environment.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

std::vector<std::string> EnvironmentIds();

// INVALID_ARGUMENT naming environment.id, its value and the known ids.
absl::StatusOr<std::unique_ptr<Environment>> MakeEnvironment(
    const v1::EnvironmentConfig& config);

// `count` of them, seeded with MixSeed(seed, 0), MixSeed(seed, 1), ...
absl::StatusOr<std::unique_ptr<VectorEnvironment>> MakeVectorEnvironment(
    const v1::EnvironmentConfig& config, int count, uint64_t seed);

}  // namespace qfleet

#endif  // QFLEET_ENVS_REGISTRY_H_
