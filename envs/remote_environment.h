// Environments in another process (qfleet/v1/environment.proto): Gymnasium's in
// a Python process of ours, or a simulator that others started.
//
//   StartStep -> one message of actions -> the process steps all environments
//     -> one message of observations, rewards, flags -> FinishStep -> Frames
//
// What is lost in a step (the process died, hung, or its environment raised) is
// begun anew with other seeds: results()[i].lost, for all i. An environment
// that gives what it must not (NaN, another shape) is an error, as is a third
// loss without kStepsToTrust steps since the one before. Errors name the
// environment.

#ifndef QFLEET_ENVS_REMOTE_ENVIRONMENT_H_
#define QFLEET_ENVS_REMOTE_ENVIRONMENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "envs/environment_session.h"
#include "envs/vector_environment.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// Where sessions come from. Thread-compatible.
class EnvironmentServer {
 public:
  virtual ~EnvironmentServer() = default;

  // A new connection; the one before is closed already. With `patience` it
  // waits for who is not there yet.
  virtual absl::StatusOr<FramedSocket> Connect(absl::Duration patience) = 0;

  // The session has ended with the error `loss`: what is known of it, in words.
  virtual std::string Explain(const absl::Status& loss) = 0;

  // What errors begin with: `environment.gymnasium.id = "Pong-v0"`.
  virtual std::string name() const = 0;
};

// Of config.gymnasium() or config.remote(); `actor` is the actor's number.
// `quiet`: only errors are heard of it.
std::unique_ptr<EnvironmentServer> MakeEnvironmentServer(
    const v1::EnvironmentConfig& config, int actor, bool quiet);

// As CheckEnvironment (envs/registry.h), of the two kinds.
absl::Status CheckRemoteEnvironment(const v1::EnvironmentConfig& config);

// Asks it, in a session of its own.
absl::StatusOr<EnvironmentSpec> RemoteSpec(const v1::EnvironmentConfig& config);

// Thread-compatible; to be used by the thread that made it.
class RemoteVectorEnvironment : public VectorEnvironment {
 public:
  // Environments that are lost before so many steps count as lost in a row.
  static constexpr int kStepsToTrust = 100;
  static constexpr int kMaxLosses = 3;

  // Environment i is seeded with seeds[i]. INVALID_ARGUMENT if it is not what
  // config.spec() says, where that is set.
  static absl::StatusOr<std::unique_ptr<RemoteVectorEnvironment>> Make(
      const v1::EnvironmentConfig& config,
      std::unique_ptr<EnvironmentServer> server, std::vector<uint64_t> seeds);

  void StartStep(absl::Span<const int> actions) override;
  absl::Status FinishStep() override;

  // UNIMPLEMENTED.
  absl::StatusOr<v1::VectorEnvironmentState> Save() const override;
  absl::Status Load(const v1::VectorEnvironmentState& state) override;

 private:
  RemoteVectorEnvironment(const v1::EnvironmentConfig& config,
                          std::unique_ptr<EnvironmentServer> server,
                          std::unique_ptr<EnvironmentSession> session,
                          std::vector<uint64_t> seeds);

  absl::Status BeginAnew(absl::Status loss);
  void TakeStep();
  void TakeBeginnings();
  // The reply's row of environment i, with its mask.
  void Take(const std::string& observations, const std::string& masks,
            size_t row, int i);

  const v1::EnvironmentConfig config_;
  const std::unique_ptr<EnvironmentServer> server_;
  const std::vector<uint64_t> seeds_;
  std::unique_ptr<EnvironmentSession> session_;
  uint64_t sessions_ = 1;
  int losses_ = 0;  // In a row.
  int steps_ = 0;   // Since the last one, up to kStepsToTrust.
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_REMOTE_ENVIRONMENT_H_
