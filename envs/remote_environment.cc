#include "envs/remote_environment.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/table_spec.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

absl::Duration DeadlineOf(const v1::EnvironmentConfig& config) {
  return absl::Seconds(config.has_remote() ? config.remote().deadline()
                                           : config.gymnasium().deadline());
}

// Of session number `session`: where one was lost the next one does not meet
// the same again.
v1::MakeRequest RequestFor(const v1::EnvironmentConfig& config,
                           absl::Span<const uint64_t> seeds, uint64_t session) {
  v1::MakeRequest request;
  request.set_count(static_cast<uint32_t>(seeds.size()));
  for (uint64_t seed : seeds) {
    request.add_seeds(session == 0 ? seed : MixSeed(seed, session));
  }
  if (config.has_gymnasium()) {
    request.set_id(config.gymnasium().id());
    request.set_kwargs(config.gymnasium().kwargs());
  }
  return request;
}

// One line that names the environment.
absl::Status Named(const absl::Status& status, EnvironmentServer& server) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrReplaceAll(absl::StrCat(server.name(), ": ",
                                                       server.Explain(status)),
                                          {{"\n", " "}}));
}

absl::Status CheckSpec(const EnvironmentSpec& spec,
                       const v1::EnvironmentConfig& config) {
  if (!config.has_spec()) return absl::OkStatus();
  const v1::EnvironmentSpec& expected = config.spec();
  const auto text = [](const v1::TensorSpec& observation, int64_t actions,
                       bool masks) {
    return absl::StrCat(TensorTypeName(observation), ", ", actions, " actions",
                        masks ? " with masks" : "");
  };
  const std::string found =
      text(spec.observation, spec.num_actions, spec.has_action_mask);
  const std::string allowed =
      text(expected.observation(), expected.num_actions(),
           expected.has_action_mask());
  if (found == allowed) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "spec = ", found, ": allowed is environment.spec, ", allowed));
}

// A new session, errors without the environment's name.
absl::StatusOr<std::unique_ptr<EnvironmentSession>> OpenSession(
    const v1::EnvironmentConfig& config, EnvironmentServer& server,
    absl::Duration patience, const v1::MakeRequest& request) {
  QFLEET_ASSIGN_OR_RETURN(FramedSocket socket, server.Connect(patience));
  auto session = std::make_unique<EnvironmentSession>(std::move(socket),
                                                      DeadlineOf(config));
  QFLEET_RETURN_IF_ERROR(session->Make(request));
  QFLEET_RETURN_IF_ERROR(CheckSpec(session->spec(), config));
  return session;
}

EnvironmentSpec WithStack(EnvironmentSpec spec, int frame_stack) {
  spec.frame_stack = frame_stack;
  return spec;
}

}  // namespace

absl::StatusOr<EnvironmentSpec> RemoteSpec(
    const v1::EnvironmentConfig& config) {
  const auto server = MakeEnvironmentServer(config, /*actor=*/0,
                                            /*quiet=*/true);
  auto session = OpenSession(config, *server, absl::ZeroDuration(),
                             RequestFor(config, {}, 0));
  if (session.ok()) return (*session)->spec();
  // Whatever it is, this config does not name an environment.
  return absl::InvalidArgumentError(Named(session.status(), *server).message());
}

absl::StatusOr<std::unique_ptr<RemoteVectorEnvironment>>
RemoteVectorEnvironment::Make(const v1::EnvironmentConfig& config,
                              std::unique_ptr<EnvironmentServer> server,
                              std::vector<uint64_t> seeds) {
  auto session = OpenSession(config, *server, DeadlineOf(config),
                             RequestFor(config, seeds, 0));
  if (!session.ok()) return Named(session.status(), *server);
  return std::unique_ptr<RemoteVectorEnvironment>(new RemoteVectorEnvironment(
      config, std::move(server), *std::move(session), std::move(seeds)));
}

RemoteVectorEnvironment::RemoteVectorEnvironment(
    const v1::EnvironmentConfig& config,
    std::unique_ptr<EnvironmentServer> server,
    std::unique_ptr<EnvironmentSession> session, std::vector<uint64_t> seeds)
    : VectorEnvironment(WithStack(session->spec(), config.frame_stack()),
                        static_cast<int>(seeds.size())),
      config_(config),
      server_(std::move(server)),
      seeds_(std::move(seeds)),
      session_(std::move(session)) {
  TakeBeginnings();
}

void RemoteVectorEnvironment::StartStep(absl::Span<const int> actions) {
  session_->StartStep(actions);
}

absl::Status RemoteVectorEnvironment::FinishStep() {
  absl::Status status = session_->FinishStep();
  if (status.ok()) {
    if (++steps_ >= kStepsToTrust) losses_ = 0;
    TakeStep();
    return status;
  }
  return IsLoss(status) ? BeginAnew(std::move(status))
                        : Named(status, *server_);
}

// Until it succeeds, or has failed too often in a row.
absl::Status RemoteVectorEnvironment::BeginAnew(absl::Status loss) {
  while (true) {
    const absl::Status named = Named(loss, *server_);
    if (!IsLoss(loss)) return named;
    steps_ = 0;
    if (++losses_ == kMaxLosses) {
      // What it raises it raises wherever it is run.
      return absl::Status(absl::IsAborted(loss)
                              ? absl::StatusCode::kInvalidArgument
                              : absl::StatusCode::kUnavailable,
                          absl::StrCat(named.message(), "; lost ", kMaxLosses,
                                       " times in a row"));
    }
    spdlog::warn("{}; {} environments begin anew", std::string(named.message()),
                 size());
    session_ = nullptr;
    auto session = OpenSession(config_, *server_, DeadlineOf(config_),
                               RequestFor(config_, seeds_, sessions_++));
    if (session.ok()) {
      session_ = *std::move(session);
      break;
    }
    loss = session.status();
  }
  Advance();
  TakeBeginnings();
  std::fill(mutable_results().begin(), mutable_results().end(),
            StepResult{.lost = true});
  return absl::OkStatus();
}

void RemoteVectorEnvironment::TakeBeginnings() {
  const v1::EnvironmentReply& reply = session_->reply();
  for (int i = 0; i < size(); ++i) {
    Take(reply.observations(), reply.action_masks(), i, i);
    BeginEpisode(i);
  }
}

void RemoteVectorEnvironment::TakeStep() {
  const v1::EnvironmentReply& reply = session_->reply();
  Advance();
  size_t ended = 0;
  for (int i = 0; i < size(); ++i) {
    StepResult& result = mutable_results()[i];
    result = {.reward = reply.rewards(i),
              .terminated = reply.terminated(i),
              .truncated = reply.truncated(i)};
    const bool ends = result.terminated || result.truncated;
    if (ends) {
      Take(reply.final_observations(), reply.final_action_masks(), ended++, i);
      KeepFinal(i);
    }
    Take(reply.observations(), reply.action_masks(), i, i);
    if (ends) BeginEpisode(i);
  }
}

void RemoteVectorEnvironment::Take(const std::string& observations,
                                   const std::string& masks, size_t row,
                                   int i) {
  absl::Span<char> observation = newest(i);
  std::copy_n(observations.data() + row * observation.size(),
              observation.size(), observation.data());
  absl::Span<uint8_t> legal = mask(i);
  if (masks.empty()) {
    std::fill(legal.begin(), legal.end(), uint8_t{1});
  } else {
    std::copy_n(masks.data() + row * legal.size(), legal.size(), legal.data());
  }
}

absl::StatusOr<v1::VectorEnvironmentState> RemoteVectorEnvironment::Save()
    const {
  return absl::UnimplementedError(
      absl::StrCat(server_->name(), ": cannot be saved"));
}

absl::Status RemoteVectorEnvironment::Load(
    const v1::VectorEnvironmentState& /*state*/) {
  return absl::UnimplementedError(
      absl::StrCat(server_->name(), ": cannot be restored"));
}

}  // namespace qfleet
