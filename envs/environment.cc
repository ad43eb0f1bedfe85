#include "envs/environment.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/table_spec.h"

namespace qfleet {

VectorEnvironment::VectorEnvironment(
    std::vector<std::unique_ptr<Environment>> environments,
    absl::Span<const uint64_t> seeds)
    : row_bytes_(RowBytes(environments[0]->spec().observation)),
      mask_size_(environments[0]->spec().has_action_mask
                     ? environments[0]->spec().num_actions
                     : 0),
      environments_(std::move(environments)),
      observations_(row_bytes_ * environments_.size()),
      final_observations_(row_bytes_ * environments_.size()),
      masks_(mask_size_ * environments_.size()),
      final_masks_(mask_size_ * environments_.size()),
      results_(environments_.size()) {
  for (int i = 0; i < size(); ++i) {
    environments_[i]->Seed(seeds[i]);
    environments_[i]->Reset(
        absl::MakeSpan(&observations_[i * row_bytes_], row_bytes_));
    UpdateMask(i);
  }
}

absl::Span<const char> VectorEnvironment::observation(int i) const {
  return absl::MakeSpan(&observations_[i * row_bytes_], row_bytes_);
}

absl::Span<const char> VectorEnvironment::final_observation(int i) const {
  return absl::MakeSpan(&final_observations_[i * row_bytes_], row_bytes_);
}

absl::Span<const uint8_t> VectorEnvironment::action_mask(int i) const {
  return action_masks().subspan(i * mask_size_, mask_size_);
}

absl::Span<const uint8_t> VectorEnvironment::final_action_mask(int i) const {
  return absl::MakeConstSpan(final_masks_).subspan(i * mask_size_, mask_size_);
}

void VectorEnvironment::Step(absl::Span<const int> actions) {
  for (int i = 0; i < size(); ++i) {
    absl::Span<char> row =
        absl::MakeSpan(&observations_[i * row_bytes_], row_bytes_);
    results_[i] = environments_[i]->Step(actions[i], row);
    UpdateMask(i);
    if (results_[i].terminated || results_[i].truncated) {
      std::memcpy(&final_observations_[i * row_bytes_], row.data(), row_bytes_);
      std::copy_n(masks_.begin() + i * mask_size_, mask_size_,
                  final_masks_.begin() + i * mask_size_);
      environments_[i]->Reset(row);
      UpdateMask(i);
    }
  }
}

void VectorEnvironment::UpdateMask(int i) {
  if (mask_size_ == 0) return;
  environments_[i]->ActionMask(
      absl::MakeSpan(masks_).subspan(i * mask_size_, mask_size_));
}

absl::StatusOr<v1::VectorEnvironmentState> VectorEnvironment::Save() const {
  v1::VectorEnvironmentState state;
  for (const auto& environment : environments_) {
    QFLEET_ASSIGN_OR_RETURN(*state.add_environments(), environment->Save());
  }
  state.set_observations(observations_.data(), observations_.size());
  state.set_final_observations(final_observations_.data(),
                               final_observations_.size());
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
  if (state.environments_size() != size() || state.results_size() != size() ||
      state.observations().size() != observations_.size() ||
      state.final_observations().size() != final_observations_.size() ||
      state.masks().size() != masks_.size() ||
      state.final_masks().size() != final_masks_.size()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "saved environments = ", state.environments_size(), " with ",
        state.observations().size(), " bytes of observations: allowed is ",
        size(), " with ", observations_.size()));
  }
  for (int i = 0; i < size(); ++i) {
    absl::Status status = environments_[i]->Load(state.environments(i));
    if (!status.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("saved environment ", i, ": ", status.message()));
    }
    results_[i] = {.reward = state.results(i).reward(),
                   .terminated = state.results(i).terminated(),
                   .truncated = state.results(i).truncated()};
  }
  observations_.assign(state.observations().begin(),
                       state.observations().end());
  final_observations_.assign(state.final_observations().begin(),
                             state.final_observations().end());
  masks_.assign(state.masks().begin(), state.masks().end());
  final_masks_.assign(state.final_masks().begin(), state.final_masks().end());
  return absl::OkStatus();
}

}  // namespace qfleet
