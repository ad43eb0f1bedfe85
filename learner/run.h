// A training run as its run directory shows it: progress, evaluations, when to
// stop, metrics.jsonl, checkpoints.
//
// Thread-safe: the loop ticks it, the Weights service reads and feeds it.

#ifndef QFLEET_LEARNER_RUN_H_
#define QFLEET_LEARNER_RUN_H_

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/metrics.h"
#include "learner/run_status.h"
#include "learner/trainer.h"
#include "qfleet/v1/checkpoint.pb.h"
#include "qfleet/v1/config.pb.h"
#include "qfleet/v1/weights.pb.h"
#include "replay_client/sampler.h"
#include "weights/actors_view.h"

namespace qfleet {

enum class Outcome {
  kNone,        // Goes on.
  kReached,     // The stop condition.
  kNotReached,  // A bound came first, with a target set.
  kBounded,     // A bound, without a target: that was the job.
};

// The exit code of a process that trained with `stop` until `outcome`; kNone:
// until a signal came, which is how a run ends that has neither a target nor a
// bound.
int ExitCodeOf(Outcome outcome, const v1::StopConfig& stop);

// The choice in the config's AlgorithmConfig.kind: "dqn".
std::string AlgorithmName(const v1::Config& config);

class Run {
 public:
  // `metrics` must outlive the run.
  Run(const v1::Config& config, const std::string& run_dir, Metrics& metrics);

  // Makes the run directory and opens metrics.jsonl, to go on at its end.
  absl::Status Open();

  // Goes on from where this checkpoint's run was: its counts, its last
  // evaluation, and its time, that of what was lost since included. If the
  // evaluation reached the stop condition, or a bound was met, the outcome is
  // decided. Before the first Tick.
  void Resume(const v1::Checkpoint& checkpoint);

  // An evaluation came in. Ignored once the outcome is decided.
  void RecordEvaluation(const v1::EvaluationReport& report);

  // Counts, cheaply; `due` says whether it is time for Report.
  bool Tick(int64_t updates, const ReplayView& replay);

  // Why there is no batch, in words, as the sampler has it; empty: there is
  // one.
  void NoteWaiting(const std::string& why);

  // Writes a line of metrics.jsonl and sets the metrics.
  absl::Status Report(const TrainerAccount& account, const ReplayView& replay,
                      const ActorsView& actors, uint64_t policy_version,
                      const std::string& state);

  Outcome outcome() const;
  v1::RunReport Newest() const;
  // As of the last Tick.
  uint64_t env_steps() const;

  // All that a checkpoint holds of the algorithm and of the run, copied.
  // `newest` stands for the policy where none was evaluated.
  v1::Checkpoint MakeCheckpoint(Algorithm& algorithm,
                                const v1::Publication& newest,
                                const ReplayView& replay,
                                const ActorsView& actors) const;
  // For the status page; may outlive the run.
  std::shared_ptr<const RunStatus> status() const { return status_; }
  std::string checkpoint_directory() const { return run_dir_ + "/checkpoints"; }

  // "reached: mean return 487.6 over 20 episodes (target 475) after ...".
  std::string Summary() const;

 private:
  struct Exported;

  std::string LinesPath() const { return run_dir_ + "/metrics.jsonl"; }
  double WallSeconds() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  void CountEnvSteps(const ReplayView& replay)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void JudgeEvaluation() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CheckBounds() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ExportTotals(const v1::RunReport& report);
  void Export(const v1::RunReport& report, const ReplayView& replay);

  const v1::Config config_;
  const std::string run_dir_;
  const std::shared_ptr<Exported> exported_;
  const std::shared_ptr<RunStatus> status_;
  std::ofstream lines_;  // The loop's thread only.

  mutable absl::Mutex mutex_;
  // As if all the time of the lives before had been just before this one.
  absl::Time begun_ ABSL_GUARDED_BY(mutex_);
  Outcome outcome_ ABSL_GUARDED_BY(mutex_) = Outcome::kNone;
  v1::RunReport report_ ABSL_GUARDED_BY(mutex_);            // The newest.
  v1::EvaluationReport evaluated_ ABSL_GUARDED_BY(mutex_);  // The newest.
  int64_t updates_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t env_steps_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<uint64_t> shard_env_steps_ ABSL_GUARDED_BY(mutex_);  // Seen last.

  // The last report's of an earlier life. Constant after Open.
  double earlier_wall_seconds_ = 0;
  // Counted by samplers of earlier lives. Constant after Resume.
  uint64_t earlier_applied_ = 0;
  uint64_t earlier_stale_ = 0;

  // Of the report before, for rates. The loop's thread only.
  absl::Time reported_;
  uint64_t reported_env_steps_ = 0;
  int64_t reported_updates_ = 0;
  uint64_t reported_episodes_ = 0;
  double reported_return_sum_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_RUN_H_
