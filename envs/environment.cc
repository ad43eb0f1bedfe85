#include "envs/environment.h"

#include <cstring>
#include <utility>

#include "common/table_spec.h"

namespace qfleet {

VectorEnvironment::VectorEnvironment(
    std::vector<std::unique_ptr<Environment>> environments,
    absl::Span<const uint64_t> seeds)
    : row_bytes_(RowBytes(environments[0]->spec().observation)),
      environments_(std::move(environments)),
      observations_(row_bytes_ * environments_.size()),
      final_observations_(row_bytes_ * environments_.size()),
      results_(environments_.size()) {
  for (size_t i = 0; i < environments_.size(); ++i) {
    environments_[i]->Seed(seeds[i]);
    environments_[i]->Reset(
        absl::MakeSpan(&observations_[i * row_bytes_], row_bytes_));
  }
}

absl::Span<const char> VectorEnvironment::observation(int i) const {
  return absl::MakeSpan(&observations_[i * row_bytes_], row_bytes_);
}

absl::Span<const char> VectorEnvironment::final_observation(int i) const {
  return absl::MakeSpan(&final_observations_[i * row_bytes_], row_bytes_);
}

void VectorEnvironment::Step(absl::Span<const int> actions) {
  for (size_t i = 0; i < environments_.size(); ++i) {
    absl::Span<char> row =
        absl::MakeSpan(&observations_[i * row_bytes_], row_bytes_);
    results_[i] = environments_[i]->Step(actions[i], row);
    if (results_[i].terminated || results_[i].truncated) {
      std::memcpy(&final_observations_[i * row_bytes_], row.data(), row_bytes_);
      environments_[i]->Reset(row);
    }
  }
}

}  // namespace qfleet
