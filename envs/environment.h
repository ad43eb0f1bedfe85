// An environment.

#ifndef QFLEET_ENVS_ENVIRONMENT_H_
#define QFLEET_ENVS_ENVIRONMENT_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qfleet/v1/tensor.pb.h"

namespace qfleet {

struct EnvironmentSpec {
  v1::TensorSpec observation;    // name "observation".
  int num_actions = 0;           // Actions are 0 .. num_actions - 1.
  bool has_action_mask = false;  // Not every action is legal everywhere.
  // Observations that a policy sees at once, the newest last. An environment
  // gives one at a time.
  int frame_stack = 1;
};

// What a policy sees: `observation`, with the stack as its channels: [height,
// width] becomes [stack, height, width], [channels, height, width] becomes
// [stack * channels, height, width], others get a leading dimension `stack`.
v1::TensorSpec StackedObservation(const EnvironmentSpec& spec);

struct StepResult {
  float reward = 0;
  bool terminated = false;  // Gymnasium's meanings of the two.
  bool truncated = false;
  // The environment was lost in this step: nothing is known of it, and the
  // episode is truncated at the observation that was acted on. A new one has
  // begun.
  bool lost = false;
  // The environment cannot go on, see Environment::status(): nothing of this
  // step is to be used.
  bool failed = false;
};

// One instance. Thread-compatible. Deterministic given the seed.
class Environment {
 public:
  virtual ~Environment() = default;

  virtual const EnvironmentSpec& spec() const = 0;

  // Begins the first episode of a new random sequence.
  virtual void Seed(uint64_t seed) = 0;

  // Begins an episode; writes the first observation (spec().observation's row
  // size).
  virtual void Reset(absl::Span<char> observation) = 0;

  // Takes an action in [0, num_actions); writes the next observation. Not to
  // be called after the end of an episode before Reset.
  virtual StepResult Step(int action, absl::Span<char> observation) = 0;

  // Which actions are legal at the observation that Reset or Step wrote last:
  // mask[a] = 1, or 0 if not; `mask` has num_actions elements. At least one is
  // legal unless that step terminated the episode. By default all are; whoever
  // says otherwise sets has_action_mask in the spec.
  virtual void ActionMask(absl::Span<uint8_t> mask) const {
    std::fill(mask.begin(), mask.end(), uint8_t{1});
  }

  // An independent copy: same state, same random sequence. Null where an
  // environment cannot be copied; the built-in ones can.
  virtual std::unique_ptr<Environment> Clone() const = 0;

  // Not OK: the last Reset or Step failed, in words. Only environments of
  // others' code fail; a Step that does says so in its result.
  virtual absl::Status status() const { return absl::OkStatus(); }

  // The whole state, the random sequence included, as bytes for this machine.
  // UNIMPLEMENTED where an environment has no such thing. Load:
  // INVALID_ARGUMENT if the bytes are not a state, and nothing has changed.
  virtual absl::StatusOr<std::string> Save() const {
    return absl::UnimplementedError("this environment cannot be saved");
  }
  virtual absl::Status Load(absl::string_view /*state*/) {
    return absl::UnimplementedError("this environment cannot be restored");
  }
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_ENVIRONMENT_H_
