#include "cli/progress.h"

#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "cli/format.h"
#include "cli/terminal.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::Config TestConfig() {
  v1::Config config;
  config.mutable_replay()->set_samples_per_insert(16);
  config.mutable_stop()->set_mean_return(475);
  return config;
}

v1::RunReport TestReport() {
  v1::RunReport report;
  report.set_wall_seconds(12);
  report.set_state("training");
  report.set_env_steps(21504);
  report.set_env_steps_per_second(1532.4);
  report.set_updates(5200);
  report.set_updates_per_second(371);
  report.set_policy_version(208);
  report.set_replay_items(21320);
  report.set_replay_bytes(1258291);
  report.set_samples_per_insert(15.63);
  report.set_loss(0.01234);
  report.set_mean_q(45.2);
  report.set_exploring_return(98.14);
  report.set_weight_age_seconds(0.21);
  report.set_actors(2);
  report.set_shards(2);
  report.set_share_updating(0.62);
  report.set_share_waiting_for_replay(0.3);
  return report;
}

v1::Evaluation TestEvaluation(uint64_t version, uint64_t env_steps,
                              double mean) {
  v1::Evaluation evaluation;
  evaluation.set_policy_version(version);
  evaluation.set_updates(version * 25);
  evaluation.set_env_steps(env_steps);
  evaluation.set_episodes(20);
  evaluation.set_mean_return(mean);
  evaluation.set_min_return(mean - 10);
  evaluation.set_max_return(500);
  return evaluation;
}

TEST(ReportLine, Golden) {
  EXPECT_EQ(ReportLine(TestReport()),
            "12.0 s  env steps 21,504 (1,532/s)  updates 5,200 (371/s)  "
            "replay 21,320 items, 1.2 MiB  samples/insert 15.63  loss 0.0123  "
            "mean Q 45.2  exploring return 98.1  weight age 0.21 s");
}

TEST(EvaluationLine, Golden) {
  EXPECT_EQ(
      EvaluationLine(TestEvaluation(200, 21000, 487.6), TestConfig().stop()),
      "evaluation: mean return 487.6 (target 475), min 477.6, max 500.0 "
      "over 20 episodes at 21,000 env steps, 5,000 updates");
}

TEST(Progress, OneLineASecond) {
  Progress progress("run", TestConfig());
  v1::RunReport report = TestReport();
  report.set_wall_seconds(1);
  EXPECT_EQ(progress.Add(report).size(), 1u);
  report.set_wall_seconds(1.5);
  EXPECT_THAT(progress.Add(report), IsEmpty());
  report.set_wall_seconds(1.98);
  EXPECT_THAT(progress.Add(report), ElementsAre(ReportLine(report)));
}

TEST(Progress, AnEvaluationIsToldOnce) {
  Progress progress("run", TestConfig());
  v1::RunReport report = TestReport();
  progress.Add(report);
  *report.mutable_evaluation() = TestEvaluation(1, 100, 20);
  EXPECT_THAT(
      progress.Add(report),
      ElementsAre(EvaluationLine(report.evaluation(), TestConfig().stop())));
  EXPECT_THAT(progress.Add(report), IsEmpty());
  *report.mutable_evaluation() = TestEvaluation(2, 200, 20);
  EXPECT_EQ(progress.Add(report).size(), 1u);
}

TEST(Progress, DisplayGolden) {
  Progress progress("cartpole-1", TestConfig());
  v1::RunReport report = TestReport();
  *report.mutable_evaluation() = TestEvaluation(1, 0, 20);
  progress.Add(report);
  *report.mutable_evaluation() = TestEvaluation(200, 21000, 455);
  progress.Add(report);
  EXPECT_EQ(absl::StrJoin(progress.Display(14.2, 100), "\n"),
            R"(cartpole-1  training  14.2 s
  env steps   21,504            1,532/s           2 actors, exploring return 98.1
  updates     5,200             371/s             policy 208, 0.21 s old on the actors
  replay      21,320 items      1.2 MiB           15.63 samples per insert (target 16)
  learner     loss 0.0123       mean Q 45.2       updating 62%, waiting for replay 30%
  evaluation  mean 455.0  min 445.0  max 500.0  at 21,000 env steps  (target 475)
  475 │                                             ⢀⣀⠤⠤⠒
      │                                      ⢀⣀⡠⠤⠒⠒⠉⠁
      │                                ⣀⡠⠤⠒⠒⠉⠁
      │                         ⣀⡠⠤⠔⠒⠉⠉
      │                  ⣀⣀⠤⠔⠒⠊⠉
      │           ⢀⣀⠤⠤⠒⠊⠉
      │    ⢀⣀⠤⠤⠒⠊⠉⠁
    0 │⠤⠒⠒⠉⠁
      └──────────────────────────────────────────────────
       0                                 21,000 env steps)");
}

TEST(Progress, DisplayFitsANarrowTerminal) {
  Progress progress("cartpole-1", TestConfig());
  v1::RunReport report = TestReport();
  *report.mutable_evaluation() = TestEvaluation(1, 100, 20);
  progress.Add(report);
  for (int width : {0, 1, 12, 13, 40}) {
    for (const std::string& line : progress.Display(1, width)) {
      EXPECT_LE(DisplayWidth(line), width) << line;
    }
  }
}

TEST(Progress, DisplayBeforeTheFirstReport) {
  Progress progress("run", TestConfig());
  std::vector<std::string> lines = progress.Display(0.5, 80);
  EXPECT_EQ(lines[0], "run  starting  0.5 s");
  EXPECT_EQ(lines.back(), "  evaluation  none yet  (target 475)");
}

TEST(Progress, SummaryGolden) {
  Progress progress("run", TestConfig());
  v1::RunReport report = TestReport();
  report.set_wall_seconds(14.2);
  progress.Add(report);
  EXPECT_EQ(progress.Summary(false),
            "not reached: no evaluation (target 475) after 21,504 env steps, "
            "5,200 updates, 14.2 s");
  *report.mutable_evaluation() = TestEvaluation(200, 21000, 487.6);
  progress.Add(report);
  EXPECT_EQ(progress.Summary(true),
            "reached: mean return 487.6 over 20 episodes (target 475) after "
            "21,504 env steps, 5,200 updates, 14.2 s");
}

TEST(Progress, SummaryWithoutATargetIsFinished) {
  v1::Config config = TestConfig();
  config.mutable_stop()->clear_mean_return();
  Progress progress("run", config);
  progress.Add(TestReport());
  EXPECT_EQ(progress.Summary(true),
            "finished: no evaluation after 21,504 env steps, 5,200 updates, "
            "12.0 s");
}

TEST(RedrawText, OverwritesThenClearsTheRest) {
  EXPECT_EQ(RedrawText(0, {"a", "b"}), "a\x1b[K\nb\x1b[K\n\x1b[J");
  EXPECT_EQ(RedrawText(2, {"c"}), "\x1b[2A\rc\x1b[K\n\x1b[J");
}

}  // namespace
}  // namespace qfleet
