// A run for its status page: what it is, where it stands, and how it came
// there, in bounded memory.
//
// Thread-safe: the learner's loop and service feed it, the status server's
// threads read it and may do so after the run is gone.

#ifndef QFLEET_LEARNER_RUN_STATUS_H_
#define QFLEET_LEARNER_RUN_STATUS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "nlohmann/json.hpp"
#include "qfleet/v1/config.pb.h"
#include "qfleet/v1/weights.pb.h"
#include "replay_client/sampler.h"

namespace qfleet {

// Rows of numbers in the order of time, of which at most `max_rows` + 1 are
// kept, evenly: every one, then every second, every fourth, and the newest.
// Thread-compatible.
class ThinnedSeries {
 public:
  explicit ThinnedSeries(std::vector<std::string> columns,
                         size_t max_rows = 400);

  // One number a column. Kept to six digits.
  void Add(std::vector<double> row);

  // {"column": [numbers], ...}; what is not finite is null.
  nlohmann::ordered_json ToJson() const;

  size_t rows() const { return rows_.size() + (newest_.has_value() ? 1 : 0); }

 private:
  const std::vector<std::string> columns_;
  const size_t max_rows_;
  uint64_t added_ = 0;
  uint64_t stride_ = 1;
  std::vector<std::vector<double>> rows_;
  // If it is not the last of rows_.
  std::optional<std::vector<double>> newest_;
};

// Who waits for whom, as the rate limiter over the cluster has it: from -1, the
// learner waits for inserts, to 1, the actors wait for samples; beyond, samples
// per insert are out of their band. 0 in the middle, and where they are not
// limited.
double LimiterBalance(const v1::RateLimiter& limiter, const ReplayView& replay);

class RunStatus {
 public:
  // `name`: for people, the run directory's.
  RunStatus(const v1::Config& config, const std::string& name);

  // What the lines of an earlier life say, up to `env_steps`, where this one
  // begins; a file that is not there says nothing.
  void Restore(const std::string& metrics_jsonl, uint64_t env_steps);

  void Add(const v1::Evaluation& evaluation);
  void Add(const v1::RunReport& report, const ReplayView& replay);

  // Why the learner has no batch, in words; empty: it has.
  void SetWaiting(const std::string& why);
  // How the run ended, in words.
  void SetSummary(const std::string& summary);

  // Adds the member "run".
  void AddTo(nlohmann::ordered_json& json) const;

 private:
  void AddEvaluation(const v1::Evaluation& evaluation)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddHistory(const v1::RunReport& report)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const nlohmann::ordered_json config_;
  const v1::RateLimiter limiter_;

  mutable absl::Mutex mutex_;
  v1::RunReport report_ ABSL_GUARDED_BY(mutex_);
  ReplayView replay_ ABSL_GUARDED_BY(mutex_);
  std::string waiting_ ABSL_GUARDED_BY(mutex_);
  std::string summary_ ABSL_GUARDED_BY(mutex_);
  ThinnedSeries evaluations_ ABSL_GUARDED_BY(mutex_);
  ThinnedSeries history_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_RUN_STATUS_H_
