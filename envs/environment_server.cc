// The two kinds of EnvironmentServer, and what their configs allow.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "envs/python_process.h"
#include "envs/remote_environment.h"
#include "nlohmann/json.hpp"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

constexpr absl::Duration kEndGrace = absl::Seconds(1);
constexpr absl::Duration kConnectPeriod = absl::Milliseconds(50);

// python -m qfleet.environment_server, beside us.
class GymnasiumServer : public EnvironmentServer {
 public:
  GymnasiumServer(const v1::GymnasiumConfig& config, bool quiet)
      : id_(config.id()), python_(FindPython(config.python())), quiet_(quiet) {
    for (const std::string& module : config.imports()) {
      arguments_.push_back(absl::StrCat("--import=", module));
    }
    if (config.has_atari()) {
      const v1::AtariConfig& atari = config.atari();
      const nlohmann::json options = {
          {"noop_max", atari.noop_max()},
          {"frame_skip", atari.frame_skip()},
          {"screen_size", atari.screen_size()},
          {"terminal_on_life_loss", atari.terminal_on_life_loss()}};
      arguments_.push_back(absl::StrCat("--atari=", options.dump()));
    }
  }
  ~GymnasiumServer() override { End(); }

  absl::StatusOr<FramedSocket> Connect(absl::Duration /*patience*/) override {
    End();
    absl::StatusOr<std::unique_ptr<PythonProcess>> started =
        PythonProcess::Start(python_, "qfleet.environment_server", arguments_,
                             quiet_);
    if (!started.ok()) {
      return absl::Status(
          started.status().code(),
          absl::StrCat(started.status().message(),
                       ": allowed is a Python with gymnasium, which "
                       "scripts/setup.sh --gymnasium makes"));
    }
    process_ = *std::move(started);
    return process_->TakeSocket();
  }

  std::string Explain(const absl::Status& loss) override {
    if (absl::IsDeadlineExceeded(loss)) {
      // It is of no use any more, whatever it does.
      if (process_ != nullptr) process_->End(absl::ZeroDuration());
      return absl::StrCat(loss.message(), "; its process was killed");
    }
    if (!absl::IsUnavailable(loss) || process_ == nullptr) {
      return std::string(loss.message());
    }
    return absl::StrCat("its process ", process_->End(kEndGrace));
  }

  std::string name() const override {
    return absl::StrCat("environment.gymnasium.id = \"", id_, "\"");
  }

 private:
  // Its connection is closed: it closes its environments and ends.
  void End() {
    if (process_ != nullptr) process_->End(kEndGrace);
    process_ = nullptr;
  }

  const std::string id_;
  const std::string python_;
  const bool quiet_;
  std::vector<std::string> arguments_;
  std::unique_ptr<PythonProcess> process_;
};

// A simulator that somebody else runs.
class SocketServer : public EnvironmentServer {
 public:
  SocketServer(const v1::RemoteConfig& config, int actor)
      : address_(absl::StrReplaceAll(config.address(),
                                     {{"%d", absl::StrCat(actor)}})) {}

  absl::StatusOr<FramedSocket> Connect(absl::Duration patience) override {
    const absl::Time last = absl::Now() + patience;
    const std::string path(absl::StripPrefix(address_, "unix:"));
    bool said = false;
    while (true) {
      absl::StatusOr<FramedSocket> socket = FramedSocket::Connect(path);
      if (socket.ok() || absl::Now() >= last ||
          !absl::IsUnavailable(socket.status())) {
        return socket;
      }
      if (!said) {
        spdlog::warn("waiting for {}: {}", name(),
                     std::string(socket.status().message()));
      }
      said = true;
      absl::SleepFor(kConnectPeriod);
    }
  }

  std::string Explain(const absl::Status& loss) override {
    return std::string(loss.message());
  }

  std::string name() const override {
    return absl::StrCat("environment.remote.address = \"", address_, "\"");
  }

 private:
  const std::string address_;
};

absl::Status CheckGymnasium(const v1::GymnasiumConfig& config) {
  if (config.id().empty()) {
    return absl::InvalidArgumentError(
        "environment.gymnasium.id is not set: allowed is what "
        "gymnasium.make() takes, \"LunarLander-v3\"");
  }
  const nlohmann::json kwargs = nlohmann::json::parse(
      config.kwargs(), /*callback=*/nullptr, /*allow_exceptions=*/false);
  if (!kwargs.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat("environment.gymnasium.kwargs = '",
                     absl::StrReplaceAll(config.kwargs(), {{"\n", " "}}),
                     "': allowed is a JSON object, '{\"name\": 1}'"));
  }
  return absl::OkStatus();
}

absl::Status CheckAddress(const v1::RemoteConfig& config) {
  absl::string_view path = config.address();
  // An actor's number in place of %d has up to six digits.
  constexpr size_t kMaxPath = kMaxSocketPath - 4;
  if (absl::ConsumePrefix(&path, "unix:") && !path.empty() &&
      path.size() <= kMaxPath) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "environment.remote.address = \"", config.address(),
      "\": allowed is unix:PATH, PATH of 1 to ", kMaxPath, " bytes"));
}

}  // namespace

std::unique_ptr<EnvironmentServer> MakeEnvironmentServer(
    const v1::EnvironmentConfig& config, int actor, bool quiet) {
  if (config.has_remote()) {
    return std::make_unique<SocketServer>(config.remote(), actor);
  }
  return std::make_unique<GymnasiumServer>(config.gymnasium(), quiet);
}

absl::Status CheckRemoteEnvironment(const v1::EnvironmentConfig& config) {
  return config.has_remote() ? CheckAddress(config.remote())
                             : CheckGymnasium(config.gymnasium());
}

}  // namespace qfleet
