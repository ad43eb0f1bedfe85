#include "cli/report_reader.h"

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace qfleet {
namespace {

class ReportReaderTest : public ::testing::Test {
 protected:
  ReportReaderTest()
      : path_(::testing::TempDir() + "/report_reader_" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::remove(path_.c_str());
  }
  ~ReportReaderTest() override { std::remove(path_.c_str()); }

  void Append(const std::string& text) {
    std::ofstream(path_, std::ios::app) << text;
  }

  const std::string path_;
};

TEST_F(ReportReaderTest, ReadsFieldsByTheirNamesWithPlainNumbers) {
  Append(R"({"wall_seconds": 1.5, "env_steps": 9007199254740993,)"
         R"( "state": "training", "a_later_field": [1],)"
         R"( "evaluation": {"mean_return": 20.5, "policy_version": 3}})"
         "\n");
  std::vector<v1::RunReport> reports = ReportReader(path_).Poll();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].wall_seconds(), 1.5);
  EXPECT_EQ(reports[0].env_steps(), 9007199254740993u);
  EXPECT_EQ(reports[0].state(), "training");
  EXPECT_EQ(reports[0].evaluation().mean_return(), 20.5);
}

TEST_F(ReportReaderTest, FollowsAFileThatGrows) {
  ReportReader reader(path_);
  EXPECT_TRUE(reader.Poll().empty());  // Not there yet.
  Append("{\"updates\": 1}\n{\"upd");
  std::vector<v1::RunReport> reports = reader.Poll();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].updates(), 1u);
  EXPECT_FALSE(reports[0].has_evaluation());
  EXPECT_TRUE(reader.Poll().empty());
  Append("ates\": 2}\n{\"updates\": 3}\n");
  reports = reader.Poll();
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0].updates(), 2u);
  EXPECT_EQ(reports[1].updates(), 3u);
}

TEST_F(ReportReaderTest, LeavesOutWhatIsNoReport) {
  Append("not json\n\n{\"updates\": 4}\n");
  std::vector<v1::RunReport> reports = ReportReader(path_).Poll();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].updates(), 4u);
}

}  // namespace
}  // namespace qfleet
