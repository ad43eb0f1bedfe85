#include "learner/loop.h"

#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "learner/calibrator.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

class Loop {
 public:
  Loop(const v1::Config& config, Trainer& trainer, Sampler& sampler,
       Publisher& publisher, Run& run, CheckpointWriter& writer,
       const LoopHooks& hooks)
      : config_(config.learner()),
        trainer_(trainer),
        sampler_(sampler),
        publisher_(publisher),
        run_(run),
        writer_(writer),
        hooks_(hooks) {
    if (config.actors().weight_codec() == v1::INT8) {
      calibrator_.emplace(trainer.algorithm().network());
    }
  }

  // One turn. A wait for the replay is no error.
  absl::Status Turn() {
    if (hooks_.step) QFLEET_RETURN_IF_ERROR(hooks_.step());
    // What the step left out is for the run that goes on from here.
    if (hooks_.interrupted()) return absl::OkStatus();
    const int64_t before = trainer_.updates();
    absl::Status status = trainer_.Step();
    if (absl::IsDeadlineExceeded(status)) {
      NoteWaiting(std::string(status.message()));
    } else {
      QFLEET_RETURN_IF_ERROR(status);
      NoteWaiting("");
    }
    // A skipped update is none; one of the others' batches is one.
    if (trainer_.updates() <= before) return absl::OkStatus();
    const absl::Time begun = absl::Now();
    if (calibrator_ && trainer_.newest_observations().defined()) {
      calibrator_->Add(trainer_.newest_observations());
    }
    status = AfterUpdate();
    publish_seconds_ += absl::ToDoubleSeconds(absl::Now() - begun);
    return status;
  }

  // All that the run is at this moment, to the writer's thread. INTERNAL if a
  // device cannot be read.
  absl::Status StartCheckpoint() {
    try {
      absl::Status settled = trainer_.Settle();
      StartSettledCheckpoint();
      return settled;
    } catch (const std::exception& error) {
      return absl::InternalError(absl::StrCat("checkpoint: ", error.what()));
    }
  }

  absl::Status Report(const std::string& state) {
    TrainerAccount account = trainer_.TakeAccount();
    account.publish_seconds = std::exchange(publish_seconds_, 0);
    return run_.Report(account, sampler_.View(), hooks_.actors(),
                       publisher_.version(), state);
  }

 private:
  // Said when it begins and once a minute, however long it lasts: while the
  // actors fill a large replay that is for hours.
  void NoteWaiting(const std::string& why) {
    constexpr absl::Duration kSayAgain = absl::Minutes(1);
    if (why.empty() && !waiting_) return;
    run_.NoteWaiting(why);
    const absl::Time now = absl::Now();
    if (!why.empty() && (!waiting_ || now - said_ >= kSayAgain) &&
        now - said_ >= absl::Seconds(5)) {
      said_ = now;
      spdlog::info("waiting: {}", why);
    }
    waiting_ = !why.empty();
  }

  void StartSettledCheckpoint() {
    run_.Tick(trainer_.updates(), sampler_.View());  // Nothing is uncounted.
    v1::Checkpoint checkpoint =
        run_.MakeCheckpoint(trainer_.algorithm(), *publisher_.newest(),
                            sampler_.View(), hooks_.actors());
    for (v1::KnownShard& known : sampler_.Known()) {
      *checkpoint.add_shards() = std::move(known);
    }
    WriteBeside beside = hooks_.save ? hooks_.save(checkpoint) : nullptr;
    writer_.Start(std::move(checkpoint), std::move(beside));
  }

  void Publish() {
    std::string weights = trainer_.algorithm().Publish();
    std::function<Calibration()> calibrate;
    if (calibrator_) calibrate = calibrator_->Of(weights);
    publisher_.Publish(std::move(weights), trainer_.updates(), run_.env_steps(),
                       std::move(calibrate));
  }

  // Publishes and begins periodic checkpoints as updates go by.
  absl::Status AfterUpdate() {
    const int64_t updates = trainer_.updates();
    if (updates % config_.publish_period() == 0) {
      try {
        Publish();
      } catch (const std::exception& error) {
        return absl::InternalError(
            absl::StrCat("publishing update ", updates, ": ", error.what()));
      }
    }
    if (config_.checkpoint_period() == 0 ||
        updates % config_.checkpoint_period() != 0) {
      return absl::OkStatus();
    }
    if (writer_.Idle()) {
      QFLEET_RETURN_IF_ERROR(writer_.status());
      QFLEET_RETURN_IF_ERROR(StartCheckpoint());
    } else {
      writer_.Skip();
      spdlog::warn(
          "checkpoint of update {} left out: the one before is still being "
          "written",
          updates);
    }
    return absl::OkStatus();
  }

  const v1::LearnerConfig& config_;
  Trainer& trainer_;
  Sampler& sampler_;
  Publisher& publisher_;
  Run& run_;
  CheckpointWriter& writer_;
  const LoopHooks& hooks_;
  std::optional<Calibrator> calibrator_;  // Where actors take INT8.
  double publish_seconds_ = 0;
  bool waiting_ = false;
  absl::Time said_ = absl::InfinitePast();  // That it waits.
};

}  // namespace

absl::StatusOr<Outcome> TrainUntilDone(const v1::Config& config,
                                       Trainer& trainer, Sampler& sampler,
                                       Publisher& publisher, Run& run,
                                       CheckpointWriter& writer,
                                       const LoopHooks& hooks) {
  Loop loop(config, trainer, sampler, publisher, run, writer, hooks);
  absl::Status status;
  while (status.ok() && run.outcome() == Outcome::kNone &&
         !hooks.interrupted()) {
    status = loop.Turn();
    if (run.Tick(trainer.updates(), sampler.View()) && status.ok()) {
      status = loop.Report("training");
    }
  }
  // Another learner of the job has asked all to stop, or is asked by us.
  if (absl::IsCancelled(status)) {
    status = absl::OkStatus();
  } else if (status.ok()) {
    status = trainer.StopAll();
  }
  // What was learned is kept, whatever ended the loop: an update that failed
  // has changed nothing.
  absl::Status saved = loop.StartCheckpoint();
  if (status.ok()) status = saved;
  absl::StatusOr<std::string> path = writer.Wait();
  if (path.ok() && !path->empty()) spdlog::info("checkpoint: {}", *path);
  if (status.ok()) status = path.status();
  absl::Status reported = loop.Report("stopping");
  if (status.ok()) status = reported;
  QFLEET_RETURN_IF_ERROR(status);
  spdlog::info("{}", run.Summary());
  return run.outcome();
}

}  // namespace qfleet
