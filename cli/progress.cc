#include "cli/progress.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/chart.h"
#include "cli/format.h"

namespace qfleet {
namespace {

constexpr int kCurveWidth = 50;
constexpr int kCurveHeight = 8;
// Reports come a little early or late.
constexpr double kLineSeconds = 0.95;

std::string Target(const v1::StopConfig& stop) {
  if (!stop.has_mean_return()) return "";
  return absl::StrCat("target ", Short(stop.mean_return()));
}

// "  name       a           b           c"
std::string Row(const std::string& name, const std::string& a,
                const std::string& b, const std::string& c) {
  return absl::StrCat("  ", PadRight(name, 12), PadRight(a, 18),
                      PadRight(b, 18), c);
}

}  // namespace

std::string ReportLine(const v1::RunReport& report) {
  return absl::StrFormat(
      "%s  env steps %s (%s/s)  updates %s (%s/s)  replay %s items, %s  "
      "samples/insert %.2f  loss %s  mean Q %s  exploring return %.1f  "
      "weight age %.2f s",
      Seconds(report.wall_seconds()), WithCommas(report.env_steps()),
      WithCommas(report.env_steps_per_second(), 0),
      WithCommas(report.updates()), WithCommas(report.updates_per_second(), 0),
      WithCommas(report.replay_items()), Bytes(report.replay_bytes()),
      report.samples_per_insert(), Short(report.loss()), Short(report.mean_q()),
      report.exploring_return(), report.weight_age_seconds());
}

std::string EvaluationLine(const v1::Evaluation& evaluation,
                           const v1::StopConfig& stop) {
  const std::string target = Target(stop);
  return absl::StrFormat(
      "evaluation: mean return %.1f%s, min %.1f, max %.1f over %d episodes at "
      "%s env steps, %s updates",
      evaluation.mean_return(),
      target.empty() ? "" : absl::StrCat(" (", target, ")"),
      evaluation.min_return(), evaluation.max_return(), evaluation.episodes(),
      WithCommas(evaluation.env_steps()), WithCommas(evaluation.updates()));
}

Progress::Progress(std::string name, const v1::Config& config)
    : name_(std::move(name)),
      config_(config),
      last_line_seconds_(-std::numeric_limits<double>::infinity()) {
  last_.set_state("starting");
}

std::vector<std::string> Progress::Add(const v1::RunReport& report) {
  std::vector<std::string> lines;
  last_ = report;
  if (report.wall_seconds() - last_line_seconds_ >= kLineSeconds) {
    last_line_seconds_ = report.wall_seconds();
    lines.push_back(ReportLine(report));
  }
  if (report.has_evaluation() &&
      (evaluations_.empty() || evaluations_.back().policy_version() !=
                                   report.evaluation().policy_version())) {
    evaluations_.push_back(report.evaluation());
    lines.push_back(EvaluationLine(report.evaluation(), config_.stop()));
  }
  return lines;
}

std::string Progress::EvaluationText() const {
  if (evaluations_.empty()) return "none yet";
  const v1::Evaluation& last = evaluations_.back();
  return absl::StrFormat("mean %.1f  min %.1f  max %.1f  at %s env steps",
                         last.mean_return(), last.min_return(),
                         last.max_return(), WithCommas(last.env_steps()));
}

std::vector<std::string> Progress::Curve(int width) const {
  std::vector<ChartPoint> points;
  for (const v1::Evaluation& evaluation : evaluations_) {
    points.push_back({static_cast<double>(evaluation.env_steps()),
                      evaluation.mean_return()});
  }
  // Labels and axis need about a dozen columns.
  return Chart(points, config_.stop().mean_return(), "env steps",
               std::min(kCurveWidth, width - 12), kCurveHeight);
}

std::vector<std::string> Progress::Display(double elapsed_seconds,
                                           int width) const {
  const v1::RunReport& r = last_;
  const double spi = config_.replay().samples_per_insert();
  const std::string target = Target(config_.stop());
  std::vector<std::string> lines = {
      absl::StrCat(name_, "  ", r.state(), "  ", Seconds(elapsed_seconds)),
      Row("env steps", WithCommas(r.env_steps()),
          absl::StrCat(WithCommas(r.env_steps_per_second(), 0), "/s"),
          absl::StrCat(r.actors(), " actors, exploring return ",
                       Short(r.exploring_return()))),
      Row("updates", WithCommas(r.updates()),
          absl::StrCat(WithCommas(r.updates_per_second(), 0), "/s"),
          absl::StrCat("policy ", WithCommas(r.policy_version()), ", ",
                       absl::StrFormat("%.2f", r.weight_age_seconds()),
                       " s old on the actors")),
      Row("replay", absl::StrCat(WithCommas(r.replay_items()), " items"),
          Bytes(r.replay_bytes()),
          absl::StrCat(
              absl::StrFormat("%.2f", r.samples_per_insert()),
              " samples per insert",
              spi > 0 ? absl::StrCat(" (target ", Short(spi), ")") : "")),
      Row("learner", absl::StrCat("loss ", Short(r.loss())),
          absl::StrCat("mean Q ", Short(r.mean_q())),
          absl::StrFormat("updating %.0f%%, waiting for replay %.0f%%",
                          100 * r.share_updating(),
                          100 * r.share_waiting_for_replay())),
      absl::StrCat("  ", PadRight("evaluation", 12), EvaluationText(),
                   target.empty() ? "" : absl::StrCat("  (", target, ")")),
  };
  for (const std::string& line : Curve(width)) {
    lines.push_back(absl::StrCat("  ", line));
  }
  for (std::string& line : lines) line = CutToWidth(line, width);
  return lines;
}

std::string Progress::Summary(bool reached) const {
  const bool aimed = config_.stop().has_mean_return();
  std::string text = !aimed    ? "finished:"
                     : reached ? "reached:"
                               : "not reached:";
  if (evaluations_.empty()) {
    absl::StrAppend(&text, " no evaluation");
  } else {
    const v1::Evaluation& last = evaluations_.back();
    absl::StrAppendFormat(&text, " mean return %.1f over %d episodes",
                          last.mean_return(), last.episodes());
  }
  if (aimed) absl::StrAppend(&text, " (", Target(config_.stop()), ")");
  absl::StrAppend(&text, " after ", WithCommas(last_.env_steps()),
                  " env steps, ", WithCommas(last_.updates()), " updates, ",
                  Seconds(last_.wall_seconds()));
  return text;
}

}  // namespace qfleet
