#include "learner/trainer.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "learner/schedule.h"

namespace qfleet {

Trainer::Trainer(const v1::Config& config, std::unique_ptr<Algorithm> algorithm,
                 Sampler& sampler)
    : config_(config.replay()),
      algorithm_(std::move(algorithm)),
      sampler_(sampler) {}

absl::Status Trainer::Step() {
  const absl::Time begun = absl::Now();
  absl::StatusOr<std::unique_ptr<SampleBatch>> sample = sampler_.Next();
  const absl::Time sampled = absl::Now();
  account_.wait_seconds += absl::ToDoubleSeconds(sampled - begun);
  if (!sample.ok()) return sample.status();
  QFLEET_RETURN_IF_ERROR(Update(**sample));
  account_.update_seconds += absl::ToDoubleSeconds(absl::Now() - sampled);
  return absl::OkStatus();
}

absl::Status Trainer::Update(const SampleBatch& sample) {
  const double beta = Linear(config_.beta(), config_.final_beta(),
                             config_.beta_updates(), updates());
  UpdateResult result;
  try {
    Batch batch(config_.table().signature(), sample, beta);
    result = algorithm_->Update(batch);
  } catch (const std::exception& error) {
    return absl::InternalError(
        absl::StrCat("update ", updates() + 1, ": ", error.what()));
  }
  if (!std::isfinite(result.loss) ||
      !std::all_of(result.priorities.begin(), result.priorities.end(),
                   [](float priority) { return std::isfinite(priority); })) {
    return absl::InternalError(absl::StrCat(
        "update ", updates(), ": loss = ", result.loss,
        ": allowed is a finite loss and finite TD errors; training diverged"));
  }
  ++account_.updates;
  account_.loss += result.loss;
  account_.mean_q += result.mean_q;
  account_.gradient_norm += result.gradient_norm;
  return sampler_.UpdatePriorities(sample.keys, result.priorities);
}

TrainerAccount Trainer::TakeAccount() {
  return std::exchange(account_, TrainerAccount());
}

}  // namespace qfleet
