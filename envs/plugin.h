// Environments in shared libraries with the C ABI of envs/plugin_abi.h
// (docs/plugins.md).
//
//   environment { plugin { path: "./corridor.so" options: "length=8" } }
//
// A library is opened when its first environment is made and then stays. What
// it gives is checked before anybody sees it: an observation or a reward that
// is not finite, a mask without a legal action, an error of its own is a step
// that failed (StepResult::failed), and status() names it. What cannot be
// checked is that the library writes within what it was given.

#ifndef QFLEET_ENVS_PLUGIN_H_
#define QFLEET_ENVS_PLUGIN_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "envs/environment.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// INVALID_ARGUMENT if no path is set. Opens nothing.
absl::Status CheckPlugin(const v1::PluginConfig& config);

// Of config.plugin(). INVALID_ARGUMENT if there is no such library, if it is
// not one of this ABI, if it makes no environment of these options, or another
// one than config.spec(), where that is set, says.
absl::StatusOr<std::unique_ptr<Environment>> MakePluginEnvironment(
    const v1::EnvironmentConfig& config);

}  // namespace qfleet

#endif  // QFLEET_ENVS_PLUGIN_H_
