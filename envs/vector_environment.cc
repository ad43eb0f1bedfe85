#include "envs/vector_environment.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/status_macros.h"
#include "common/table_spec.h"

namespace qfleet {
namespace {

EnvironmentSpec WithStack(EnvironmentSpec spec, int frame_stack) {
  spec.frame_stack = frame_stack;
  return spec;
}

}  // namespace

VectorEnvironment::VectorEnvironment(const EnvironmentSpec& spec, int count)
    : spec_(spec),
      mask_size_(spec.has_action_mask ? spec.num_actions : 0),
      frames_(count, RowBytes(spec.observation), spec.frame_stack),
      final_stacks_(frames_.stack_bytes() * count),
      masks_(mask_size_ * count),
      final_masks_(mask_size_ * count),
      results_(count) {}

absl::Span<const uint8_t> VectorEnvironment::action_mask(int i) const {
  return action_masks().subspan(i * mask_size_, mask_size_);
}

absl::Span<uint8_t> VectorEnvironment::mask(int i) {
  return absl::MakeSpan(masks_).subspan(i * mask_size_, mask_size_);
}

absl::Span<const char> VectorEnvironment::final_stack(int i) const {
  return absl::MakeConstSpan(final_stacks_)
      .subspan(i * frames_.stack_bytes(), frames_.stack_bytes());
}

absl::Span<const char> VectorEnvironment::final_observation(int i) const {
  return final_stack(i).last(frames_.frame_bytes());
}

absl::Span<const uint8_t> VectorEnvironment::final_action_mask(int i) const {
  return absl::MakeConstSpan(final_masks_).subspan(i * mask_size_, mask_size_);
}

void VectorEnvironment::KeepFinal(int i) {
  std::copy_n(stack(i).begin(), stack(i).size(),
              final_stacks_.begin() + i * frames_.stack_bytes());
  std::copy_n(action_mask(i).begin(), mask_size_,
              final_masks_.begin() + i * mask_size_);
}

absl::StatusOr<v1::VectorEnvironmentState> VectorEnvironment::Save() const {
  v1::VectorEnvironmentState state;
  for (int i = 0; i < size(); ++i) {
    state.mutable_observations()->append(stack(i).data(), stack(i).size());
  }
  state.set_final_observations(final_stacks_.data(), final_stacks_.size());
  for (const StepResult& result : results_) {
    v1::VectorEnvironmentState::Result& saved = *state.add_results();
    saved.set_reward(result.reward);
    saved.set_terminated(result.terminated);
    saved.set_truncated(result.truncated);
  }
  state.set_masks(masks_.data(), masks_.size());
  state.set_final_masks(final_masks_.data(), final_masks_.size());
  return state;
}

absl::Status VectorEnvironment::Load(const v1::VectorEnvironmentState& state) {
  if (state.results_size() != size() ||
      state.observations().size() != final_stacks_.size() ||
      state.final_observations().size() != final_stacks_.size() ||
      state.masks().size() != masks_.size() ||
      state.final_masks().size() != final_masks_.size()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "saved environments = ", state.results_size(), " with ",
        state.observations().size(), " bytes of observations: allowed is ",
        size(), " with ", final_stacks_.size()));
  }
  const size_t bytes = frames_.stack_bytes();
  for (int i = 0; i < size(); ++i) {
    frames_.SetStack(
        i, absl::MakeConstSpan(state.observations()).subspan(i * bytes, bytes));
    results_[i] = {.reward = state.results(i).reward(),
                   .terminated = state.results(i).terminated(),
                   .truncated = state.results(i).truncated()};
  }
  final_stacks_.assign(state.final_observations().begin(),
                       state.final_observations().end());
  masks_.assign(state.masks().begin(), state.masks().end());
  final_masks_.assign(state.final_masks().begin(), state.final_masks().end());
  return absl::OkStatus();
}

// A thread that steps when it is told to.
class LocalVectorEnvironment::Worker {
 public:
  explicit Worker(LocalVectorEnvironment& environments)
      : environments_(environments), thread_([this] { Run(); }) {}
  ~Worker() {
    {
      absl::MutexLock lock(&mutex_);
      ended_ = true;
    }
    thread_.join();
  }

  void Start(absl::Span<const int> actions) {
    absl::MutexLock lock(&mutex_);
    actions_.assign(actions.begin(), actions.end());
    stepping_ = true;
  }

  void Finish() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](bool* stepping) { return !*stepping; }, &stepping_));
  }

 private:
  void Run() {
    absl::MutexLock lock(&mutex_);
    while (true) {
      mutex_.Await(absl::Condition(
          +[](Worker* worker) ABSL_NO_THREAD_SAFETY_ANALYSIS {
            return worker->stepping_ || worker->ended_;
          },
          this));
      if (ended_) return;
      environments_.StepAll(actions_);
      stepping_ = false;
    }
  }

  LocalVectorEnvironment& environments_;
  absl::Mutex mutex_;
  std::vector<int> actions_ ABSL_GUARDED_BY(mutex_);
  bool stepping_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: starts when all else is there.
};

LocalVectorEnvironment::LocalVectorEnvironment(
    std::vector<std::unique_ptr<Environment>> environments,
    absl::Span<const uint64_t> seeds, int frame_stack, bool own_thread)
    : VectorEnvironment(WithStack(environments[0]->spec(), frame_stack),
                        static_cast<int>(environments.size())),
      environments_(std::move(environments)) {
  for (int i = 0; i < size(); ++i) {
    environments_[i]->Seed(seeds[i]);
    Reset(i);
  }
  if (own_thread) worker_ = std::make_unique<Worker>(*this);
}

LocalVectorEnvironment::~LocalVectorEnvironment() = default;

void LocalVectorEnvironment::StartStep(absl::Span<const int> actions) {
  if (worker_ != nullptr) {
    worker_->Start(actions);
  } else {
    StepAll(actions);
  }
}

absl::Status LocalVectorEnvironment::FinishStep() {
  if (worker_ != nullptr) worker_->Finish();
  return status_;
}

void LocalVectorEnvironment::StepAll(absl::Span<const int> actions) {
  if (!status_.ok()) return;
  Advance();
  for (int i = 0; i < size(); ++i) {
    Environment& environment = *environments_[i];
    StepResult& result = mutable_results()[i];
    result = environment.Step(actions[i], newest(i));
    if (result.failed) return KeepStatus(i);
    if (!mask(i).empty()) environment.ActionMask(mask(i));
    if (result.terminated || result.truncated) {
      KeepFinal(i);
      Reset(i);
    }
  }
}

void LocalVectorEnvironment::Reset(int i) {
  environments_[i]->Reset(newest(i));
  KeepStatus(i);
  if (!mask(i).empty()) environments_[i]->ActionMask(mask(i));
  BeginEpisode(i);
}

void LocalVectorEnvironment::KeepStatus(int i) {
  const absl::Status status = environments_[i]->status();
  if (status.ok() || !status_.ok()) return;
  status_ = absl::Status(
      status.code(), absl::StrCat("environment ", i, ": ", status.message()));
}

absl::StatusOr<v1::VectorEnvironmentState> LocalVectorEnvironment::Save()
    const {
  QFLEET_ASSIGN_OR_RETURN(v1::VectorEnvironmentState state,
                          VectorEnvironment::Save());
  for (const auto& environment : environments_) {
    QFLEET_ASSIGN_OR_RETURN(*state.add_environments(), environment->Save());
  }
  return state;
}

absl::Status LocalVectorEnvironment::Load(
    const v1::VectorEnvironmentState& state) {
  if (state.environments_size() != size()) {
    return absl::FailedPreconditionError(
        absl::StrCat("saved environments = ", state.environments_size(),
                     ": allowed is ", size()));
  }
  QFLEET_RETURN_IF_ERROR(VectorEnvironment::Load(state));
  for (int i = 0; i < size(); ++i) {
    absl::Status status = environments_[i]->Load(state.environments(i));
    if (!status.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("saved environment ", i, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace qfleet
