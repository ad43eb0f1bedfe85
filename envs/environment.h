// An environment, and a vector of them stepped together.
//
// The data path: VectorEnvironment steps its environments one after another,
// each writing its observation straight into its slice of a batch array
// [N, observation...]; an ended episode's final observation is kept apart
// before the environment is reset, so that truncation can bootstrap from it.
// Where actions can be illegal, the masks of legal ones [N, actions] go along.

#ifndef QFLEET_ENVS_ENVIRONMENT_H_
#define QFLEET_ENVS_ENVIRONMENT_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qfleet/v1/checkpoint.pb.h"
#include "qfleet/v1/tensor.pb.h"

namespace qfleet {

struct EnvironmentSpec {
  v1::TensorSpec observation;    // name "observation".
  int num_actions = 0;           // Actions are 0 .. num_actions - 1.
  bool has_action_mask = false;  // Not every action is legal everywhere.
};

struct StepResult {
  float reward = 0;
  bool terminated = false;  // Gymnasium's meanings of the two.
  bool truncated = false;
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

  // An independent copy: same state, same random sequence.
  virtual std::unique_ptr<Environment> Clone() const = 0;

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

// N environments of one kind. Thread-compatible.
class VectorEnvironment {
 public:
  // Environment i is seeded with seeds[i] and reset.
  VectorEnvironment(std::vector<std::unique_ptr<Environment>> environments,
                    absl::Span<const uint64_t> seeds);

  int size() const { return static_cast<int>(environments_.size()); }
  const EnvironmentSpec& spec() const { return environments_[0]->spec(); }

  // The observations to act on, [N, observation...].
  absl::Span<const char> observations() const { return observations_; }
  absl::Span<const char> observation(int i) const;

  // Which actions are legal there, [N, actions]: 1, or 0 if not. Empty where
  // the spec has no masks; then every action is legal.
  absl::Span<const uint8_t> action_masks() const { return masks_; }
  absl::Span<const uint8_t> action_mask(int i) const;

  // Steps all; results()[i] is of the step, observation(i) the next one, or
  // after the end of an episode the first of the next episode, with the ended
  // one's last in final_observation(i), and its mask in final_action_mask(i).
  void Step(absl::Span<const int> actions);
  absl::Span<const StepResult> results() const { return results_; }
  absl::Span<const char> final_observation(int i) const;
  absl::Span<const uint8_t> final_action_mask(int i) const;

  // All of it between two steps. UNIMPLEMENTED if an environment cannot be
  // saved. Load: FAILED_PRECONDITION if it is the state of other environments;
  // some may have been restored then.
  absl::StatusOr<v1::VectorEnvironmentState> Save() const;
  absl::Status Load(const v1::VectorEnvironmentState& state);

 private:
  // Writes environment i's row of masks_.
  void UpdateMask(int i);

  const size_t row_bytes_;
  const size_t mask_size_;  // Actions, or 0 without masks.
  std::vector<std::unique_ptr<Environment>> environments_;
  std::vector<char> observations_;
  std::vector<char> final_observations_;
  std::vector<uint8_t> masks_;
  std::vector<uint8_t> final_masks_;
  std::vector<StepResult> results_;
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_ENVIRONMENT_H_
