// qfleet plot: learning curves of runs as an SVG.

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/learning_curve.h"
#include "cli/report_reader.h"
#include "cli/svg_plot.h"
#include "common/files.h"
#include "common/process.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

namespace fs = std::filesystem;

// Of a group's common grid: more than a screen shows.
constexpr int kGridPoints = 500;

struct PlotFlags {
  std::vector<std::string> run_dirs;
  std::string output = "plot.svg";
  std::string x = "env_steps";
  std::string title;
  bool group = false;
};

struct XChoice {
  std::string name;  // As in --x.
  PlotX x;
  std::string label;
};

absl::StatusOr<XChoice> ParseX(const std::string& name) {
  const XChoice choices[] = {
      {"env_steps", PlotX::kEnvSteps, "environment steps"},
      {"updates", PlotX::kUpdates, "updates"},
      {"wall_seconds", PlotX::kWallSeconds, "wall time, seconds"}};
  for (const XChoice& choice : choices) {
    if (choice.name == name) return choice;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--x = \"", name, "\": allowed is env_steps, updates, wall_seconds"));
}

absl::StatusOr<std::vector<PlotPoint>> ReadCurve(const std::string& run_dir,
                                                 PlotX x) {
  const std::string path = run_dir + "/metrics.jsonl";
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) {
    return absl::InvalidArgumentError(
        absl::StrCat("RUN_DIR = \"", run_dir,
                     "\" holds no metrics.jsonl: allowed is the folder of a "
                     "run"));
  }
  std::vector<PlotPoint> curve =
      LearningCurve(Evaluations(ReportReader(path).Poll()), x);
  if (curve.empty()) {
    return absl::NotFoundError(
        absl::StrCat(path,
                     " holds no evaluation yet: a run evaluates every "
                     "evaluation.period_updates updates"));
  }
  return curve;
}

// Absolute and without a slash at the end, each once.
absl::StatusOr<std::vector<std::string>> NormalPaths(
    const std::vector<std::string>& run_dirs) {
  std::vector<std::string> paths;
  for (const std::string& run_dir : run_dirs) {
    std::string path = fs::absolute(run_dir).lexically_normal().string();
    if (path.size() > 1 && path.back() == '/') path.pop_back();
    if (std::find(paths.begin(), paths.end(), path) != paths.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "RUN_DIR = \"", run_dir, "\" is given twice: allowed is once"));
    }
    paths.push_back(std::move(path));
  }
  return paths;
}

absl::Status RunPlot(const PlotFlags& flags) {
  if (!absl::EndsWith(flags.output, ".svg")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--output = \"", flags.output,
                     "\": allowed is a name that ends in .svg"));
  }
  QFLEET_ASSIGN_OR_RETURN(const XChoice x, ParseX(flags.x));
  QFLEET_ASSIGN_OR_RETURN(const std::vector<std::string> paths,
                          NormalPaths(flags.run_dirs));
  std::vector<std::vector<PlotPoint>> curves;
  for (const std::string& run_dir : flags.run_dirs) {
    QFLEET_ASSIGN_OR_RETURN(std::vector<PlotPoint> curve,
                            ReadCurve(run_dir, x.x));
    curves.push_back(std::move(curve));
  }
  Plot plot;
  plot.title = flags.title;
  plot.x_label = x.label;
  plot.y_label = "mean return, greedy";
  if (flags.group) {
    plot.note = "line: median of the runs; band: least to greatest";
    for (const RunGroup& group : GroupByParent(paths)) {
      std::vector<std::vector<PlotPoint>> members;
      for (int member : group.members) members.push_back(curves[member]);
      const size_t runs = members.size();
      plot.curves.push_back(MedianCurve(
          absl::StrCat(group.name, " (", runs, runs == 1 ? " run)" : " runs)"),
          members, kGridPoints));
    }
  } else {
    const std::vector<std::string> names = ShortNames(paths);
    for (size_t i = 0; i < curves.size(); ++i) {
      plot.curves.push_back({names[i], std::move(curves[i]), {}});
    }
  }
  QFLEET_RETURN_IF_ERROR(WriteFileAtomically(flags.output, DrawSvg(plot)));
  std::cout << flags.output << ": " << plot.curves.size()
            << (plot.curves.size() == 1 ? " curve" : " curves") << " of "
            << paths.size() << (paths.size() == 1 ? " run" : " runs")
            << std::endl;
  return absl::OkStatus();
}

}  // namespace

void AddPlotCommand(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("plot", "Draw the learning curves of runs as an SVG");
  auto flags = std::make_shared<PlotFlags>();
  command->add_option("RUN_DIR", flags->run_dirs, "Folders of runs")
      ->required();
  command->add_option("--output", flags->output, "File, NAME.svg")
      ->capture_default_str();
  command->add_option("--x", flags->x, "env_steps, updates or wall_seconds")
      ->capture_default_str();
  command->add_option("--title", flags->title, "Above the chart");
  command->add_flag("--group", flags->group,
                    "Runs in the same folder (NAME/seed-1, NAME/seed-2) are "
                    "one curve, NAME: their median, and a band from the least "
                    "to the greatest; a run that has ended keeps its last "
                    "value");
  command->callback([flags, &exit_code] {
    const absl::Status status = RunPlot(*flags);
    exit_code = status.ok() ? kExitReached : Fail("qfleet", status);
  });
}

}  // namespace qfleet
