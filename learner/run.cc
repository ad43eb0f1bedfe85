#include "learner/run.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/files.h"
#include "common/process.h"
#include "common/process_metrics.h"
#include "common/proto_json.h"
#include "common/status_macros.h"
#include "config/config.h"
#include "nlohmann/json.hpp"

namespace qfleet {

namespace {

// Of each shard; of a view without that, of all as one.
std::vector<uint64_t> EnvStepsOf(const ReplayView& replay) {
  if (!replay.shard_env_steps.empty()) return replay.shard_env_steps;
  return {EnvSteps(replay.steps, replay.episodes)};
}

// How an earlier life left metrics.jsonl.
struct LinesBefore {
  bool torn = false;  // It was killed while it wrote the last line.
  double wall_seconds = 0;
};

LinesBefore ReadLinesBefore(const std::string& path) {
  constexpr std::streamoff kTail = 65536;
  LinesBefore before;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return before;
  file.seekg(std::max<std::streamoff>(0, file.tellg() - kTail));
  for (std::string line; std::getline(file, line);) {
    before.torn = file.eof();
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object()) continue;
    const auto seconds = json.find("wall_seconds");
    if (seconds == json.end() || !seconds->is_number()) continue;
    before.wall_seconds = seconds->get<double>();
  }
  return before;
}

}  // namespace

int ExitCodeOf(Outcome outcome, const v1::StopConfig& stop) {
  switch (outcome) {
    case Outcome::kReached:
    case Outcome::kBounded:
      return kExitReached;
    case Outcome::kNotReached:
      return kExitNotReached;
    case Outcome::kNone:
      break;
  }
  const bool ends = stop.has_mean_return() || stop.max_env_steps() > 0 ||
                    stop.max_updates() > 0 || stop.max_seconds() > 0;
  return ends ? kExitStopped : kExitReached;
}

std::string AlgorithmName(const v1::Config& config) {
  const v1::AlgorithmConfig& algorithm = config.algorithm();
  const auto* kind = algorithm.GetDescriptor()->FindOneofByName("kind");
  const auto* choice =
      algorithm.GetReflection()->GetOneofFieldDescriptor(algorithm, kind);
  return choice == nullptr ? "" : choice->name();
}

struct Run::Exported {
  explicit Exported(Metrics& metrics)
      : updates(metrics.Counter("qfleet_learner_updates_total",
                                "Optimizer steps.")),
        env_steps(metrics.Counter("qfleet_learner_env_steps_total",
                                  "Environment steps stored in the replay.")),
        episodes(metrics.Counter("qfleet_learner_episodes_total",
                                 "Episodes that actors ended.")),
        loss(metrics.Gauge("qfleet_learner_loss",
                           "Mean loss since the report before.")),
        mean_q(metrics.Gauge("qfleet_learner_mean_q",
                             "Mean value of the greedy actions.")),
        gradient_norm(metrics.Gauge("qfleet_learner_gradient_norm",
                                    "Mean global norm before clipping.")),
        version(metrics.Gauge("qfleet_learner_policy_version",
                              "Newest published policy version.")),
        samples_per_insert(
            metrics.Gauge("qfleet_learner_samples_per_insert_ratio",
                          "Items sampled over items inserted, so far.")),
        evaluation_return(
            metrics.Gauge("qfleet_learner_evaluation_mean_return",
                          "Mean return of the last greedy evaluation.")),
        evaluation_time(
            metrics.Gauge("qfleet_learner_last_evaluation_timestamp_seconds",
                          "When the last evaluation was recorded, Unix time.")),
        waiting(metrics.Gauge(
            "qfleet_learner_replay_wait_ratio",
            "Share of the learner's time spent waiting for the replay.")),
        updating(metrics.Gauge("qfleet_learner_update_ratio",
                               "Share of the learner's time in updates.")),
        copying(metrics.Gauge(
            "qfleet_learner_copy_ratio",
            "Share of the learner's time making tensors of batches.")),
        priorities(metrics.Gauge(
            "qfleet_learner_priority_ratio",
            "Share of the learner's time handing on priorities.")),
        publishing(metrics.Gauge("qfleet_learner_publish_ratio",
                                 "Share of the learner's time publishing "
                                 "weights and copying for checkpoints.")),
        skipped(metrics.Counter(
            "qfleet_learner_updates_skipped_total",
            "Updates left out because loss or gradient was not finite.")),
        policy_age(
            metrics.Gauge("qfleet_learner_actor_policy_age_seconds",
                          "Age of the oldest policy that an actor acts with.")),
        actors(metrics.Gauge("qfleet_learner_actors_connected",
                             "Actors that follow the weights.")),
        all_actors(metrics.Gauge("qfleet_learner_actors",
                                 "Actors that the config has.")),
        balance(metrics.Gauge(
            "qfleet_learner_limiter_balance_ratio",
            "Who waits by the rate limiter: -1 the learner, for inserts; 1 "
            "the actors, for samples; beyond, it is out of its band.")),
        update_time(metrics.Gauge(
            "qfleet_learner_last_update_timestamp_seconds",
            "When a report last had new updates, or the start, Unix time.")) {}

  prometheus::Counter& updates;
  prometheus::Counter& env_steps;
  prometheus::Counter& episodes;
  prometheus::Gauge& loss;
  prometheus::Gauge& mean_q;
  prometheus::Gauge& gradient_norm;
  prometheus::Gauge& version;
  prometheus::Gauge& samples_per_insert;
  prometheus::Gauge& evaluation_return;
  prometheus::Gauge& evaluation_time;
  prometheus::Gauge& waiting;
  prometheus::Gauge& updating;
  prometheus::Gauge& copying;
  prometheus::Gauge& priorities;
  prometheus::Gauge& publishing;
  prometheus::Counter& skipped;
  prometheus::Gauge& policy_age;
  prometheus::Gauge& actors;
  prometheus::Gauge& all_actors;
  prometheus::Gauge& balance;
  prometheus::Gauge& update_time;
};

Run::Run(const v1::Config& config, const std::string& run_dir, Metrics& metrics)
    : config_(config),
      run_dir_(run_dir),
      exported_(std::make_shared<Exported>(metrics)),
      status_(std::make_shared<RunStatus>(
          config, std::filesystem::path(run_dir).filename().string())),
      begun_(absl::Now()),
      reported_(begun_) {
  report_.set_state("starting");
  exported_->update_time.SetToCurrentTime();  // It stalls from now on.
  exported_->all_actors.Set(config.actors().count());
  AddDiskMetrics(metrics, "learner", run_dir);
}

absl::Status Run::Open() {
  QFLEET_RETURN_IF_ERROR(MakeWritableDirectory(run_dir_));
  QFLEET_RETURN_IF_ERROR(
      MakeWritableDirectory(absl::StrCat(run_dir_, "/checkpoints")));
  const std::string path = LinesPath();
  const LinesBefore before = ReadLinesBefore(path);
  earlier_wall_seconds_ = before.wall_seconds;
  lines_.open(path, std::ios::app);
  if (!lines_) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot write to ", path));
  }
  if (before.torn) lines_ << std::endl;
  return absl::OkStatus();
}

void Run::Resume(const v1::Checkpoint& checkpoint) {
  status_->Restore(LinesPath(), checkpoint.env_steps());
  absl::MutexLock lock(&mutex_);
  // What came after the checkpoint is to be learned again, but took its time.
  const double seconds =
      std::max(checkpoint.wall_seconds(), earlier_wall_seconds_);
  begun_ = absl::Now() - absl::Seconds(seconds);
  updates_ = static_cast<int64_t>(checkpoint.updates());
  env_steps_ = checkpoint.env_steps();
  shard_env_steps_.assign(checkpoint.shard_env_steps().begin(),
                          checkpoint.shard_env_steps().end());
  earlier_applied_ = checkpoint.priorities_applied();
  earlier_stale_ = checkpoint.priorities_stale();
  reported_env_steps_ = env_steps_;
  reported_updates_ = updates_;
  reported_episodes_ = checkpoint.episodes();
  reported_return_sum_ = checkpoint.return_sum();
  if (checkpoint.evaluation().episodes() > 0) {
    *evaluated_.mutable_policy() = checkpoint.policy();
    *evaluated_.mutable_evaluation() = checkpoint.evaluation();
    JudgeEvaluation();
  }
  report_.set_wall_seconds(seconds);
  report_.set_env_steps(env_steps_);
  report_.set_updates(checkpoint.updates());
  report_.set_episodes(checkpoint.episodes());
  // Who scrapes before the first report shall not see a life's work as an
  // hour's.
  ExportTotals(report_);
  CheckBounds();
}

double Run::WallSeconds() const {
  return absl::ToDoubleSeconds(absl::Now() - begun_);
}

void Run::RecordEvaluation(const v1::EvaluationReport& report) {
  absl::MutexLock lock(&mutex_);
  if (outcome_ != Outcome::kNone) return;
  evaluated_ = report;
  v1::Evaluation& evaluation = *evaluated_.mutable_evaluation();
  evaluation.set_env_steps(env_steps_);
  evaluation.set_wall_seconds(WallSeconds());
  exported_->evaluation_time.SetToCurrentTime();
  status_->Add(evaluation);
  JudgeEvaluation();
}

void Run::JudgeEvaluation() {
  const v1::Evaluation& evaluation = evaluated_.evaluation();
  *report_.mutable_evaluation() = evaluation;
  exported_->evaluation_return.Set(evaluation.mean_return());
  if (config_.stop().has_mean_return() &&
      evaluation.mean_return() >= config_.stop().mean_return()) {
    outcome_ = Outcome::kReached;
  }
}

bool Run::Tick(int64_t updates, const ReplayView& replay) {
  absl::MutexLock lock(&mutex_);
  updates_ = updates;
  CountEnvSteps(replay);
  CheckBounds();
  return absl::Now() - reported_ >=
         absl::Seconds(config_.learner().report_seconds());
}

void Run::CountEnvSteps(const ReplayView& replay) {
  // A shard that was not seen yet may hold steps that were counted already, in
  // an earlier life of ours. Lives of the shards are the sampler's matter.
  const std::vector<uint64_t> seen = EnvStepsOf(replay);
  if (shard_env_steps_.size() < seen.size()) {
    shard_env_steps_.resize(seen.size());
  }
  for (size_t s = 0; s < seen.size(); ++s) {
    if (seen[s] == 0) continue;
    if (seen[s] > shard_env_steps_[s]) {
      env_steps_ += seen[s] - shard_env_steps_[s];
    }
    shard_env_steps_[s] = seen[s];
  }
}

void Run::CheckBounds() {
  if (outcome_ != Outcome::kNone) return;
  const v1::StopConfig& stop = config_.stop();
  const bool bound =
      (stop.max_env_steps() > 0 &&
       env_steps_ >= static_cast<uint64_t>(stop.max_env_steps())) ||
      (stop.max_updates() > 0 && updates_ >= stop.max_updates()) ||
      (stop.max_seconds() > 0 && WallSeconds() >= stop.max_seconds());
  if (!bound) return;
  outcome_ = stop.has_mean_return() ? Outcome::kNotReached : Outcome::kBounded;
}

absl::Status Run::Report(const TrainerAccount& account,
                         const ReplayView& replay, const ActorsView& actors,
                         uint64_t policy_version, const std::string& state) {
  const absl::Time now = absl::Now();
  const double seconds = std::max(1e-9, absl::ToDoubleSeconds(now - reported_));
  v1::RunReport report;
  {
    absl::MutexLock lock(&mutex_);
    report.set_wall_seconds(WallSeconds());
    report.set_env_steps(env_steps_);
    report.set_updates(updates_);
    if (evaluated_.has_evaluation()) {
      *report.mutable_evaluation() = evaluated_.evaluation();
    }
  }
  report.set_state(state);
  report.set_policy_version(policy_version);
  report.set_episodes(actors.episodes);
  report.set_env_steps_per_second(
      static_cast<double>(report.env_steps() - reported_env_steps_) / seconds);
  report.set_updates_per_second(
      static_cast<double>(report.updates() - reported_updates_) / seconds);
  report.set_replay_items(replay.size);
  report.set_replay_bytes(replay.bytes);
  if (replay.inserted > 0) {
    report.set_samples_per_insert(static_cast<double>(replay.sampled) /
                                  static_cast<double>(replay.inserted));
  }
  if (account.updates > 0) {
    const double n = static_cast<double>(account.updates);
    report.set_loss(account.loss / n);
    report.set_mean_q(account.mean_q / n);
    report.set_gradient_norm(account.gradient_norm / n);
  }
  const uint64_t episodes = actors.episodes - reported_episodes_;
  report.set_exploring_return(
      episodes > 0 ? (actors.return_sum - reported_return_sum_) / episodes
                   : Newest().exploring_return());
  report.set_weight_age_seconds(actors.oldest_policy_seconds);
  report.set_actors(actors.connected);
  report.set_shards(replay.shards);
  report.set_priorities_applied(earlier_applied_ + replay.priorities_applied);
  report.set_priorities_stale(earlier_stale_ + replay.priorities_stale);
  report.set_share_waiting_for_replay(
      std::min(1.0, account.wait_seconds / seconds));
  report.set_share_updating(std::min(1.0, account.update_seconds / seconds));
  report.set_share_copying(std::min(1.0, account.copy_seconds / seconds));
  report.set_share_priorities(
      std::min(1.0, account.priority_seconds / seconds));
  report.set_share_publishing(std::min(1.0, account.publish_seconds / seconds));
  report.set_updates_skipped(Newest().updates_skipped() + account.skipped);

  if (report.updates() > static_cast<uint64_t>(reported_updates_)) {
    exported_->update_time.SetToCurrentTime();
  }
  reported_ = now;
  reported_env_steps_ = report.env_steps();
  reported_updates_ = report.updates();
  reported_episodes_ = actors.episodes;
  reported_return_sum_ = actors.return_sum;
  Export(report, replay);
  status_->Add(report, replay);
  lines_ << ToJson(report).dump() << std::endl;
  const bool written = lines_.good();
  absl::MutexLock lock(&mutex_);
  report_ = std::move(report);
  if (!written) {
    return absl::DataLossError(
        absl::StrCat("cannot write to ", run_dir_, "/metrics.jsonl"));
  }
  return absl::OkStatus();
}

void Run::NoteWaiting(const std::string& why) { status_->SetWaiting(why); }

void Run::ExportTotals(const v1::RunReport& report) {
  const auto raise = [](uint64_t total, prometheus::Counter& counter) {
    RaiseTo(static_cast<double>(total), counter);
  };
  raise(report.updates(), exported_->updates);
  raise(report.env_steps(), exported_->env_steps);
  raise(report.episodes(), exported_->episodes);
  raise(report.updates_skipped(), exported_->skipped);
}

void Run::Export(const v1::RunReport& report, const ReplayView& replay) {
  ExportTotals(report);
  exported_->loss.Set(report.loss());
  exported_->mean_q.Set(report.mean_q());
  exported_->gradient_norm.Set(report.gradient_norm());
  exported_->version.Set(static_cast<double>(report.policy_version()));
  exported_->samples_per_insert.Set(report.samples_per_insert());
  exported_->waiting.Set(report.share_waiting_for_replay());
  exported_->updating.Set(report.share_updating());
  exported_->copying.Set(report.share_copying());
  exported_->priorities.Set(report.share_priorities());
  exported_->publishing.Set(report.share_publishing());
  exported_->balance.Set(
      LimiterBalance(config_.replay().table().rate_limiter(), replay));
  exported_->policy_age.Set(report.weight_age_seconds());
  exported_->actors.Set(report.actors());
}

Outcome Run::outcome() const {
  absl::MutexLock lock(&mutex_);
  return outcome_;
}

uint64_t Run::env_steps() const {
  absl::MutexLock lock(&mutex_);
  return env_steps_;
}

v1::RunReport Run::Newest() const {
  absl::MutexLock lock(&mutex_);
  return report_;
}

v1::Checkpoint Run::MakeCheckpoint(Algorithm& algorithm,
                                   const v1::Publication& newest,
                                   const ReplayView& replay,
                                   const ActorsView& actors) const {
  v1::Checkpoint checkpoint;
  checkpoint.set_config(ConfigText(config_));
  checkpoint.set_network(algorithm.network().signature());
  checkpoint.set_algorithm_name(AlgorithmName(config_));
  for (const ParameterSpec& parameter : algorithm.network().parameters()) {
    v1::ParameterLayout& layout = *checkpoint.add_parameters();
    layout.set_name(parameter.name);
    layout.mutable_shape()->Assign(parameter.shape.begin(),
                                   parameter.shape.end());
    layout.set_offset(parameter.offset);
  }
  for (v1::NamedTensor& tensor : algorithm.Save()) {
    *checkpoint.add_algorithm() = std::move(tensor);
  }
  checkpoint.set_updates(algorithm.updates());  // Exact after Save.
  *checkpoint.mutable_published() = newest;
  checkpoint.set_episodes(actors.episodes);
  checkpoint.set_return_sum(actors.return_sum);
  checkpoint.set_priorities_applied(earlier_applied_ +
                                    replay.priorities_applied);
  checkpoint.set_priorities_stale(earlier_stale_ + replay.priorities_stale);
  absl::MutexLock lock(&mutex_);
  checkpoint.set_env_steps(env_steps_);
  checkpoint.mutable_shard_env_steps()->Assign(shard_env_steps_.begin(),
                                               shard_env_steps_.end());
  checkpoint.set_wall_seconds(WallSeconds());
  if (evaluated_.has_policy()) {
    *checkpoint.mutable_policy() = evaluated_.policy();
    *checkpoint.mutable_evaluation() = evaluated_.evaluation();
  } else {
    *checkpoint.mutable_policy() = newest;
  }
  return checkpoint;
}

std::string Run::Summary() const {
  absl::MutexLock lock(&mutex_);
  std::string text;
  switch (outcome_) {
    case Outcome::kReached:
      text = "reached";
      break;
    case Outcome::kNotReached:
      text = "not reached";
      break;
    case Outcome::kBounded:
      text = "ended at its bound";
      break;
    case Outcome::kNone:
      text = "stopped";
      break;
  }
  if (evaluated_.has_evaluation()) {
    absl::StrAppendFormat(&text, ": mean return %.1f over %d episodes",
                          evaluated_.evaluation().mean_return(),
                          evaluated_.evaluation().episodes());
  } else {
    absl::StrAppend(&text, ": not evaluated yet");
  }
  if (config_.stop().has_mean_return()) {
    absl::StrAppendFormat(&text, " (target %g)", config_.stop().mean_return());
  }
  absl::StrAppendFormat(&text, " after %d env steps, %d updates, %.1f s",
                        env_steps_, updates_, WallSeconds());
  status_->SetSummary(text);
  return text;
}

}  // namespace qfleet
