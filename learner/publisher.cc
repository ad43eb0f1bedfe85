#include "learner/publisher.h"

#include <utility>

#include "common/hash.h"

namespace qfleet {

void Publisher::Resume(v1::Publication newest) {
  *newest.mutable_layout() = layout_;  // Older checkpoints have none.
  absl::MutexLock lock(&mutex_);
  newest_ = std::make_shared<const v1::Publication>(std::move(newest));
}

void Publisher::Publish(std::string parameters, uint64_t updates,
                        uint64_t env_steps,
                        std::function<Calibration()> calibrate) {
  auto publication = std::make_shared<v1::Publication>();
  publication->set_version(version() + 1);
  publication->set_updates(updates);
  publication->set_env_steps(env_steps);
  publication->set_network(network_);
  *publication->mutable_layout() = layout_;
  publication->set_hash(Hash64(parameters));
  publication->set_parameters(std::move(parameters));
  {
    absl::MutexLock lock(&mutex_);
    newest_ = publication;
  }
  if (listener_) listener_(std::move(publication), std::move(calibrate));
}

std::shared_ptr<const v1::Publication> Publisher::newest() const {
  absl::MutexLock lock(&mutex_);
  return newest_;
}

uint64_t Publisher::version() const {
  absl::MutexLock lock(&mutex_);
  return newest_ == nullptr ? 0 : newest_->version();
}

}  // namespace qfleet
