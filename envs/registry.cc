#include "envs/registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "envs/cartpole.h"
#include "envs/catch.h"
#include "envs/grid_world.h"
#include "envs/minatar.h"

namespace qfleet {
namespace {

struct Entry {
  const char* id;
  std::unique_ptr<Environment> (*make)(const v1::EnvironmentConfig& config);
};

template <typename T>
std::unique_ptr<Environment> Make(const v1::EnvironmentConfig& /*config*/) {
  return std::make_unique<T>();
}

std::unique_ptr<Environment> MakeMinAtarOf(
    const v1::EnvironmentConfig& config) {
  return MakeMinAtar(config.id(), config.minatar());
}

constexpr Entry kEnvironments[] = {
    {"CartPole-v1", Make<CartPole>},
    {"Catch-v0", Make<Catch>},
    {"GridWorld-v0", Make<GridWorld>},
    {"MinAtar/Asterix-v0", MakeMinAtarOf},
    {"MinAtar/Breakout-v0", MakeMinAtarOf},
    {"MinAtar/Freeway-v0", MakeMinAtarOf},
};

}  // namespace

std::vector<std::string> EnvironmentIds() {
  std::vector<std::string> ids;
  for (const Entry& entry : kEnvironments) ids.push_back(entry.id);
  return ids;
}

absl::StatusOr<std::unique_ptr<Environment>> MakeEnvironment(
    const v1::EnvironmentConfig& config) {
  for (const Entry& entry : kEnvironments) {
    if (config.id() == entry.id) return entry.make(config);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("environment.id = \"", config.id(), "\": allowed is ",
                   absl::StrJoin(EnvironmentIds(), ", ")));
}

absl::StatusOr<std::unique_ptr<VectorEnvironment>> MakeVectorEnvironment(
    const v1::EnvironmentConfig& config, int count, uint64_t seed) {
  std::vector<std::unique_ptr<Environment>> environments;
  std::vector<uint64_t> seeds;
  for (int i = 0; i < count; ++i) {
    QFLEET_ASSIGN_OR_RETURN(auto environment, MakeEnvironment(config));
    environments.push_back(std::move(environment));
    seeds.push_back(MixSeed(seed, i));
  }
  return std::make_unique<VectorEnvironment>(std::move(environments), seeds);
}

}  // namespace qfleet
