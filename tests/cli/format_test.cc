#include "cli/format.h"

#include "gtest/gtest.h"

namespace qfleet {
namespace {

TEST(Format, GroupsThousands) {
  EXPECT_EQ(WithCommas(uint64_t{0}), "0");
  EXPECT_EQ(WithCommas(uint64_t{999}), "999");
  EXPECT_EQ(WithCommas(uint64_t{1000}), "1,000");
  EXPECT_EQ(WithCommas(uint64_t{1234567}), "1,234,567");
  EXPECT_EQ(WithCommas(1234.56, 1), "1,234.6");
  EXPECT_EQ(WithCommas(-1234567.0, 0), "-1,234,567");
  EXPECT_EQ(WithCommas(12.0, 0), "12");
}

TEST(Format, ShortKeepsAboutThreeDigits) {
  EXPECT_EQ(Short(0), "0");
  EXPECT_EQ(Short(0.001234), "0.00123");
  EXPECT_EQ(Short(12.345), "12.3");
  EXPECT_EQ(Short(487.63), "487.6");
  EXPECT_EQ(Short(475), "475");
  EXPECT_EQ(Short(12345.6), "12,346");
  EXPECT_EQ(Short(1.2e-7), "1.2e-07");
}

TEST(Format, Bytes) {
  EXPECT_EQ(Bytes(1023), "1023 B");
  EXPECT_EQ(Bytes(1536), "1.5 KiB");
  EXPECT_EQ(Bytes(1073741824), "1.0 GiB");
}

TEST(Format, Seconds) {
  EXPECT_EQ(Seconds(14.24), "14.2 s");
  EXPECT_EQ(Seconds(187.9), "3:07");
  EXPECT_EQ(Seconds(3723), "1:02:03");
}

TEST(Format, WidthCountsCharactersAndNotBytes) {
  EXPECT_EQ(DisplayWidth("a\u2502\u28ff"), 3);
  EXPECT_EQ(CutToWidth("a\u2502\u28ff", 2), "a\u2502");
  EXPECT_EQ(CutToWidth("abc", 5), "abc");
  EXPECT_EQ(CutToWidth("abc", 0), "");
  EXPECT_EQ(PadLeft("\u2502", 3), "  \u2502");
  EXPECT_EQ(PadRight("abcd", 3), "abcd");
}

TEST(Format, TableAlignsNumbersRightAndWordsLeft) {
  EXPECT_EQ(
      AlignedTable(
          {{"name", "n", "what"}, {"a", "1,000", "x"}, {"long", "5", "y"}}),
      "name      n  what\n"
      "a     1,000  x\n"
      "long      5  y\n");
}

}  // namespace
}  // namespace qfleet
