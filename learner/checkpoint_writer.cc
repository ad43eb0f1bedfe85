#include "learner/checkpoint_writer.h"

#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/checkpoint_file.h"

namespace qfleet {

CheckpointWriter::CheckpointWriter(std::string directory, int keep,
                                   Metrics& metrics)
    : directory_(std::move(directory)),
      keep_(keep),
      written_(metrics.Counter("qfleet_learner_checkpoints_total",
                               "Checkpoints written.")),
      skipped_(metrics.Counter(
          "qfleet_learner_checkpoints_skipped_total",
          "Checkpoints that were due while another was being written.")),
      seconds_(
          metrics.Gauge("qfleet_learner_checkpoint_duration_seconds",
                        "How long it took to write the last checkpoint.")) {}

CheckpointWriter::~CheckpointWriter() {
  if (thread_.joinable()) thread_.join();
}

bool CheckpointWriter::Idle() const {
  absl::MutexLock lock(&mutex_);
  return !busy_;
}

void CheckpointWriter::Start(v1::Checkpoint checkpoint, WriteBeside beside) {
  if (thread_.joinable()) thread_.join();
  {
    absl::MutexLock lock(&mutex_);
    busy_ = true;
  }
  thread_ = std::thread([this, checkpoint = std::move(checkpoint),
                         beside = std::move(beside)]() mutable {
    Write(std::move(checkpoint), beside);
  });
}

void CheckpointWriter::Skip() { skipped_.Increment(); }

void CheckpointWriter::Write(v1::Checkpoint checkpoint,
                             const WriteBeside& beside) {
  const absl::Time begun = absl::Now();
  const absl::Status before =
      beside ? beside(directory_, checkpoint) : absl::OkStatus();
  const absl::StatusOr<std::string> path =
      before.ok() ? WriteCheckpoint(directory_, checkpoint, keep_)
                  : absl::StatusOr<std::string>(before);
  if (path.ok()) {
    written_.Increment();
    seconds_.Set(absl::ToDoubleSeconds(absl::Now() - begun));
  }
  absl::MutexLock lock(&mutex_);
  busy_ = false;
  if (path.ok()) {
    path_ = *path;
  } else if (status_.ok()) {
    status_ = path.status();
  }
}

absl::StatusOr<std::string> CheckpointWriter::Wait() {
  if (thread_.joinable()) thread_.join();
  absl::MutexLock lock(&mutex_);
  if (!status_.ok()) return status_;
  return path_;
}

absl::Status CheckpointWriter::status() const {
  absl::MutexLock lock(&mutex_);
  return status_;
}

}  // namespace qfleet
