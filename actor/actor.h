// The actor's loop, one iteration at a time:
//
//   observations -> Policy::QValues -> items whose last step is now valued
//     -> Explorer -> actions -> VectorEnvironment::Step -> steps, items
//     -> Writer
//
// A truncated episode's final observation is valued as an extra row of the
// next iteration's batch. Where the environment has action masks they are
// written with each step (second column, "action_mask"), and only legal actions
// are taken and bootstrapped from.

#ifndef QFLEET_ACTOR_ACTOR_H_
#define QFLEET_ACTOR_ACTOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "actor/explorer.h"
#include "actor/n_step.h"
#include "actor/policy.h"
#include "envs/environment.h"
#include "qfleet/v1/checkpoint.pb.h"
#include "replay_client/writer.h"

namespace qfleet {

struct ActorStats {
  uint64_t env_steps = 0;
  uint64_t episodes = 0;  // Ended.
  double return_sum = 0;  // Of those, of rewards as they came.
};

// Thread-compatible.
class Actor {
 public:
  // `policy` and `writer` must outlive the actor. Environment i is stream i of
  // the writer.
  Actor(const v1::AlgorithmConfig& config,
        std::unique_ptr<VectorEnvironment> environments, Explorer explorer,
        Policy& policy, Writer& writer);

  // One step of each environment. `policy` must have weights.
  absl::Status Step();

  // As if so many steps had been taken before: for the schedule of epsilon.
  void SkipSchedule(uint64_t env_steps) { explorer_.set_steps(env_steps); }

  const ActorStats& stats() const { return stats_; }

  // All state between two steps but the policy's and the writer's.
  // UNIMPLEMENTED if the environments cannot be saved. Load:
  // FAILED_PRECONDITION if it is the state of other environments; the actor is
  // not to be used then.
  absl::StatusOr<v1::ActorState> Save() const;
  absl::Status Load(const v1::ActorState& state);

 private:
  // What is known of an environment's running episode.
  struct Stream {
    NStep n_step;
    uint64_t index = 0;  // Of the step of the current observation.
    double return_so_far = 0;
    // Set while a truncated episode waits for its final value.
    bool truncated = false;
    uint64_t truncated_index = 0;
  };

  absl::Status Begin();
  absl::Span<const float> ValueObservations();
  absl::Status EmitValued(absl::Span<const float> q);
  absl::Status RecordStep(int i, int action, float q);
  absl::Status EndEpisode(int i);
  // The current observation of environment i, or the ended episode's last.
  absl::StatusOr<uint64_t> WriteStep(int i, bool starts);
  absl::StatusOr<uint64_t> WriteFinalStep(int i);
  absl::Status WriteItems(int i);

  const std::unique_ptr<VectorEnvironment> environments_;
  Explorer explorer_;
  Policy& policy_;
  Writer& writer_;
  std::vector<Stream> streams_;
  std::vector<int> actions_;
  std::vector<char> batch_;       // Observations and waiting final ones.
  std::vector<NStepItem> items_;  // Of the environment at hand.
  ActorStats stats_;
  bool begun_ = false;
};

}  // namespace qfleet

#endif  // QFLEET_ACTOR_ACTOR_H_
