// What the status page is given of a run.
#include "learner/run_status.h"

#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "common/proto_json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

TEST(ThinnedSeriesTest, IsBoundedEvenAndHasTheFirstAndTheNewest) {
  for (int count = 1; count <= 200; ++count) {
    ThinnedSeries series({"x"}, /*max_rows=*/8);
    for (int i = 0; i < count; ++i) series.Add({static_cast<double>(i)});
    ASSERT_LE(series.rows(), 9u);
    const std::vector<int> x = series.ToJson()["x"];
    ASSERT_EQ(x.size(), series.rows());
    ASSERT_EQ(x.front(), 0);
    ASSERT_EQ(x.back(), count - 1);
    for (size_t i = 2; i + 1 < x.size(); ++i) {
      ASSERT_EQ(x[i] - x[i - 1], x[1] - x[0]) << count;
    }
  }
}

TEST(ThinnedSeriesTest, NumbersAreShortAndWhatIsNotFiniteIsNull) {
  ThinnedSeries series({"a", "b"});
  series.Add({1.0 / 3, std::numeric_limits<double>::quiet_NaN()});
  series.Add({12, std::numeric_limits<double>::infinity()});
  EXPECT_EQ(series.ToJson().dump(),
            R"({"a":[0.333333,12],"b":[null,null]})");
}

TEST(LimiterBalanceTest, SaysWhoWaits) {
  v1::RateLimiter limiter;
  limiter.set_samples_per_insert(4);
  limiter.set_tolerance(100);
  limiter.set_min_size(50);
  ReplayView replay;
  replay.size = 49;
  EXPECT_EQ(LimiterBalance(limiter, replay), -1);  // Below min_size.
  replay.size = 100;
  replay.inserted = 100;  // 50 above it, worth 200 samples.
  replay.sampled = 200;
  EXPECT_EQ(LimiterBalance(limiter, replay), 0);
  replay.sampled = 150;
  EXPECT_DOUBLE_EQ(LimiterBalance(limiter, replay), 0.5);
  replay.sampled = 0;
  EXPECT_EQ(LimiterBalance(limiter, replay), 2);  // Out of its band.
  replay.sampled = 1000;
  EXPECT_EQ(LimiterBalance(limiter, replay), -8);
  limiter.set_samples_per_insert(0);
  EXPECT_EQ(LimiterBalance(limiter, replay), 0);
}

v1::Evaluation EvaluationAt(uint64_t env_steps, double mean_return) {
  v1::Evaluation evaluation;
  evaluation.set_policy_version(env_steps + 1);
  evaluation.set_env_steps(env_steps);
  evaluation.set_mean_return(mean_return);
  evaluation.set_min_return(mean_return - 1);
  evaluation.set_max_return(mean_return + 1);
  evaluation.set_episodes(5);
  return evaluation;
}

TEST(RunStatusTest, HasTheCurveTheReportAndTheWords) {
  v1::Config config;
  config.mutable_environment()->set_id("CartPole-v1");
  config.mutable_algorithm()->mutable_dqn();
  config.mutable_stop()->set_mean_return(475);
  RunStatus status(config, "night");
  status.Add(EvaluationAt(100, 20));
  status.Add(EvaluationAt(200, 30.5));
  v1::RunReport report;
  report.set_state("training");
  report.set_env_steps(250);
  *report.mutable_evaluation() = EvaluationAt(200, 30.5);
  ReplayView replay;
  replay.inserted = 240;
  status.Add(report, replay);
  status.SetWaiting("no batch");
  nlohmann::ordered_json json = {{"role", "learner"}};
  status.AddTo(json);
  const auto& run = json["run"];
  EXPECT_EQ(run["config"]["name"], "night");
  EXPECT_EQ(run["config"]["environment"], "CartPole-v1");
  EXPECT_EQ(run["config"]["algorithm"], "dqn");
  EXPECT_EQ(run["config"]["target_return"], 475);
  EXPECT_TRUE(run["config"]["max_updates"].is_null());
  EXPECT_EQ(run["report"]["state"], "training");
  EXPECT_EQ(run["inserted"], 240);
  EXPECT_EQ(run["waiting"], "no batch");
  EXPECT_EQ(run["evaluations"]["mean_return"].dump(), "[20,30.5]");
  EXPECT_EQ(run["evaluations"]["min_return"].dump(), "[19,29.5]");
  EXPECT_EQ(run["history"]["env_steps"].dump(), "[250]");
}

TEST(RunStatusTest, ARunThatGoesOnHasItsEarlierCurveUpToItsCheckpoint) {
  const std::string path = testing::TempDir() + "run_status_test.jsonl";
  {
    std::ofstream file(path);
    v1::RunReport report;
    for (int i = 1; i <= 10; ++i) {
      report.set_env_steps(100 * i);
      report.set_env_steps_per_second(i);
      // Each evaluation stands in two reports.
      *report.mutable_evaluation() = EvaluationAt(100 * (i / 2), i / 2);
      file << ToJson(report).dump() << "\n";
    }
    file << "torn {\"env_st";
  }
  v1::Config config;
  RunStatus status(config, "night");
  status.Restore(path, /*env_steps=*/600);
  status.Restore("/no/such/file", 1000);
  nlohmann::ordered_json json;
  status.AddTo(json);
  EXPECT_EQ(json["run"]["history"]["env_steps_per_second"].dump(),
            "[1,2,3,4,5,6]");
  EXPECT_EQ(json["run"]["evaluations"]["mean_return"].dump(), "[0,1,2,3]");
}

}  // namespace
}  // namespace qfleet
