// `qfleet plot`, run as a person runs it, and what it draws read by an XML
// parser that is not ours.

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/process.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// Prints how many paths of each class the SVG has, and its title.
constexpr char kCount[] = R"(
import sys, xml.etree.ElementTree as tree
svg = '{http://www.w3.org/2000/svg}'
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == svg + 'svg', root.tag
kinds = [path.get('class') for path in root.iter(svg + 'path')]
titles = [title.text for title in root.iter(svg + 'title')]
print(kinds.count('curve'), kinds.count('band'), *titles)
)";

class PlotCommandTest : public ::testing::Test {
 protected:
  // A run of `evaluations`, each on two lines.
  std::string AddRun(const std::string& name, int evaluations) {
    const std::string run_dir = absl::StrCat(folder_.path(), "/", name);
    fs::create_directories(run_dir);
    std::ofstream lines(run_dir + "/metrics.jsonl");
    lines << "{\"wall_seconds\": 0.5, \"state\": \"training\"}\n";
    for (int i = 1; i <= evaluations; ++i) {
      for (int repeat = 0; repeat < 2; ++repeat) {
        lines << "{\"updates\": " << 100 * i + repeat
              << ", \"evaluation\": {\"updates\": " << 100 * i
              << ", \"env_steps\": " << 1000 * i << ", \"wall_seconds\": " << i
              << ", \"mean_return\": " << 50 * i << "}}\n";
      }
    }
    return run_dir;
  }

  int Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {QFLEET_BIN_DIR "/qfleet", "plot"});
    return RunToEnd(arguments, Path("log"), 60, &output_);
  }

  // What kCount prints.
  std::string CountIn(const std::string& svg) {
    std::string counts;
    if (RunToEnd({"/usr/bin/env", "python3", "-c", kCount, svg}, Path("count"),
                 60, &counts) != 0) {
      ADD_FAILURE() << counts;
    }
    return counts;
  }

  std::string Path(const std::string& name) const {
    return absl::StrCat(folder_.path(), "/", name);
  }

  const TempDirectory folder_;
  std::string output_;
};

TEST_F(PlotCommandTest, DrawsACurveForEachRun) {
  const std::string svg = Path("p.svg");
  const std::string title = "returns < 475 & \"more\" \x01\xff";
  ASSERT_EQ(Run({AddRun("a", 3), AddRun("b", 1), AddRun("c", 20),
                 "--output=" + svg, "--title=" + title, "--x=wall_seconds"}),
            0)
      << output_;
  EXPECT_EQ(output_, svg + ": 3 curves of 3 runs\n");
  EXPECT_EQ(CountIn(svg), "3 0 returns < 475 & \"more\" \uFFFD\uFFFD\n");
}

TEST_F(PlotCommandTest, GroupDrawsAMedianAndABandForEachFolder) {
  const std::string svg = Path("p.svg");
  ASSERT_EQ(Run({AddRun("dqn/seed-1", 3), AddRun("dqn/seed-2", 5) + "/",
                 AddRun("a&b/seed-1", 4), "--group", "--output=" + svg}),
            0)
      << output_;
  EXPECT_EQ(output_, svg + ": 2 curves of 3 runs\n");
  EXPECT_EQ(CountIn(svg), "2 2\n");
  std::ifstream file(svg);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_THAT(text, HasSubstr(">dqn (2 runs)<"));
  EXPECT_THAT(text, HasSubstr(">a&amp;b (1 run)<"));
}

TEST_F(PlotCommandTest, NamesWhatIsWrong) {
  const std::string run = AddRun("a", 3);
  EXPECT_EQ(Run({Path("nowhere")}), 2);
  EXPECT_THAT(output_, HasSubstr("/nowhere\" holds no metrics.jsonl: allowed "
                                 "is the folder of a run"));
  EXPECT_EQ(Run({run, AddRun("young", 0)}), 1);
  EXPECT_THAT(output_, HasSubstr("/young/metrics.jsonl holds no evaluation "
                                 "yet"));
  EXPECT_EQ(Run({run, "--output=p.png"}), 2);
  EXPECT_EQ(output_,
            "qfleet: --output = \"p.png\": allowed is a name that ends in "
            ".svg\n");
  EXPECT_EQ(Run({run, "--x=time"}), 2);
  EXPECT_EQ(output_,
            "qfleet: --x = \"time\": allowed is env_steps, updates, "
            "wall_seconds\n");
  EXPECT_EQ(Run({run, run + "/../a"}), 2);
  EXPECT_THAT(output_, HasSubstr("is given twice: allowed is once"));
  EXPECT_EQ(Run({run, "--output=" + Path("none/p.svg")}), 1);
  EXPECT_THAT(output_, HasSubstr("none/p.svg"));
  EXPECT_EQ(Run({}), 2);
}

}  // namespace
}  // namespace qfleet
