#include "replay_client/batch_builder.h"

#include <cstdint>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::TableSignature Signature() {
  v1::TableSignature signature;
  v1::TensorSpec& step = *signature.add_step_columns();
  step.set_name("observation");
  step.set_dtype(v1::UINT8);
  step.add_shape(3);
  v1::TensorSpec& item = *signature.add_item_columns();
  item.set_name("action");
  item.set_dtype(v1::UINT8);
  return signature;
}

std::vector<ColumnRow> Row(const std::string& data) {
  return {ColumnRow(data.data(), data.size())};
}

TEST(BatchBuilderTest, IsColumnMajor) {
  BatchBuilder builder(Signature());
  EXPECT_TRUE(builder.empty());
  const std::string a = "abc", b = "def", x = "x";
  ASSERT_TRUE(builder.AddStep(7, 40, true, Row(a)).ok());
  ASSERT_TRUE(builder.AddStep(7, 41, false, Row(b)).ok());
  ASSERT_TRUE(builder.AddItem(7, 40, 41, Row(x), 2.5f).ok());
  EXPECT_EQ(builder.size().steps, 2u);
  v1::AppendBatch batch = builder.Take(9);
  EXPECT_EQ(batch.sequence(), 9u);
  EXPECT_THAT(batch.step_stream(), ElementsAre(7, 7));
  EXPECT_THAT(batch.step_index(), ElementsAre(40, 41));
  EXPECT_THAT(batch.step_starts_episode(), ElementsAre(true, false));
  EXPECT_EQ(batch.step_columns(0).data(), "abcdef");
  EXPECT_THAT(batch.item_stream(), ElementsAre(7));
  EXPECT_THAT(batch.item_first(), ElementsAre(40));
  EXPECT_THAT(batch.item_last(), ElementsAre(41));
  EXPECT_THAT(batch.item_priority(), ElementsAre(2.5f));
  EXPECT_EQ(batch.item_columns(0).data(), "x");
}

TEST(BatchBuilderTest, TakeStartsAnEmptyBatchOfTheSameShape) {
  BatchBuilder builder(Signature());
  const std::string a = "abc";
  ASSERT_TRUE(builder.AddStep(0, 0, true, Row(a)).ok());
  const uint64_t bytes = builder.size().bytes;
  EXPECT_GT(bytes, a.size());
  builder.Take(1);
  EXPECT_TRUE(builder.empty());
  ASSERT_TRUE(builder.AddStep(0, 1, true, Row(a)).ok());
  EXPECT_EQ(builder.size().bytes, bytes);
  v1::AppendBatch batch = builder.Take(2);
  EXPECT_EQ(batch.step_columns_size(), 1);
  EXPECT_EQ(batch.item_columns_size(), 1);
  EXPECT_EQ(batch.step_columns(0).data(), "abc");
}

TEST(BatchBuilderTest, RefusesRowsOfAnotherSizeAndAddsNothing) {
  BatchBuilder builder(Signature());
  const std::string two = "ab", three = "abc";
  absl::Status status = builder.AddStep(0, 0, true, Row(two));
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(status.message(), HasSubstr("observation has 2 bytes"));
  EXPECT_THAT(status.message(), HasSubstr("uint8[3]"));
  EXPECT_TRUE(absl::IsInvalidArgument(builder.AddStep(0, 0, true, {})));
  EXPECT_TRUE(absl::IsInvalidArgument(builder.AddItem(0, 0, 0, Row(three), 1)));
  EXPECT_TRUE(builder.empty());
  EXPECT_EQ(builder.Take(1).step_index_size(), 0);
}

}  // namespace
}  // namespace qfleet
