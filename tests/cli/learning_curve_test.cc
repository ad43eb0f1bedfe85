#include "cli/learning_curve.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Points = std::vector<PlotPoint>;

v1::RunReport Report(uint64_t updates, double mean_return) {
  v1::RunReport report;
  report.set_updates(updates + 7);  // The run's, which is further on.
  report.set_env_steps(10 * updates + 7);
  v1::Evaluation& evaluation = *report.mutable_evaluation();
  evaluation.set_updates(updates);
  evaluation.set_env_steps(10 * updates);
  evaluation.set_wall_seconds(0.5 * static_cast<double>(updates));
  evaluation.set_mean_return(mean_return);
  return report;
}

std::vector<double> Xs(const Points& points) {
  std::vector<double> values;
  for (const PlotPoint& point : points) values.push_back(point.x);
  return values;
}

std::vector<double> Ys(const Points& points) {
  std::vector<double> values;
  for (const PlotPoint& point : points) values.push_back(point.y);
  return values;
}

TEST(Evaluations, AreTakenOnceThoughLaterLinesRepeatThem) {
  const std::vector<v1::RunReport> reports = {v1::RunReport(), Report(100, 20),
                                              Report(100, 20), Report(200, 20)};
  const Points curve = LearningCurve(Evaluations(reports), PlotX::kUpdates);
  EXPECT_THAT(Xs(curve), ElementsAre(100, 200));
  EXPECT_THAT(Ys(curve), ElementsAre(20, 20));
}

TEST(Evaluations, OfARunThatWentBackToACheckpointAreTakenBack) {
  // Three evaluations, then on from a checkpoint after the first.
  const std::vector<v1::RunReport> reports = {Report(100, 1), Report(200, 2),
                                              Report(300, 3), Report(100, 1),
                                              Report(250, 5), Report(350, 6)};
  const Points curve = LearningCurve(Evaluations(reports), PlotX::kUpdates);
  EXPECT_THAT(Xs(curve), ElementsAre(100, 250, 350));
  EXPECT_THAT(Ys(curve), ElementsAre(1, 5, 6));
}

TEST(LearningCurve, StandsAtTheEvaluationsOwnPlace) {
  const std::vector<v1::Evaluation> evaluations =
      Evaluations(std::vector<v1::RunReport>{Report(100, 20)});
  EXPECT_THAT(Xs(LearningCurve(evaluations, PlotX::kEnvSteps)),
              ElementsAre(1000));
  EXPECT_THAT(Xs(LearningCurve(evaluations, PlotX::kUpdates)),
              ElementsAre(100));
  EXPECT_THAT(Xs(LearningCurve(evaluations, PlotX::kWallSeconds)),
              ElementsAre(50));
}

TEST(LearningCurve, LeavesOutWhatIsNotFinite) {
  const std::vector<v1::RunReport> reports = {
      Report(100, std::numeric_limits<double>::quiet_NaN()), Report(200, 2),
      Report(300, std::numeric_limits<double>::infinity())};
  EXPECT_THAT(Ys(LearningCurve(Evaluations(reports), PlotX::kUpdates)),
              ElementsAre(2));
  EXPECT_THAT(LearningCurve({}, PlotX::kUpdates), IsEmpty());
}

TEST(MedianCurve, IsOverStepFunctionsAtEachPlaceOfAny) {
  const std::vector<Points> curves = {
      {{0, 10}, {20, 30}}, {{0, 0}, {10, 100}}, {{5, 50}, {30, 20}}};
  const PlotCurve median = MedianCurve("name", curves, 100);
  // From 5 on all three have a value; the second one ended at 10 and keeps it.
  EXPECT_THAT(Xs(median.line), ElementsAre(5, 10, 20, 30));
  EXPECT_THAT(Ys(median.line), ElementsAre(10, 50, 50, 30));
  std::vector<double> low, high;
  for (const BandPoint& point : median.band) {
    low.push_back(point.low);
    high.push_back(point.high);
  }
  EXPECT_THAT(low, ElementsAre(0, 10, 30, 20));
  EXPECT_THAT(high, ElementsAre(50, 100, 100, 100));
}

TEST(MedianCurve, OfAnEvenNumberIsTheMiddleOfTheTwo) {
  const std::vector<Points> curves = {{{0, 1}}, {{0, 2}}, {{0, 4}}, {{0, 9}}};
  EXPECT_THAT(Ys(MedianCurve("", curves, 100).line), ElementsAre(3));
}

TEST(MedianCurve, HasAtMostSoManyPointsFromEndToEnd) {
  Points curve;
  for (int i = 0; i <= 1000; ++i) curve.push_back({1.0 * i, 2.0 * i});
  const PlotCurve median = MedianCurve("", {curve}, 11);
  ASSERT_EQ(median.line.size(), 11u);
  for (int i = 0; i <= 10; ++i) {
    EXPECT_DOUBLE_EQ(median.line[i].x, 100 * i);
    EXPECT_DOUBLE_EQ(median.line[i].y, 200 * i);
  }
}

TEST(ShortNames, TellThePathsApart) {
  EXPECT_THAT(ShortNames({"/a/x/1", "/a/y/1", "/a/z"}),
              ElementsAre("x/1", "y/1", "z"));
  EXPECT_THAT(ShortNames({"/a/1", "/b/a/1"}), ElementsAre("a/1", "b/a/1"));
  EXPECT_THAT(ShortNames({"/only"}), ElementsAre("only"));
  EXPECT_THAT(ShortNames({"/same", "/same"}), ElementsAre("same", "same"));
}

TEST(GroupByParent, RunsInOneFolderAreAGroupInTheOrderOfTheFirst) {
  const std::vector<RunGroup> groups =
      GroupByParent({"/out/dqn/seed-1", "/out/rainbow/seed-1",
                     "/out/dqn/seed-2", "/old/dqn/seed-1"});
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0].name, "out/dqn");
  EXPECT_THAT(groups[0].members, ElementsAre(0, 2));
  EXPECT_EQ(groups[1].name, "rainbow");
  EXPECT_THAT(groups[1].members, ElementsAre(1));
  EXPECT_EQ(groups[2].name, "old/dqn");
  EXPECT_THAT(groups[2].members, ElementsAre(3));
}

}  // namespace
}  // namespace qfleet
