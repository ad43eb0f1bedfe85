// Environments from a config: the built-in ones by their ids, and those of
// other kinds. To add a built-in one: a file of its own, and a line in
// registry.cc.

#ifndef QFLEET_ENVS_REGISTRY_H_
#define QFLEET_ENVS_REGISTRY_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "envs/environment.h"
#include "envs/vector_environment.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// Of the built-in ones.
std::vector<std::string> EnvironmentIds();

// OK if the config names an environment that can be there, with its own
// options; else INVALID_ARGUMENT naming the field. Starts and opens nothing.
absl::Status CheckEnvironment(const v1::EnvironmentConfig& config);

// A built-in one, or one of a plugin. INVALID_ARGUMENT as CheckEnvironment.
absl::StatusOr<std::unique_ptr<Environment>> MakeEnvironment(
    const v1::EnvironmentConfig& config);

// What the config's environment looks like: config.spec() if it is set, else
// the environment is asked.
absl::StatusOr<EnvironmentSpec> SpecOf(const v1::EnvironmentConfig& config);

struct VectorOptions {
  int count = 1;
  uint64_t seed = 0;  // Environment i is seeded with MixSeed(seed, i).
  int actor = 0;      // The actor's number.
};

absl::StatusOr<std::unique_ptr<VectorEnvironment>> MakeVectorEnvironment(
    const v1::EnvironmentConfig& config, const VectorOptions& options);

// The same environments in so many vectors, at most one for each environment,
// each of which is stepped in a thread or process of its own if there are
// several.
absl::StatusOr<std::vector<std::unique_ptr<VectorEnvironment>>>
MakeVectorEnvironments(const v1::EnvironmentConfig& config,
                       const VectorOptions& options, int groups);

}  // namespace qfleet

#endif  // QFLEET_ENVS_REGISTRY_H_
