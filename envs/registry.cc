#include "envs/registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "envs/acrobot.h"
#include "envs/cartpole.h"
#include "envs/catch.h"
#include "envs/channel_hopping.h"
#include "envs/grid_world.h"
#include "envs/minatar.h"
#include "envs/mountain_car.h"
#include "envs/optimal_execution.h"
#include "envs/plugin.h"
#include "envs/remote_environment.h"

namespace qfleet {
namespace {

using Config = v1::EnvironmentConfig;

struct Entry {
  const char* id;
  Config::KindCase options;  // Of this environment; kBuiltin: it has none.
  std::unique_ptr<Environment> (*make)(const Config& config);
};

template <typename T>
std::unique_ptr<Environment> Make(const Config& /*config*/) {
  return std::make_unique<T>();
}

std::unique_ptr<Environment> MakeMinAtarOf(const Config& config) {
  return MakeMinAtar(config.id(), config.minatar());
}

std::unique_ptr<Environment> MakeChannelHopping(const Config& config) {
  return std::make_unique<ChannelHopping>(config.channel_hopping());
}

std::unique_ptr<Environment> MakeOptimalExecution(const Config& config) {
  return std::make_unique<OptimalExecution>(config.optimal_execution());
}

constexpr Entry kEnvironments[] = {
    {"Acrobot-v1", Config::kBuiltin, Make<Acrobot>},
    {"CartPole-v1", Config::kBuiltin, Make<CartPole>},
    {"Catch-v0", Config::kBuiltin, Make<Catch>},
    {"ChannelHopping-v0", Config::kChannelHopping, MakeChannelHopping},
    {"GridWorld-v0", Config::kBuiltin, Make<GridWorld>},
    {"MinAtar/Asterix-v0", Config::kMinatar, MakeMinAtarOf},
    {"MinAtar/Breakout-v0", Config::kMinatar, MakeMinAtarOf},
    {"MinAtar/Freeway-v0", Config::kMinatar, MakeMinAtarOf},
    {"MinAtar/Seaquest-v0", Config::kMinatar, MakeMinAtarOf},
    {"MinAtar/SpaceInvaders-v0", Config::kMinatar, MakeMinAtarOf},
    {"MountainCar-v0", Config::kBuiltin, Make<MountainCar>},
    {"OptimalExecution-v0", Config::kOptimalExecution, MakeOptimalExecution},
};

// Null: there is none.
const Entry* Find(const std::string& id) {
  for (const Entry& entry : kEnvironments) {
    if (id == entry.id) return &entry;
  }
  return nullptr;
}

// "minatar" of kMinatar.
std::string KindName(Config::KindCase kind) {
  return Config::descriptor()->FindFieldByNumber(kind)->name();
}

absl::Status CheckBuiltin(const Config& config) {
  if (!config.has_id()) {
    return absl::InvalidArgumentError(
        absl::StrCat("environment.id is not set: allowed is ",
                     absl::StrJoin(EnvironmentIds(), ", ")));
  }
  const Entry* entry = Find(config.id());
  if (entry == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("environment.id = \"", config.id(), "\": allowed is ",
                     absl::StrJoin(EnvironmentIds(), ", ")));
  }
  const Config::KindCase kind = config.kind_case();
  if (kind != Config::KIND_NOT_SET && kind != Config::kBuiltin &&
      kind != entry->options) {
    return absl::InvalidArgumentError(absl::StrCat(
        "environment.", KindName(kind), " is set: allowed is ",
        entry->options == Config::kBuiltin ? "nothing"
                                           : KindName(entry->options),
        " with environment.id = \"", config.id(), "\""));
  }
  return absl::OkStatus();
}

// In another process.
bool IsRemote(const Config& config) {
  return config.has_gymnasium() || config.has_remote();
}

}  // namespace

std::vector<std::string> EnvironmentIds() {
  std::vector<std::string> ids;
  for (const Entry& entry : kEnvironments) ids.push_back(entry.id);
  return ids;
}

absl::Status CheckEnvironment(const Config& config) {
  if (!IsRemote(config) && !config.has_plugin()) return CheckBuiltin(config);
  if (config.has_id()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "environment.id = \"", config.id(),
        "\": allowed is none beside environment.",
        KindName(config.kind_case())));
  }
  return config.has_plugin() ? CheckPlugin(config.plugin())
                             : CheckRemoteEnvironment(config);
}

absl::StatusOr<std::unique_ptr<Environment>> MakeEnvironment(
    const Config& config) {
  QFLEET_RETURN_IF_ERROR(CheckEnvironment(config));
  if (config.has_plugin()) return MakePluginEnvironment(config);
  if (!config.has_id()) {
    return absl::UnimplementedError(
        absl::StrCat("environment.", KindName(config.kind_case()),
                     ": only vectors of it can be made"));
  }
  return Find(config.id())->make(config);
}

absl::StatusOr<EnvironmentSpec> SpecOf(const Config& config) {
  QFLEET_RETURN_IF_ERROR(CheckEnvironment(config));
  EnvironmentSpec spec;
  if (config.has_spec()) {
    spec.observation = config.spec().observation();
    spec.num_actions = static_cast<int>(config.spec().num_actions());
    spec.has_action_mask = config.spec().has_action_mask();
  } else if (IsRemote(config)) {
    QFLEET_ASSIGN_OR_RETURN(spec, RemoteSpec(config));
  } else {
    QFLEET_ASSIGN_OR_RETURN(auto environment, MakeEnvironment(config));
    spec = environment->spec();
  }
  spec.frame_stack = config.frame_stack();
  return spec;
}

absl::StatusOr<std::unique_ptr<VectorEnvironment>> MakeVectorEnvironment(
    const Config& config, const VectorOptions& options) {
  QFLEET_ASSIGN_OR_RETURN(
      auto vectors, MakeVectorEnvironments(config, options, /*groups=*/1));
  return std::move(vectors[0]);
}

absl::StatusOr<std::vector<std::unique_ptr<VectorEnvironment>>>
MakeVectorEnvironments(const Config& config, const VectorOptions& options,
                       int groups) {
  QFLEET_RETURN_IF_ERROR(CheckEnvironment(config));
  groups = std::min(groups, options.count);
  std::vector<std::unique_ptr<VectorEnvironment>> vectors;
  for (int group = 0; group < groups; ++group) {
    std::vector<uint64_t> seeds;
    for (int i = options.count * group / groups;
         i < options.count * (group + 1) / groups; ++i) {
      seeds.push_back(MixSeed(options.seed, i));
    }
    if (IsRemote(config)) {
      QFLEET_ASSIGN_OR_RETURN(
          auto vector,
          RemoteVectorEnvironment::Make(
              config,
              MakeEnvironmentServer(config, options.actor, /*quiet=*/false),
              std::move(seeds)));
      vectors.push_back(std::move(vector));
      continue;
    }
    std::vector<std::unique_ptr<Environment>> environments;
    for (size_t i = 0; i < seeds.size(); ++i) {
      QFLEET_ASSIGN_OR_RETURN(auto environment, MakeEnvironment(config));
      environments.push_back(std::move(environment));
    }
    auto vector = std::make_unique<LocalVectorEnvironment>(
        std::move(environments), seeds, config.frame_stack(),
        /*own_thread=*/groups > 1);
    QFLEET_RETURN_IF_ERROR(vector->status());
    vectors.push_back(std::move(vector));
  }
  return vectors;
}

}  // namespace qfleet
