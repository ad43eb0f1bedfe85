// Learning curves out of the reports of runs: what is plotted, without how.
//
// All functions are pure.

#ifndef QFLEET_CLI_LEARNING_CURVE_H_
#define QFLEET_CLI_LEARNING_CURVE_H_

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "cli/svg_plot.h"
#include "qfleet/v1/weights.pb.h"

namespace qfleet {

// What a curve goes over.
enum class PlotX { kEnvSteps, kUpdates, kWallSeconds };

// The greedy evaluations of a run in their order, each once, though later lines
// repeat it. Where a run went on from an older checkpoint, what it had
// evaluated beyond that checkpoint is left out: it was taken back.
std::vector<v1::Evaluation> Evaluations(
    absl::Span<const v1::RunReport> reports);

// Mean returns over `x`, which ascends. Those that are not finite are left out.
std::vector<PlotPoint> LearningCurve(
    absl::Span<const v1::Evaluation> evaluations, PlotX x);

// The median of several curves, and the least and the greatest as its band.
// Each is taken as a step function: a value holds until the next one, the last
// one for ever (a run that ended at its target stays there). From where all
// have a value to the longest one's end, at each x of any curve, or evenly
// spaced if these are more than `most` (at least 2). Of an even number the
// median is the mean of the middle two.
PlotCurve MedianCurve(const std::string& name,
                      absl::Span<const std::vector<PlotPoint>> curves,
                      int most);

// For each path as few of its last components as tell it from the others:
// {"/a/x/1", "/a/y/1", "/a/z"} -> {"x/1", "y/1", "z"}. Equal paths get equal
// names.
std::vector<std::string> ShortNames(absl::Span<const std::string> paths);

// Runs that belong together.
struct RunGroup {
  std::string name;
  std::vector<int> members;  // Indices of the runs.
};

// One rule: runs whose folders lie in the same folder are a group, which has
// that folder's name. NAME/seed-1 and NAME/seed-2 are the group NAME. Paths are
// absolute and normal; groups come in the order of their first runs.
std::vector<RunGroup> GroupByParent(absl::Span<const std::string> paths);

}  // namespace qfleet

#endif  // QFLEET_CLI_LEARNING_CURVE_H_
