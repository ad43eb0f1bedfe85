// What the encoder writes is what Protobuf reads.

#include "replay_client/append_encoder.h"

#include <cstdint>
#include <string>
#include <vector>

#include "common/grpc.h"
#include "common/random.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

TEST(AppendEncoderTest, ProtobufReadsTheBatchBack) {
  Random random(1);
  for (int i = 0; i < 300; ++i) {
    v1::AppendRequest request;
    v1::AppendBatch& batch = *request.mutable_batch();
    batch.set_sequence(random.Bits() >> random.Below(64));
    for (uint64_t j = random.Below(20); j > 0; --j) {
      batch.add_step_stream(static_cast<uint32_t>(j));
      batch.add_step_index(random.Bits());
      batch.add_step_starts_episode(j % 2 == 0);
      batch.add_item_priority(static_cast<float>(j));
    }
    // Empty, copied, referred to.
    for (uint64_t c = random.Below(4); c > 0; --c) {
      batch.add_step_columns()->set_data(
          std::string(random.Below(3) * random.Below(6000), 's'));
      batch.add_item_columns()->set_data(
          std::string(random.Below(2) * random.Below(300), 'i'));
    }
    grpc::ByteBuffer bytes = EncodeAppend(batch);
    EXPECT_EQ(bytes.Length(), request.ByteSizeLong());
    grpc::ByteBuffer again = bytes;  // Sent twice.
    for (grpc::ByteBuffer* sent : {&bytes, &again}) {
      v1::AppendRequest read;
      ASSERT_TRUE(ParseMessage(*sent, read).ok());
      ASSERT_TRUE(
          google::protobuf::util::MessageDifferencer::Equals(read, request));
    }
  }
}

}  // namespace
}  // namespace qfleet
