#include "envs/plugin.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "common/status_macros.h"
#include "common/table_spec.h"
#include "envs/plugin_abi.h"

namespace qfleet {
namespace {

constexpr char kSymbol[] = "qfleet_get_plugin";
constexpr int64_t kMaxRowBytes = int64_t{1} << 26;
constexpr int kMaxActions = 65536;

absl::Status Bad(absl::string_view path, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("environment.plugin.path = \"", path, "\": ", what));
}

// What a library writes about an error, in one line.
class ErrorText {
 public:
  char* data() { return text_.data(); }
  size_t size() const { return text_.size(); }

  std::string str() {
    text_.back() = '\0';
    if (text_[0] == '\0') return "it does not say why";
    return absl::StrReplaceAll(text_.data(), {{"\n", " "}, {"\r", " "}});
  }

 private:
  std::array<char, 512> text_ = {};
};

absl::Status CheckTable(const qfleet_plugin* plugin, absl::string_view path) {
  if (plugin == nullptr) {
    return Bad(path, absl::StrCat(kSymbol,
                                  " gives nothing: allowed is a "
                                  "qfleet_plugin"));
  }
  if (plugin->abi_version != QFLEET_PLUGIN_ABI_VERSION) {
    return Bad(path, absl::StrCat("ABI version ", plugin->abi_version,
                                  ": allowed is ", QFLEET_PLUGIN_ABI_VERSION));
  }
  if (plugin->struct_size < sizeof(qfleet_plugin)) {
    return Bad(path,
               absl::StrCat("struct_size = ", plugin->struct_size,
                            ": allowed is at least ", sizeof(qfleet_plugin)));
  }
  const std::pair<const char*, bool> needed[] = {
      {"make", plugin->make != nullptr},
      {"destroy", plugin->destroy != nullptr},
      {"seed", plugin->seed != nullptr},
      {"reset", plugin->reset != nullptr},
      {"step", plugin->step != nullptr}};
  for (const auto& [name, there] : needed) {
    if (!there) {
      return Bad(path, absl::StrCat(name, " = NULL: allowed is a function"));
    }
  }
  if ((plugin->save == nullptr) != (plugin->load == nullptr)) {
    return Bad(path,
               "only one of save and load is NULL: allowed is both or "
               "neither");
  }
  return absl::OkStatus();
}

absl::StatusOr<const qfleet_plugin*> OpenLibrary(const std::string& path) {
  // A name without a slash would be looked for in the system's folders.
  const std::string file =
      absl::StrContains(path, '/') ? path : absl::StrCat("./", path);
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::string why = dlerror();
    return Bad(path, absl::StrCat("cannot be loaded (",
                                  absl::StrReplaceAll(why, {{"\n", " "}}),
                                  "): allowed is a shared library"));
  }
  void* const symbol = dlsym(library, kSymbol);
  if (symbol == nullptr) {
    dlclose(library);
    return Bad(path, absl::StrCat("has no ", kSymbol,
                                  ": allowed is a library with the functions "
                                  "of envs/plugin_abi.h"));
  }
  const auto get = reinterpret_cast<decltype(&qfleet_get_plugin)>(symbol);
  const qfleet_plugin* const plugin = get();
  absl::Status status = CheckTable(plugin, path);
  if (!status.ok()) {
    dlclose(library);
    return status;
  }
  return plugin;
}

absl::StatusOr<EnvironmentSpec> ReadSpec(const qfleet_plugin& plugin,
                                         const qfleet_plugin_spec& spec,
                                         absl::string_view path) {
  EnvironmentSpec result;
  result.observation.set_name("observation");
  if (spec.dtype != QFLEET_UINT8 && spec.dtype != QFLEET_FLOAT32) {
    return Bad(path, absl::StrCat("spec.dtype = ", spec.dtype,
                                  ": allowed is QFLEET_UINT8 (1) or "
                                  "QFLEET_FLOAT32 (4)"));
  }
  result.observation.set_dtype(static_cast<v1::DType>(spec.dtype));
  if (spec.rank < 0 || spec.rank > QFLEET_PLUGIN_MAX_RANK) {
    return Bad(path,
               absl::StrCat("spec.rank = ", spec.rank, ": allowed is 0 to ",
                            QFLEET_PLUGIN_MAX_RANK));
  }
  int64_t bytes = DTypeBytes(result.observation.dtype());
  for (int64_t extent : absl::MakeConstSpan(spec.shape, spec.rank)) {
    if (extent < 1 || extent > kMaxRowBytes / bytes) {
      return Bad(path, absl::StrCat(
                           "spec.shape = [",
                           absl::StrJoin(
                               absl::MakeConstSpan(spec.shape, spec.rank), ","),
                           "]: allowed are extents of at least 1 and ",
                           kMaxRowBytes, " bytes at most"));
    }
    bytes *= extent;
    result.observation.add_shape(extent);
  }
  if (spec.num_actions < 1 || spec.num_actions > kMaxActions) {
    return Bad(path, absl::StrCat("spec.num_actions = ", spec.num_actions,
                                  ": allowed is 1 to ", kMaxActions));
  }
  result.num_actions = spec.num_actions;
  result.has_action_mask = spec.has_action_mask != 0;
  if (result.has_action_mask && plugin.action_mask == nullptr) {
    return Bad(path,
               "spec.has_action_mask is set, but action_mask = NULL: "
               "allowed is a function");
  }
  return result;
}

std::string SpecText(const v1::TensorSpec& observation, int64_t actions,
                     bool masks) {
  return absl::StrCat(TensorTypeName(observation), ", ", actions, " actions",
                      masks ? " with masks" : "");
}

// That it is the environment that the config was resolved with.
absl::Status CheckSpec(const EnvironmentSpec& spec,
                       const v1::EnvironmentConfig& config) {
  if (!config.has_spec()) return absl::OkStatus();
  const v1::EnvironmentSpec& expected = config.spec();
  const std::string found =
      SpecText(spec.observation, spec.num_actions, spec.has_action_mask);
  const std::string allowed =
      SpecText(expected.observation(), expected.num_actions(),
               expected.has_action_mask());
  if (found == allowed) return absl::OkStatus();
  return Bad(config.plugin().path(),
             absl::StrCat("spec = ", found, ": allowed is environment.spec, ",
                          allowed));
}

struct Destroyer {
  const qfleet_plugin* plugin;
  void operator()(qfleet_plugin_environment* environment) const {
    plugin->destroy(environment);
  }
};
using Handle = std::unique_ptr<qfleet_plugin_environment, Destroyer>;

class PluginEnvironment : public Environment {
 public:
  PluginEnvironment(const qfleet_plugin& plugin, std::string path,
                    Handle handle, EnvironmentSpec spec)
      : plugin_(plugin),
        path_(std::move(path)),
        spec_(std::move(spec)),
        handle_(std::move(handle)),
        mask_(spec_.num_actions, 1) {}

  const EnvironmentSpec& spec() const override { return spec_; }

  void Seed(uint64_t seed) override { plugin_.seed(handle_.get(), seed); }

  void Reset(absl::Span<char> observation) override {
    steps_ = 0;
    ErrorText error;
    const int failed = plugin_.reset(handle_.get(), observation.data(),
                                     error.data(), error.size());
    status_ = failed != 0 ? Failure(absl::StrCat("reset failed: ", error.str()))
                          : Check(observation, /*terminated=*/false);
  }

  StepResult Step(int action, absl::Span<char> observation) override {
    ++steps_;
    ErrorText error;
    qfleet_plugin_step step = {};
    const int failed = plugin_.step(handle_.get(), action, observation.data(),
                                    &step, error.data(), error.size());
    if (failed != 0) {
      status_ = Failure(absl::StrCat("step failed: ", error.str()));
    } else if (!std::isfinite(step.reward)) {
      status_ = Failure(absl::StrCat("reward = ", step.reward,
                                     ": allowed is a finite number"));
    } else {
      status_ = Check(observation, step.terminated != 0);
    }
    return StepResult{.reward = step.reward,
                      .terminated = step.terminated != 0,
                      .truncated = step.truncated != 0,
                      .failed = !status_.ok()};
  }

  void ActionMask(absl::Span<uint8_t> mask) const override {
    std::copy(mask_.begin(), mask_.end(), mask.begin());
  }

  std::unique_ptr<Environment> Clone() const override {
    if (plugin_.clone == nullptr) return nullptr;
    Handle copy(plugin_.clone(handle_.get()), Destroyer{&plugin_});
    if (copy == nullptr) return nullptr;
    auto clone = std::make_unique<PluginEnvironment>(plugin_, path_,
                                                     std::move(copy), spec_);
    clone->status_ = status_;
    clone->mask_ = mask_;
    clone->steps_ = steps_;
    return clone;
  }

  absl::Status status() const override { return status_; }

  absl::StatusOr<std::string> Save() const override {
    QFLEET_RETURN_IF_ERROR(status_);
    if (plugin_.save == nullptr) return Environment::Save();
    std::string state(plugin_.save(handle_.get(), nullptr, 0), '\0');
    const size_t size = plugin_.save(handle_.get(), state.data(), state.size());
    if (size != state.size()) {
      return Bad(path_, absl::StrCat("save gives ", size, " bytes after ",
                                     state.size(), ": allowed is the same"));
    }
    return state;
  }

  absl::Status Load(absl::string_view state) override {
    if (plugin_.load == nullptr) return Environment::Load(state);
    if (plugin_.load(handle_.get(), state.data(), state.size()) != 0) {
      return Bad(path_, "the saved state is refused");
    }
    status_ = absl::OkStatus();
    if (spec_.has_action_mask) plugin_.action_mask(handle_.get(), mask_.data());
    return absl::OkStatus();
  }

 private:
  absl::Status Failure(absl::string_view what) const {
    return Bad(path_,
               absl::StrCat("after ", steps_, " steps of an episode: ", what));
  }

  // The observation's numbers and the mask, which is kept.
  absl::Status Check(absl::Span<const char> observation, bool terminated) {
    if (spec_.observation.dtype() == v1::FLOAT32) {
      for (size_t at = 0; at < observation.size(); at += sizeof(float)) {
        float number;
        std::memcpy(&number, observation.data() + at, sizeof(number));
        if (std::isfinite(number)) continue;
        return Failure(absl::StrCat("observation[", at / sizeof(float), "] = ",
                                    number, ": allowed are finite numbers"));
      }
    }
    if (!spec_.has_action_mask) return absl::OkStatus();
    plugin_.action_mask(handle_.get(), mask_.data());
    bool legal = terminated;
    for (size_t action = 0; action < mask_.size(); ++action) {
      if (mask_[action] > 1) {
        return Failure(absl::StrCat("mask[", action, "] = ", mask_[action],
                                    ": allowed is 0 or 1"));
      }
      legal = legal || mask_[action] == 1;
    }
    if (legal) return absl::OkStatus();
    return Failure("mask = all 0: allowed is one with a legal action");
  }

  const qfleet_plugin& plugin_;
  const std::string path_;
  const EnvironmentSpec spec_;
  const Handle handle_;
  std::vector<uint8_t> mask_;
  absl::Status status_;
  int64_t steps_ = 0;  // Of the running episode.
};

}  // namespace

absl::Status CheckPlugin(const v1::PluginConfig& config) {
  if (!config.path().empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "environment.plugin.path is not set: allowed is the path of a shared "
      "library");
}

absl::StatusOr<std::unique_ptr<Environment>> MakePluginEnvironment(
    const v1::EnvironmentConfig& config) {
  const v1::PluginConfig& options = config.plugin();
  QFLEET_RETURN_IF_ERROR(CheckPlugin(options));
  QFLEET_ASSIGN_OR_RETURN(const qfleet_plugin* const plugin,
                          OpenLibrary(options.path()));
  ErrorText error;
  qfleet_plugin_spec written = {};
  Handle handle(plugin->make(options.options().c_str(), &written, error.data(),
                             error.size()),
                Destroyer{plugin});
  if (handle == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("environment.plugin.options = \"", options.options(),
                     "\": ", options.path(), " refuses: ", error.str()));
  }
  QFLEET_ASSIGN_OR_RETURN(EnvironmentSpec spec,
                          ReadSpec(*plugin, written, options.path()));
  QFLEET_RETURN_IF_ERROR(CheckSpec(spec, config));
  return std::make_unique<PluginEnvironment>(
      *plugin, options.path(), std::move(handle), std::move(spec));
}

}  // namespace qfleet
