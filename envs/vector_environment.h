// N environments of one kind, stepped together.
//
// The data path: each environment writes its observation straight into its
// place in Frames, where a policy reads all of them, stacked; an ended episode's
// last observation is kept apart before the environment begins the next one, so
// that truncation can bootstrap from it. Where actions can be illegal, the masks
// of legal ones [N, actions] go along.

#ifndef QFLEET_ENVS_VECTOR_ENVIRONMENT_H_
#define QFLEET_ENVS_VECTOR_ENVIRONMENT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "envs/environment.h"
#include "envs/frames.h"
#include "qfleet/v1/checkpoint.pb.h"

namespace qfleet {

// Thread-compatible.
class VectorEnvironment {
 public:
  virtual ~VectorEnvironment() = default;

  int size() const { return static_cast<int>(results_.size()); }
  const EnvironmentSpec& spec() const { return spec_; }

  // The newest observation of environment i.
  absl::Span<const char> observation(int i) const { return frames_.newest(i); }
  // What to act on, [spec().frame_stack, observation...]; of all environments.
  absl::Span<const char> stack(int i) const { return frames_.stack(i); }
  StridedRows stacks() const { return frames_.stacks(); }

  // Which actions are legal there, [N, actions]: 1, or 0 if not. Empty where
  // the spec has no masks; then every action is legal.
  absl::Span<const uint8_t> action_masks() const { return masks_; }
  absl::Span<const uint8_t> action_mask(int i) const;

  // Steps all; results()[i] is of the step, observation(i) the next one, or
  // after the end of an episode the first of the next episode, with the ended
  // one's last in final_observation(i), its stack in final_stack(i) and its mask
  // in final_action_mask(i) (not if it was lost: see StepResult).
  // An error is one of the environments' that has no remedy.
  absl::Status Step(absl::Span<const int> actions) {
    StartStep(actions);
    return FinishStep();
  }
  // The same in two parts, between which the caller can do something else, but
  // not ask about observations and masks. Results stay until FinishStep.
  virtual void StartStep(absl::Span<const int> actions) = 0;
  virtual absl::Status FinishStep() = 0;

  absl::Span<const StepResult> results() const { return results_; }
  absl::Span<const char> final_observation(int i) const;
  absl::Span<const char> final_stack(int i) const;
  absl::Span<const uint8_t> final_action_mask(int i) const;

  // All of it between two steps. UNIMPLEMENTED if the environments cannot be
  // saved. Load: FAILED_PRECONDITION if it is the state of other environments;
  // some may have been restored then.
  virtual absl::StatusOr<v1::VectorEnvironmentState> Save() const;
  virtual absl::Status Load(const v1::VectorEnvironmentState& state);

 protected:
  VectorEnvironment(const EnvironmentSpec& spec, int count);

  // For subclasses. A step calls Advance, then writes newest(i) and mask(i) of
  // each environment; where an episode ended, KeepFinal(i), then both anew for
  // the next one and BeginEpisode(i).
  void Advance() { frames_.Advance(); }
  absl::Span<char> newest(int i) { return frames_.newest(i); }
  absl::Span<uint8_t> mask(int i);
  absl::Span<StepResult> mutable_results() { return absl::MakeSpan(results_); }
  void KeepFinal(int i);
  void BeginEpisode(int i) { frames_.Begin(i); }

 private:
  const EnvironmentSpec spec_;
  const size_t mask_size_;  // Actions, or 0 without masks.
  Frames frames_;
  std::vector<char> final_stacks_;
  std::vector<uint8_t> masks_;
  std::vector<uint8_t> final_masks_;
  std::vector<StepResult> results_;
};

// Environments in this process, stepped one after another: in the caller's
// thread, or in one of their own between StartStep and FinishStep.
class LocalVectorEnvironment : public VectorEnvironment {
 public:
  // Environment i is seeded with seeds[i] and reset.
  LocalVectorEnvironment(std::vector<std::unique_ptr<Environment>> environments,
                         absl::Span<const uint64_t> seeds, int frame_stack = 1,
                         bool own_thread = false);
  ~LocalVectorEnvironment() override;

  // The first failure of an environment, in the resets of the constructor or
  // since, which FinishStep gives from then on. Not to be asked for during a step.
  const absl::Status& status() const { return status_; }

  void StartStep(absl::Span<const int> actions) override;
  absl::Status FinishStep() override;
  absl::StatusOr<v1::VectorEnvironmentState> Save() const override;
  absl::Status Load(const v1::VectorEnvironmentState& state) override;

 private:
  class Worker;

  void StepAll(absl::Span<const int> actions);
  void Reset(int i);
  void KeepStatus(int i);

  const std::vector<std::unique_ptr<Environment>> environments_;
  absl::Status status_;
  std::unique_ptr<Worker> worker_;  // Null: the caller's thread.
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_VECTOR_ENVIRONMENT_H_
