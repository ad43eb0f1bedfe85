#include "learner/loop.h"

#include <string>

#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

// Publishes and writes periodic checkpoints as updates go by.
absl::Status AfterUpdate(const v1::LearnerConfig& config, Trainer& trainer,
                         Publisher& publisher, const Run& run) {
  const int64_t updates = trainer.updates();
  if (updates % config.publish_period() == 0) {
    publisher.Publish(trainer.algorithm().Publish(), updates);
  }
  if (config.checkpoint_period() > 0 &&
      updates % config.checkpoint_period() == 0) {
    return run.WriteCheckpoint(trainer.algorithm(), *publisher.newest())
        .status();
  }
  return absl::OkStatus();
}

// One turn of the loop. A wait for the replay is no error.
absl::Status Turn(const v1::Config& config, Trainer& trainer,
                  Publisher& publisher, const Run& run,
                  const std::function<absl::Status()>& step) {
  if (step) QFLEET_RETURN_IF_ERROR(step());
  absl::Status status = trainer.Step();
  if (absl::IsDeadlineExceeded(status)) {
    spdlog::info("waiting: {}", std::string(status.message()));
    return absl::OkStatus();
  }
  QFLEET_RETURN_IF_ERROR(status);
  return AfterUpdate(config.learner(), trainer, publisher, run);
}

}  // namespace

absl::StatusOr<Outcome> TrainUntilDone(
    const v1::Config& config, Trainer& trainer, Sampler& sampler,
    Publisher& publisher, Run& run, const std::function<ActorsView()>& actors,
    const std::function<bool()>& interrupted,
    const std::function<absl::Status()>& step) {
  absl::Status status;
  while (status.ok() && run.outcome() == Outcome::kNone && !interrupted()) {
    status = Turn(config, trainer, publisher, run, step);
    if (run.Tick(trainer.updates(), sampler.View()) && status.ok()) {
      status = run.Report(trainer.TakeAccount(), sampler.View(), actors(),
                          publisher.version(), "training");
    }
  }
  // What was learned is kept, whatever ended the loop, but for an update that
  // failed: its weights are worth nothing.
  if (!absl::IsInternal(status)) {
    absl::StatusOr<std::string> path =
        run.WriteCheckpoint(trainer.algorithm(), *publisher.newest());
    if (path.ok()) spdlog::info("checkpoint: {}", *path);
    if (status.ok()) status = path.status();
  }
  absl::Status reported = run.Report(trainer.TakeAccount(), sampler.View(),
                                     actors(), publisher.version(), "stopping");
  if (status.ok()) status = reported;
  QFLEET_RETURN_IF_ERROR(status);
  spdlog::info("{}", run.Summary());
  return run.outcome();
}

}  // namespace qfleet
