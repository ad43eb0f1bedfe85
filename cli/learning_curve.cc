#include "cli/learning_curve.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace qfleet {
namespace {

double Coordinate(const v1::Evaluation& evaluation, PlotX x) {
  switch (x) {
    case PlotX::kEnvSteps:
      return static_cast<double>(evaluation.env_steps());
    case PlotX::kUpdates:
      return static_cast<double>(evaluation.updates());
    case PlotX::kWallSeconds:
      break;
  }
  return evaluation.wall_seconds();
}

bool SameEvaluation(const v1::Evaluation& a, const v1::Evaluation& b) {
  return a.updates() == b.updates() && a.env_steps() == b.env_steps() &&
         a.wall_seconds() == b.wall_seconds();
}

// A step function's value at x, which is not before its first point.
double ValueAt(const std::vector<PlotPoint>& curve, double x) {
  auto after = std::upper_bound(
      curve.begin(), curve.end(), x,
      [](double value, const PlotPoint& point) { return value < point.x; });
  return std::prev(after)->y;
}

std::vector<double> Grid(absl::Span<const std::vector<PlotPoint>> curves,
                         int most) {
  double begin = -std::numeric_limits<double>::infinity();
  double end = begin;
  std::vector<double> grid;
  for (const std::vector<PlotPoint>& curve : curves) {
    begin = std::max(begin, curve.front().x);
    end = std::max(end, curve.back().x);
    for (const PlotPoint& point : curve) grid.push_back(point.x);
  }
  std::sort(grid.begin(), grid.end());
  grid.erase(std::unique(grid.begin(), grid.end()), grid.end());
  grid.erase(grid.begin(), std::lower_bound(grid.begin(), grid.end(), begin));
  if (grid.size() <= static_cast<size_t>(most)) return grid;
  grid.clear();
  for (int i = 0; i < most; ++i) {
    grid.push_back(std::lerp(begin, end, static_cast<double>(i) / (most - 1)));
  }
  return grid;
}

}  // namespace

std::vector<v1::Evaluation> Evaluations(
    absl::Span<const v1::RunReport> reports) {
  std::vector<v1::Evaluation> evaluations;
  for (const v1::RunReport& report : reports) {
    if (!report.has_evaluation()) continue;
    const v1::Evaluation& evaluation = report.evaluation();
    if (!evaluations.empty() &&
        SameEvaluation(evaluations.back(), evaluation)) {
      continue;
    }
    while (!evaluations.empty() &&
           evaluations.back().updates() > evaluation.updates()) {
      evaluations.pop_back();
    }
    // A run that goes on may begin by repeating what its checkpoint knew.
    if (!evaluations.empty() &&
        SameEvaluation(evaluations.back(), evaluation)) {
      continue;
    }
    evaluations.push_back(evaluation);
  }
  return evaluations;
}

std::vector<PlotPoint> LearningCurve(
    absl::Span<const v1::Evaluation> evaluations, PlotX x) {
  std::vector<PlotPoint> curve;
  for (const v1::Evaluation& evaluation : evaluations) {
    const PlotPoint point = {Coordinate(evaluation, x),
                             evaluation.mean_return()};
    if (std::isfinite(point.x) && std::isfinite(point.y)) {
      curve.push_back(point);
    }
  }
  std::stable_sort(
      curve.begin(), curve.end(),
      [](const PlotPoint& a, const PlotPoint& b) { return a.x < b.x; });
  return curve;
}

PlotCurve MedianCurve(const std::string& name,
                      absl::Span<const std::vector<PlotPoint>> curves,
                      int most) {
  PlotCurve median = {name, {}, {}};
  for (double x : Grid(curves, most)) {
    std::vector<double> values;
    for (const std::vector<PlotPoint>& curve : curves) {
      values.push_back(ValueAt(curve, x));
    }
    std::sort(values.begin(), values.end());
    const size_t half = values.size() / 2;
    const double middle = values.size() % 2 == 1
                              ? values[half]
                              : (values[half - 1] + values[half]) / 2;
    median.line.push_back({x, middle});
    median.band.push_back({x, values.front(), values.back()});
  }
  return median;
}

std::vector<std::string> ShortNames(absl::Span<const std::string> paths) {
  std::vector<std::vector<std::string>> parts;
  for (const std::string& path : paths) {
    parts.push_back(absl::StrSplit(path, '/', absl::SkipEmpty()));
  }
  auto last = [&](size_t path, size_t count) {
    const auto& all = parts[path];
    return absl::StrJoin(all.end() - std::min(count, all.size()), all.end(),
                         "/");
  };
  std::vector<std::string> names;
  for (size_t i = 0; i < paths.size(); ++i) {
    size_t count = 1;
    auto shared = [&] {
      for (size_t j = 0; j < paths.size(); ++j) {
        if (parts[j] != parts[i] && last(j, count) == last(i, count)) {
          return true;
        }
      }
      return false;
    };
    while (count < parts[i].size() && shared()) ++count;
    names.push_back(last(i, count));
  }
  return names;
}

std::vector<RunGroup> GroupByParent(absl::Span<const std::string> paths) {
  std::vector<std::string> parents;  // In the order of their first runs.
  std::map<std::string, std::vector<int>> members;
  for (size_t i = 0; i < paths.size(); ++i) {
    const std::string parent =
        std::filesystem::path(paths[i]).parent_path().string();
    std::vector<int>& indices = members[parent];
    if (indices.empty()) parents.push_back(parent);
    indices.push_back(static_cast<int>(i));
  }
  const std::vector<std::string> names = ShortNames(parents);
  std::vector<RunGroup> groups;
  for (size_t i = 0; i < parents.size(); ++i) {
    groups.push_back({names[i], members[parents[i]]});
  }
  return groups;
}

}  // namespace qfleet
