#include "cli/svg_plot.h"

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos;
       at = text.find(part, at + part.size())) {
    ++count;
  }
  return count;
}

TEST(Ticks, AreRound) {
  EXPECT_THAT(Ticks(0, 500, 7), ElementsAre(0, 100, 200, 300, 400, 500));
  EXPECT_THAT(Ticks(0, 61485, 8),
              ElementsAre(0, 10000, 20000, 30000, 40000, 50000, 60000));
  EXPECT_THAT(Ticks(0.1, 0.33, 5), ElementsAre(0.1, 0.15, 0.2, 0.25, 0.3));
  EXPECT_THAT(Ticks(-1, 1, 7), ElementsAre(-1, -0.5, 0, 0.5, 1));
  EXPECT_THAT(Ticks(-3e9, 3e9, 4), ElementsAre(-2e9, 0, 2e9));
}

TEST(Ticks, AreInTheRangeAndNeitherTooManyNorTooFew) {
  for (double low : {-1e7, -475.5, -1.0, 0.0, 0.003, 12.0, 1e6}) {
    for (double width : {1e-3, 0.7, 1.0, 19.99, 500.0, 123456.0, 5e9}) {
      const double high = low + width;
      for (int most : {4, 7, 9}) {
        const std::vector<double> ticks = Ticks(low, high, most);
        // What doubles hold where low is large.
        const double tolerance = 1e-6 * width + 1e-15 * std::abs(low);
        SCOPED_TRACE(testing::Message() << low << " " << high << " " << most);
        EXPECT_LE(ticks.size(), static_cast<size_t>(most));
        // A step is at most 2.5 times the one that would be too many.
        EXPECT_GE(static_cast<double>(ticks.size()), most / 2.5 - 2);
        EXPECT_GE(ticks.front(), low - tolerance);
        EXPECT_LE(ticks.back(), high + tolerance);
        for (size_t i = 2; i < ticks.size(); ++i) {
          EXPECT_NEAR(ticks[i] - ticks[i - 1], ticks[1] - ticks[0], tolerance);
        }
      }
    }
  }
}

TEST(TickLabel, HasTheDigitsThatTheStepNeeds) {
  EXPECT_EQ(TickLabel(0, 0.05), "0");
  EXPECT_EQ(TickLabel(0.05, 0.05), "0.05");
  EXPECT_EQ(TickLabel(1, 0.5), "1.0");
  EXPECT_EQ(TickLabel(-0.5, 0.5), "-0.5");
  EXPECT_EQ(TickLabel(250, 50), "250");
  EXPECT_EQ(TickLabel(2000, 500), "2k");
  EXPECT_EQ(TickLabel(2500, 500), "2.5k");
  EXPECT_EQ(TickLabel(20000, 20000), "20k");
  EXPECT_EQ(TickLabel(200000, 50000), "200k");
  EXPECT_EQ(TickLabel(1000000, 200000), "1M");
  EXPECT_EQ(TickLabel(1200000, 200000), "1.2M");
  EXPECT_EQ(TickLabel(-2e9, 1e9), "-2G");
}

TEST(EscapeXml, LeavesNothingThatXmlReads) {
  EXPECT_EQ(EscapeXml("a<b & \"c\" > 'd'"),
            "a&lt;b &amp; &quot;c&quot; &gt; &#39;d&#39;");
  EXPECT_EQ(EscapeXml("Größe \u20ac \U0001F600"), "Größe \u20ac \U0001F600");
}

TEST(EscapeXml, ReplacesWhatXmlCannotHold) {
  EXPECT_EQ(EscapeXml(std::string("a\0\x01\x1b", 4)), "a\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(EscapeXml("\xff\xc3"), "\uFFFD\uFFFD");  // No UTF-8, cut off.
  EXPECT_EQ(EscapeXml("\xc0\xaf"), "\uFFFD\uFFFD");  // Overlong.
  EXPECT_EQ(EscapeXml("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD");  // Surrogate.
  EXPECT_EQ(EscapeXml("\xef\xbf\xbf"), "\uFFFD\uFFFD\uFFFD");  // U+FFFF.
}

TEST(DrawSvg, DrawsEachCurveAndBandOnce) {
  Plot plot;
  plot.title = "a < b";
  plot.curves = {{"one", {{0, 1}, {10, 2}}, {{0, 0, 2}, {10, 1, 3}}},
                 {"two", {{0, 3}, {10, 4}}, {}},
                 {"three", {{5, 4}}, {}}};
  const std::string svg = DrawSvg(plot);
  EXPECT_EQ(Count(svg, "<path class=\"curve\""), 3);
  EXPECT_EQ(Count(svg, "<path class=\"band\""), 1);
  EXPECT_EQ(Count(svg, "<circle"), 1);  // The curve of one point.
  EXPECT_THAT(svg, HasSubstr("a &lt; b"));
}

// The whole chart is in the picture, whatever the values.
TEST(DrawSvg, ConstantAndNegativeValuesAreDrawnToo) {
  for (double y : {0.0, 500.0, -21.0, 1e-9}) {
    Plot plot;
    plot.curves = {{"", {{0, y}, {0, y}}, {{0, y, y}}}};
    const std::string svg = DrawSvg(plot);
    EXPECT_EQ(Count(svg, "<path class=\"curve\""), 1);
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    EXPECT_THAT(svg, Not(HasSubstr("inf")));
  }
  EXPECT_THAT(DrawSvg(Plot()), Not(HasSubstr("nan")));
}

TEST(DrawSvg, CurvesBeyondThePaletteAreDashed) {
  Plot plot;
  for (int i = 0; i < 8; ++i)
    plot.curves.push_back({"c", {{1, 1}, {2, 2}}, {}});
  // The eighth's line and its legend.
  EXPECT_EQ(Count(DrawSvg(plot), "stroke-dasharray"), 2);
}

}  // namespace
}  // namespace qfleet
