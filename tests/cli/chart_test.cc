#include "cli/chart.h"

#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

TEST(Chart, DrawsALineFromTheFirstPointToTheLast) {
  // 4 x 2 characters are 8 x 8 dots: the diagonal.
  EXPECT_EQ(absl::StrJoin(Chart({{0, 0}, {1000, 500}}, 0, "steps", 4, 2), "\n"),
            "500 │  ⡠⠊\n"
            "  0 │⡠⠊\n"
            "    └────\n"
            "     01,000 steps");
}

TEST(Chart, TheTargetIsTheTop) {
  std::vector<std::string> lines = Chart({{10, 1}}, 475, "x", 8, 3);
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0], "475 │");
}

TEST(Chart, NegativeValuesSetTheBottom) {
  std::vector<std::string> lines = Chart({{0, -21}, {10, -3}}, 0, "x", 4, 2);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0].substr(0, 4), "  0 ");
  EXPECT_EQ(lines[1].substr(0, 4), "-21 ");
}

TEST(Chart, NothingWithoutPointsOrRoom) {
  EXPECT_TRUE(Chart({}, 475, "x", 50, 8).empty());
  EXPECT_TRUE(Chart({{0, 0}}, 475, "x", -3, 8).empty());
}

TEST(Chart, ConstantZeroHasAHeight) {
  EXPECT_EQ(Chart({{0, 0}, {9, 0}}, 0, "x", 4, 2)[1], "0 │⣀⣀⣀⣀");
}

}  // namespace
}  // namespace qfleet
