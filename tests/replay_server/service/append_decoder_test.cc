// The decoder against Protobuf's own parser: any message, in any pieces.

#include "replay_server/service/append_decoder.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "common/random.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using ::google::protobuf::util::MessageDifferencer;

std::string RandomBytes(uint64_t size, Random& random) {
  std::string bytes;
  for (uint64_t i = 0; i < size; ++i) {
    bytes.push_back(static_cast<char>(random.Below(256)));
  }
  return bytes;
}

v1::AppendBatch RandomBatch(Random& random) {
  v1::AppendBatch batch;
  batch.set_sequence(random.Bits() >> random.Below(64));
  for (uint64_t j = random.Below(20); j > 0; --j) {
    batch.add_step_stream(static_cast<uint32_t>(random.Bits()));
    batch.add_step_index(random.Bits() >> random.Below(64));
    batch.add_step_starts_episode(random.Below(2) == 1);
    batch.add_item_stream(static_cast<uint32_t>(random.Below(5)));
    batch.add_item_first(random.Bits());
    batch.add_item_priority(static_cast<float>(random.Uniform()));
  }
  for (uint64_t c = random.Below(4); c > 0; --c) {
    batch.add_step_columns()->set_data(RandomBytes(random.Below(300), random));
  }
  for (uint64_t c = random.Below(3); c > 0; --c) {
    batch.add_item_columns()->set_data(RandomBytes(random.Below(40), random));
  }
  return batch;
}

// In up to `pieces` pieces, some of them empty.
grpc::ByteBuffer Cut(const std::string& bytes, uint64_t pieces,
                     Random& random) {
  std::vector<uint64_t> cuts = {0, bytes.size()};
  while (cuts.size() <= pieces) cuts.push_back(random.Below(bytes.size() + 1));
  std::sort(cuts.begin(), cuts.end());
  std::vector<grpc::Slice> slices;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    slices.emplace_back(bytes.data() + cuts[i], cuts[i + 1] - cuts[i]);
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

std::string Bytes(const ColumnBytes& column) {
  std::string bytes(column.size(), '\0');
  column.Copy(0, bytes.size(), bytes.data());
  return bytes;
}

// As a message again.
v1::AppendBatch BatchOf(const AppendInput& input) {
  v1::AppendBatch batch = *input.lists;
  EXPECT_EQ(batch.step_columns_size() + batch.item_columns_size(), 0);
  for (const ColumnBytes& column : input.step_columns) {
    batch.add_step_columns()->set_data(Bytes(column));
  }
  for (const ColumnBytes& column : input.item_columns) {
    batch.add_item_columns()->set_data(Bytes(column));
  }
  return batch;
}

TEST(AppendDecoderTest, AgreesWithTheParserOnAnyPieces) {
  Random random(1);
  AppendDecoder decoder;
  for (int i = 0; i < 2000; ++i) {
    v1::AppendRequest request;
    *request.mutable_batch() = RandomBatch(random);
    const auto buffer =
        Cut(request.SerializeAsString(), 1 + random.Below(12), random);
    ASSERT_TRUE(decoder.Decode(buffer).ok());
    ASSERT_TRUE(decoder.has_batch());
    ASSERT_TRUE(
        MessageDifferencer::Equals(BatchOf(decoder.batch()), request.batch()));
    // Any part of a column, as rows are copied.
    for (const ColumnBytes& column : decoder.batch().step_columns) {
      const std::string all = Bytes(column);
      const uint64_t from = random.Below(all.size() + 1);
      std::string part(random.Below(all.size() - from + 1), '\0');
      column.Copy(from, part.size(), part.data());
      ASSERT_EQ(part, all.substr(from, part.size()));
    }
  }
}

TEST(AppendDecoderTest, Open) {
  Random random(2);
  v1::AppendRequest request;
  request.mutable_open()->set_table("experience");
  request.mutable_open()->set_writer_id(77);
  request.mutable_open()->mutable_signature()->add_step_columns()->set_name(
      "observation");
  AppendDecoder decoder;
  ASSERT_TRUE(decoder.Decode(Cut(request.SerializeAsString(), 5, random)).ok());
  ASSERT_TRUE(decoder.has_open());
  EXPECT_TRUE(MessageDifferencer::Equals(decoder.open(), request.open()));
  ASSERT_TRUE(decoder.Decode(grpc::ByteBuffer()).ok());
  EXPECT_FALSE(decoder.has_open() || decoder.has_batch());
}

// Megabytes became gigabytes before anything of them was looked at.
TEST(AppendDecoderTest, WhatBecomesLargeIsBounded) {
  Random random(4);
  AppendDecoder decoder;
  const auto decode = [&](const v1::AppendRequest& request) {
    return decoder.Decode(Cut(request.SerializeAsString(), 5, random));
  };
  v1::AppendRequest request;
  for (size_t c = 0; c < AppendDecoder::kMaxColumns; ++c) {
    request.mutable_batch()->add_step_columns();
    request.mutable_batch()->add_item_columns();
  }
  EXPECT_TRUE(decode(request).ok());
  for (const bool step : {true, false}) {
    v1::AppendRequest more = request;
    if (step) {
      more.mutable_batch()->add_step_columns();
    } else {
      more.mutable_batch()->add_item_columns();
    }
    const absl::Status status = decode(more);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                testing::HasSubstr(step ? "step_columns has more than 4096"
                                        : "item_columns has more than 4096"));
  }
  request.Clear();
  std::string& table = *request.mutable_open()->mutable_table();
  table.assign(AppendDecoder::kMaxOpenBytes - 10, 'x');
  EXPECT_TRUE(decode(request).ok());
  table.assign(AppendDecoder::kMaxOpenBytes, 'x');
  EXPECT_THAT(std::string(decode(request).message()),
              testing::HasSubstr("open has 1048580 bytes: allowed is at most"));
  request.Clear();
  request.mutable_batch()->mutable_item_priority()->Resize(4 << 20, 1);
  EXPECT_THAT(std::string(decode(request).message()),
              testing::HasSubstr("batch has more than 16777216 bytes"));
  request.mutable_batch()->mutable_item_priority()->Resize(3 << 20, 1);
  EXPECT_TRUE(decode(request).ok()) << "what was too large is forgotten";
}

// What is accepted must be what Protobuf accepts, and mean the same.
TEST(AppendDecoderTest, MutatedMessages) {
  Random random(3);
  AppendDecoder decoder;
  int accepted = 0, refused = 0;
  for (int i = 0; i < 20000; ++i) {
    v1::AppendRequest request;
    *request.mutable_batch() = RandomBatch(random);
    std::string bytes = request.SerializeAsString();
    for (uint64_t m = 1 + random.Below(3); m > 0 && !bytes.empty(); --m) {
      switch (random.Below(3)) {
        case 0:
          bytes[random.Below(bytes.size())] =
              static_cast<char>(random.Below(256));
          break;
        case 1:
          bytes.resize(random.Below(bytes.size() + 1));
          break;
        case 2:
          bytes.insert(random.Below(bytes.size() + 1),
                       RandomBytes(1 + random.Below(4), random));
      }
    }
    const absl::Status status =
        decoder.Decode(Cut(bytes, 1 + random.Below(6), random));
    v1::AppendRequest parsed;
    const bool parses = parsed.ParseFromString(bytes);
    if (!status.ok()) {
      ++refused;
      EXPECT_TRUE(absl::IsInvalidArgument(status));
      continue;
    }
    ++accepted;
    ASSERT_TRUE(parses) << i;
    ASSERT_EQ(decoder.has_batch(), parsed.has_batch()) << i;
    if (!decoder.has_batch()) continue;
    parsed.DiscardUnknownFields();
    v1::AppendBatch batch = BatchOf(decoder.batch());
    batch.DiscardUnknownFields();
    ASSERT_TRUE(MessageDifferencer::Equals(batch, parsed.batch())) << i;
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace qfleet
