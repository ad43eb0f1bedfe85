// A SampleResponse off the wire, whose columns stay in the pieces of the
// message (common/message_reader.h) until they are copied to their batches.

#ifndef QFLEET_REPLAY_CLIENT_SAMPLE_ANSWER_H_
#define QFLEET_REPLAY_CLIENT_SAMPLE_ANSWER_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/column_bytes.h"
#include "grpcpp/support/byte_buffer.h"
#include "qfleet/v1/replay.pb.h"

namespace qfleet {

// Immutable.
class SampleAnswer {
 public:
  SampleAnswer() = default;
  SampleAnswer(const SampleAnswer&) = delete;  // Columns refer to slices_.
  SampleAnswer& operator=(const SampleAnswer&) = delete;

  // INTERNAL if the message is none.
  static absl::StatusOr<std::shared_ptr<const SampleAnswer>> Decode(
      const grpc::ByteBuffer& message);

  // All but the columns.
  const v1::SampleResponse& lists() const { return lists_; }
  // In the order of the signature.
  const std::vector<ColumnBytes>& item_columns() const { return item_columns_; }
  const std::vector<ColumnBytes>& views() const { return views_; }

 private:
  bool DecodeFields();

  std::vector<grpc::Slice> slices_;
  v1::SampleResponse lists_;
  std::vector<ColumnBytes> item_columns_;
  std::vector<ColumnBytes> views_;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_SAMPLE_ANSWER_H_
