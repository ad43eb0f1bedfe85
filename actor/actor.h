// The actor's loop, one iteration at a time:
//
//   observations -> Policy::QValues -> items whose last step is now valued
//     -> Explorer -> actions -> VectorEnvironment::Step -> steps, items
//     -> Writer
//
// With several groups of environments one iteration does this for each, and a
// group is stepped (in a thread or process of its own) while the others' actions
// are chosen.
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
#include "envs/vector_environment.h"
#include "qfleet/v1/checkpoint.pb.h"
#include "replay_client/writer.h"

namespace qfleet {

struct ActorStats {
  uint64_t env_steps = 0;
  uint64_t episodes = 0;  // Ended.
  double return_sum = 0;  // Of those, of rewards as they came.
  uint64_t episodes_lost = 0;  // Cut by the loss of their environments.
};

// Thread-compatible.
class Actor {
 public:
  // `policy` and `writer` must outlive the actor. Environment i, counted through
  // all groups, is stream i of the writer.
  Actor(const v1::AlgorithmConfig& config,
        std::vector<std::unique_ptr<VectorEnvironment>> groups,
        Explorer explorer, Policy& policy, Writer& writer);

  // One step of each environment. `policy` must have weights. With several
  // groups the steps of the last call end in the next one.
  absl::Status Step();

  // As if so many steps had been taken before: for the schedule of epsilon.
  void SkipSchedule(uint64_t env_steps) { explorer_.set_steps(env_steps); }

  const ActorStats& stats() const { return stats_; }

  // All state between two steps but the policy's and the writer's.
  // UNIMPLEMENTED if the environments cannot be saved or are in several groups. Load:
  // FAILED_PRECONDITION if it is the state of other environments; the actor is
  // not to be used then.
  absl::StatusOr<v1::ActorState> Save() const;
  absl::Status Load(const v1::ActorState& state);

 private:
  // What is known of an environment's running episode.
  struct Stream {
    NStep n_step;
    uint64_t index = 0;  // Of the step of the current observation.
    float value = 0;     // Of that observation: its largest Q-value.
    float q = 0;         // Of the action taken there.
    double return_so_far = 0;
    // Set while a truncated episode waits for its final value.
    bool truncated = false;
    uint64_t truncated_index = 0;
  };

  struct Group {
    std::unique_ptr<VectorEnvironment> environments;
    int first = 0;          // Stream of its first environment.
    bool stepping = false;  // Between StartStep and FinishStep.
    std::vector<int> actions;
  };

  // In what follows i is an environment of the group.
  absl::Status Begin();
  absl::Status Act(Group& group);
  absl::Status FinishStep(Group& group);
  absl::Span<const float> ValueObservations(const Group& group);
  absl::Status EmitValued(Group& group, absl::Span<const float> q);
  absl::Status RecordStep(Group& group, int i);
  absl::Status EndEpisode(Group& group, int i);
  // The current observation of environment i, or the ended episode's last.
  absl::StatusOr<uint64_t> WriteStep(const Group& group, int i, bool starts);
  absl::StatusOr<uint64_t> WriteFinalStep(const Group& group, int i);
  absl::Status WriteItems(int stream);

  std::vector<Group> groups_;
  Explorer explorer_;
  Policy& policy_;
  Writer& writer_;
  std::vector<Stream> streams_;
  std::vector<char> batch_;       // Observations and waiting final ones.
  std::vector<NStepItem> items_;  // Of the environment at hand.
  ActorStats stats_;
  bool begun_ = false;
};

}  // namespace qfleet

#endif  // QFLEET_ACTOR_ACTOR_H_
