// What Protobuf writes is what the decoder reads, however it came off the wire,
// and the rows of a batch are those of its parts.

#include "replay_client/sample_answer.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/random.h"
#include "gtest/gtest.h"
#include "replay_client/pending_batch.h"

namespace qfleet {
namespace {

std::string RandomBytes(uint64_t size, Random& random) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.Bits());
  return bytes;
}

// Two item columns of 1 and 4 bytes a row, a view of 3000.
v1::SampleResponse RandomResponse(uint32_t rows, Random& random) {
  v1::SampleResponse response;
  response.set_shard(3);
  response.mutable_stats()->set_mass(2);
  response.mutable_stats()->set_size(random.Bits());
  for (uint32_t j = 0; j < rows; ++j) {
    response.add_slot(static_cast<uint32_t>(random.Bits()));
    response.add_generation(j);
    response.add_mass(random.Uniform());
  }
  response.add_item_columns()->set_data(RandomBytes(rows, random));
  response.add_item_columns()->set_data(RandomBytes(4 * rows, random));
  response.add_views()->set_data(RandomBytes(3000 * rows, random));
  return response;
}

// In pieces of random sizes, some of them empty.
grpc::ByteBuffer InPieces(const std::string& bytes, Random& random) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size();) {
    const size_t count = std::min<size_t>(
        random.Below(random.Below(2) == 0 ? 8 : 9000), bytes.size() - at);
    slices.emplace_back(bytes.substr(at, count));
    at += count;
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

std::string Contents(const ColumnBytes& column) {
  std::string bytes(column.size(), '\0');
  column.Copy(0, column.size(), bytes.data());
  return bytes;
}

void ExpectSame(const std::vector<ColumnBytes>& columns,
                const google::protobuf::RepeatedPtrField<v1::Column>& wanted) {
  ASSERT_EQ(columns.size(), static_cast<size_t>(wanted.size()));
  for (int c = 0; c < wanted.size(); ++c) {
    EXPECT_EQ(Contents(columns[c]), wanted[c].data());
  }
}

void ExpectSame(const SampleAnswer& answer, v1::SampleResponse response) {
  ExpectSame(answer.item_columns(), response.item_columns());
  ExpectSame(answer.views(), response.views());
  response.clear_item_columns();
  response.clear_views();
  EXPECT_EQ(answer.lists().SerializeAsString(), response.SerializeAsString());
}

TEST(SampleAnswerTest, ReadsWhatProtobufWrites) {
  Random random(1);
  for (int i = 0; i < 300; ++i) {
    const v1::SampleResponse response =
        RandomResponse(static_cast<uint32_t>(random.Below(20)), random);
    const auto answer =
        SampleAnswer::Decode(InPieces(response.SerializeAsString(), random));
    ASSERT_TRUE(answer.ok()) << answer.status();
    ExpectSame(**answer, response);
  }
}

// Cut off and with wrong bytes: what it takes Protobuf takes, and as the same.
TEST(SampleAnswerTest, TakesNoMoreThanProtobufDoes) {
  Random random(2);
  const std::string whole = RandomResponse(5, random).SerializeAsString();
  int taken = 0, refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = whole;
    if (i % 2 == 0) bytes.resize(random.Below(whole.size()));
    for (uint64_t wrong = random.Below(4); wrong > 0 && !bytes.empty();
         --wrong) {
      // Rather in the lists and heads than in the view, which is long.
      bytes[random.Below(std::min<uint64_t>(bytes.size(), 200))] =
          static_cast<char>(random.Bits());
    }
    const auto answer = SampleAnswer::Decode(InPieces(bytes, random));
    if (!answer.ok()) {
      EXPECT_TRUE(absl::IsInternal(answer.status()));
      ++refused;
      continue;
    }
    ++taken;
    v1::SampleResponse response;
    ASSERT_TRUE(response.ParseFromString(bytes));
    ExpectSame(**answer, response);
  }
  EXPECT_GT(taken, 300);
  EXPECT_GT(refused, 300);
}

TEST(SampleAnswerTest, TheErrorSaysWhatItIsNot) {
  Random random(4);
  std::string bytes = RandomResponse(5, random).SerializeAsString();
  bytes.pop_back();
  EXPECT_EQ(SampleAnswer::Decode(InPieces(bytes, random)).status(),
            absl::InternalError("an answer of " + std::to_string(bytes.size()) +
                                " bytes is no qfleet.v1.SampleResponse"));
}

TEST(SampleAnswerTest, ABatchHasTheRowsOfItsPartsInTheirOrder) {
  Random random(3);
  const v1::SampleResponse first = RandomResponse(7, random);
  const v1::SampleResponse second = RandomResponse(5, random);
  const auto batch = std::make_shared<PendingBatch>();
  const auto append = [&](int shard, const v1::SampleResponse& response,
                          uint32_t first_row, uint32_t count) {
    AppendRows(
        {batch,
         {shard, count, 0.5},
         *SampleAnswer::Decode(InPieces(response.SerializeAsString(), random)),
         first_row,
         8,
         false},
        7);
  };
  append(0, first, 2, 4);
  append(1, second, 3, 2);
  append(0, first, 0, 1);
  const std::unique_ptr<SampleBatch> merged = FinishBatch(*batch, 8);
  ASSERT_EQ(merged->rows(), 7u);
  const auto rows = [](const std::string& column, size_t row_bytes,
                       size_t begin, size_t count) {
    return column.substr(begin * row_bytes, count * row_bytes);
  };
  const auto merge = [&](const std::string& one, const std::string& other,
                         size_t row_bytes) {
    return rows(one, row_bytes, 2, 4) + rows(other, row_bytes, 3, 2) +
           rows(one, row_bytes, 0, 1);
  };
  ASSERT_EQ(merged->columns.size(), 3u);
  EXPECT_EQ(merged->columns[0], merge(first.item_columns(0).data(),
                                      second.item_columns(0).data(), 1));
  EXPECT_EQ(merged->columns[1], merge(first.item_columns(1).data(),
                                      second.item_columns(1).data(), 4));
  EXPECT_EQ(merged->columns[2],
            merge(first.views(0).data(), second.views(0).data(), 3000));
  EXPECT_EQ(merged->keys[4].shard, 1u);
  EXPECT_EQ(merged->keys[4].slot, second.slot(3));
  EXPECT_EQ(merged->keys[6].generation, first.generation(0));
  // The share, the item's part of the shard's mass of 2, times 8 items.
  EXPECT_DOUBLE_EQ(merged->scaled_probability[4], 8 * 0.5 * second.mass(3) / 2);
}

}  // namespace
}  // namespace qfleet
