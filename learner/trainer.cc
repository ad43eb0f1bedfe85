#include "learner/trainer.h"

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/schedule.h"
#include "common/status_macros.h"
#include "spdlog/spdlog.h"

namespace qfleet {

// The time since it was last asked.
class Trainer::Lap {
 public:
  double Seconds() {
    const absl::Time now = absl::Now();
    return absl::ToDoubleSeconds(now - std::exchange(last_, now));
  }

 private:
  absl::Time last_ = absl::Now();
};

Trainer::Trainer(const v1::Config& config, std::unique_ptr<Algorithm> algorithm,
                 Sampler& sampler)
    : config_(config.replay()),
      max_skipped_(config.learner().max_skipped_updates()),
      algorithm_(std::move(algorithm)),
      sampler_(sampler) {}

absl::Status Trainer::Step() {
  Lap lap;
  absl::StatusOr<std::unique_ptr<SampleBatch>> sample = sampler_.Next();
  account_.wait_seconds += lap.Seconds();
  if (absl::IsDeadlineExceeded(sample.status())) {
    QFLEET_RETURN_IF_ERROR(Settle());
    QFLEET_RETURN_IF_ERROR(TakePart(/*stop=*/false));
  }
  if (!sample.ok()) return sample.status();
  newest_ = *std::move(sample);
  return Update(lap);
}

absl::Status Trainer::Update(Lap& lap) {
  SampleBatch& sample = *newest_;
  const double beta = Linear(config_.beta(), config_.final_beta(),
                             config_.beta_updates(), updates());
  UpdateResult result;
  try {
    Batch batch(config_.table().signature(), sample, beta);
    observations_ = batch.Find("observation");
    account_.copy_seconds += lap.Seconds();
    result = algorithm_->Update(batch);
  } catch (const std::exception& error) {
    return absl::InternalError(
        absl::StrCat("update ", updates() + 1, ": ", error.what()));
  }
  keys_.push_back(std::move(sample.keys));
  account_.update_seconds += lap.Seconds();
  absl::Status status = Take(result);
  account_.priority_seconds += lap.Seconds();
  return status;
}

absl::Status Trainer::Settle() {
  try {
    return Take(algorithm_->Finish());
  } catch (const std::exception& error) {
    return absl::InternalError(
        absl::StrCat("update ", updates(), ": ", error.what()));
  }
}

absl::Status Trainer::Take(const UpdateResult& result) {
  if (result.pending) return absl::OkStatus();
  const std::vector<SampleKey> keys = std::move(keys_.front());
  keys_.pop_front();
  QFLEET_RETURN_IF_ERROR(Finish(result));
  if (result.skipped) return absl::OkStatus();
  ++account_.updates;
  account_.loss += result.loss;
  account_.mean_q += result.mean_q;
  account_.gradient_norm += result.gradient_norm;
  return sampler_.UpdatePriorities(keys, result.priorities);
}

absl::Status Trainer::StopAll() {
  absl::Status status = TakePart(/*stop=*/true);
  return absl::IsCancelled(status) ? absl::OkStatus() : status;
}

// With the others, without a batch.
absl::Status Trainer::TakePart(bool stop) {
  try {
    return Finish(algorithm_->TakePart(stop));
  } catch (const std::exception& error) {
    return absl::InternalError(
        absl::StrCat("update ", updates() + 1, ": ", error.what()));
  }
}

absl::Status Trainer::Finish(const UpdateResult& result) {
  if (result.pending) return absl::OkStatus();
  if (result.stopped) {
    return absl::CancelledError("another learner of the job asked all to stop");
  }
  if (result.skipped) return Skipped(result);
  skipped_in_a_row_ = 0;
  return absl::OkStatus();
}

absl::Status Trainer::Skipped(const UpdateResult& result) {
  ++account_.skipped;
  ++skipped_in_a_row_;
  // Batches without a result are counted as updates.
  const int64_t number = updates() + 1 - static_cast<int64_t>(keys_.size());
  const std::string what = absl::StrCat(
      "update ", number, ": loss = ", result.loss,
      ", gradient norm = ", result.gradient_norm, ": allowed is finite");
  if (skipped_in_a_row_ >= max_skipped_) {
    return absl::InternalError(absl::StrCat(
        what, "; training diverged (", skipped_in_a_row_,
        " updates in a row were skipped, learner.max_skipped_updates)"));
  }
  spdlog::warn("{}; skipped", what);
  return absl::OkStatus();
}

TrainerAccount Trainer::TakeAccount() {
  return std::exchange(account_, TrainerAccount());
}

}  // namespace qfleet
