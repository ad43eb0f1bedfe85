#include "learner/run_status.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/numbers.h"
#include "common/proto_json.h"

namespace qfleet {
namespace {

using Json = nlohmann::ordered_json;

// More of an earlier life is not read: most of a day.
constexpr std::streamoff kMaxLines = 32 << 20;

double SixDigits(double value) {
  double rounded = value;
  if (std::isfinite(value)) {
    (void)absl::SimpleAtod(absl::StrFormat("%.6g", value), &rounded);
  }
  return rounded;
}

Json Number(double value) {
  if (!std::isfinite(value)) return nullptr;
  if (value == std::floor(value) && std::abs(value) < 9e15) {
    return static_cast<int64_t>(value);
  }
  return value;
}

// "0" of an optional bound is none.
Json Bound(double value) { return value > 0 ? Number(value) : Json(); }

std::string ChoiceIn(const google::protobuf::Message& message) {
  const auto* descriptor = message.GetDescriptor();
  if (descriptor->oneof_decl_count() == 0) return "";
  const auto* choice = message.GetReflection()->GetOneofFieldDescriptor(
      message, descriptor->oneof_decl(0));
  return choice == nullptr ? "" : choice->name();
}

// What it is called: an id, or of what kind it is.
std::string EnvironmentName(const v1::EnvironmentConfig& environment) {
  if (!environment.id().empty()) return environment.id();
  if (environment.has_gymnasium()) return environment.gymnasium().id();
  return ChoiceIn(environment);
}

Json ConfigJson(const v1::Config& config, const std::string& name) {
  const v1::StopConfig& stop = config.stop();
  const v1::TableSpec& table = config.replay().table();
  const double shards = std::max(1, config.replay().shards());
  return {
      {"name", name},
      {"environment", EnvironmentName(config.environment())},
      {"algorithm", ChoiceIn(config.algorithm())},
      {"seed", config.seed()},
      {"target_return",
       stop.has_mean_return() ? Number(stop.mean_return()) : Json()},
      {"max_env_steps", Bound(static_cast<double>(stop.max_env_steps()))},
      {"max_updates", Bound(static_cast<double>(stop.max_updates()))},
      {"max_seconds", Bound(static_cast<double>(stop.max_seconds()))},
      {"samples_per_insert", table.rate_limiter().samples_per_insert()},
      {"min_items", table.rate_limiter().min_size()},
      {"max_items", Number(shards * static_cast<double>(table.max_items()))},
      {"max_bytes", Number(shards * static_cast<double>(table.max_bytes()))},
      {"batch_size", config.learner().batch_size()},
      {"shards", config.replay().shards()},
      {"actors", config.actors().count()},
  };
}

double Field(const nlohmann::json& json, const char* name) {
  const auto field = json.find(name);
  return field != json.end() && field->is_number() ? field->get<double>() : 0;
}

v1::Evaluation EvaluationOf(const nlohmann::json& json) {
  v1::Evaluation evaluation;
  evaluation.set_policy_version(
      static_cast<uint64_t>(Field(json, "policy_version")));
  evaluation.set_updates(static_cast<uint64_t>(Field(json, "updates")));
  evaluation.set_env_steps(static_cast<uint64_t>(Field(json, "env_steps")));
  evaluation.set_wall_seconds(Field(json, "wall_seconds"));
  evaluation.set_mean_return(Field(json, "mean_return"));
  evaluation.set_min_return(Field(json, "min_return"));
  evaluation.set_max_return(Field(json, "max_return"));
  return evaluation;
}

v1::RunReport ReportOf(const nlohmann::json& json) {
  v1::RunReport report;
  report.set_wall_seconds(Field(json, "wall_seconds"));
  report.set_env_steps(static_cast<uint64_t>(Field(json, "env_steps")));
  report.set_env_steps_per_second(Field(json, "env_steps_per_second"));
  report.set_updates_per_second(Field(json, "updates_per_second"));
  report.set_share_waiting_for_replay(
      Field(json, "share_waiting_for_replay"));
  report.set_exploring_return(Field(json, "exploring_return"));
  return report;
}

}  // namespace

ThinnedSeries::ThinnedSeries(std::vector<std::string> columns, size_t max_rows)
    : columns_(std::move(columns)), max_rows_(max_rows) {}

void ThinnedSeries::Add(std::vector<double> row) {
  for (double& value : row) value = SixDigits(value);
  newest_.reset();
  if (added_++ % stride_ != 0) {
    newest_ = std::move(row);
    return;
  }
  rows_.push_back(std::move(row));
  if (rows_.size() <= max_rows_) return;
  // The last one may not be among those that stay.
  if (rows_.size() % 2 == 0) newest_ = rows_.back();
  for (size_t i = 1; 2 * i < rows_.size(); ++i) {
    rows_[i] = std::move(rows_[2 * i]);
  }
  rows_.resize((rows_.size() + 1) / 2);
  stride_ *= 2;
}

Json ThinnedSeries::ToJson() const {
  Json json = Json::object();
  for (size_t c = 0; c < columns_.size(); ++c) {
    Json values = Json::array();
    for (const std::vector<double>& row : rows_) {
      values.push_back(Number(row[c]));
    }
    if (newest_.has_value()) values.push_back(Number((*newest_)[c]));
    json[columns_[c]] = std::move(values);
  }
  return json;
}

double LimiterBalance(const v1::RateLimiter& limiter,
                      const ReplayView& replay) {
  if (replay.size < limiter.min_size()) return -1;
  const double ratio = limiter.samples_per_insert();
  if (ratio <= 0 || limiter.tolerance() <= 0) return 0;
  const double difference =
      ratio * (static_cast<double>(replay.inserted) -
               static_cast<double>(limiter.min_size())) -
      static_cast<double>(replay.sampled);
  return difference / limiter.tolerance();
}

RunStatus::RunStatus(const v1::Config& config, const std::string& name)
    : config_(ConfigJson(config, name)),
      limiter_(config.replay().table().rate_limiter()),
      evaluations_({"env_steps", "updates", "wall_seconds", "mean_return",
                    "min_return", "max_return"}),
      history_({"wall_seconds", "env_steps", "env_steps_per_second",
                "updates_per_second", "share_waiting_for_replay",
                "exploring_return"}) {
  report_.set_state("starting");
}

void RunStatus::Restore(const std::string& metrics_jsonl, uint64_t env_steps) {
  std::ifstream file(metrics_jsonl, std::ios::binary | std::ios::ate);
  if (!file) return;
  const std::streamoff begin =
      std::max<std::streamoff>(0, file.tellg() - kMaxLines);
  file.seekg(begin);
  std::string line;
  if (begin > 0) std::getline(file, line);  // The rest of one.
  uint64_t evaluated = 0;                   // Policy version.
  absl::MutexLock lock(&mutex_);
  while (std::getline(file, line)) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object()) continue;
    const v1::RunReport report = ReportOf(json);
    if (report.env_steps() > env_steps) continue;
    AddHistory(report);
    const auto last = json.find("evaluation");
    if (last == json.end() || !last->is_object()) continue;
    const v1::Evaluation evaluation = EvaluationOf(*last);
    if (evaluation.policy_version() == evaluated) continue;
    evaluated = evaluation.policy_version();
    AddEvaluation(evaluation);
  }
}

void RunStatus::AddEvaluation(const v1::Evaluation& evaluation) {
  evaluations_.Add({static_cast<double>(evaluation.env_steps()),
                    static_cast<double>(evaluation.updates()),
                    evaluation.wall_seconds(), evaluation.mean_return(),
                    evaluation.min_return(), evaluation.max_return()});
}

void RunStatus::AddHistory(const v1::RunReport& report) {
  history_.Add({report.wall_seconds(),
                static_cast<double>(report.env_steps()),
                report.env_steps_per_second(), report.updates_per_second(),
                report.share_waiting_for_replay(), report.exploring_return()});
}

void RunStatus::Add(const v1::Evaluation& evaluation) {
  absl::MutexLock lock(&mutex_);
  AddEvaluation(evaluation);
  *report_.mutable_evaluation() = evaluation;
}

void RunStatus::Add(const v1::RunReport& report, const ReplayView& replay) {
  absl::MutexLock lock(&mutex_);
  AddHistory(report);
  report_ = report;
  replay_ = replay;
}

void RunStatus::SetWaiting(const std::string& why) {
  absl::MutexLock lock(&mutex_);
  waiting_ = why;
}

void RunStatus::SetSummary(const std::string& summary) {
  absl::MutexLock lock(&mutex_);
  summary_ = summary;
}

void RunStatus::AddTo(Json& json) const {
  absl::MutexLock lock(&mutex_);
  json["run"] = {
      {"config", config_},
      {"report", ToJson(report_)},
      {"inserted", replay_.inserted},
      {"sampled", replay_.sampled},
      {"limiter_balance", LimiterBalance(limiter_, replay_)},
      {"waiting", waiting_},
      {"summary", summary_},
      {"evaluations", evaluations_.ToJson()},
      {"history", history_.ToJson()},
  };
}

}  // namespace qfleet
