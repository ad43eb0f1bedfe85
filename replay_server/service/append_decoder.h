// From an AppendRequest off the wire to what a table takes, without copying its
// columns (common/message_reader.h).
//
// Fields that are not known are skipped, as usual; a payload that comes twice
// is malformed.
//
// Thread-compatible.

#ifndef QFLEET_REPLAY_SERVER_SERVICE_APPEND_DECODER_H_
#define QFLEET_REPLAY_SERVER_SERVICE_APPEND_DECODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/message_reader.h"
#include "grpcpp/support/byte_buffer.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_server/core/append_input.h"

namespace qfleet {

class AppendDecoder {
 public:
  // What a message is decoded to may take many times its size; so much of it
  // at most, beside the columns, of which there are so many of each kind.
  static constexpr size_t kMaxOpenBytes = 1 << 20;
  static constexpr size_t kMaxListBytes = 16 << 20;
  static constexpr size_t kMaxColumns = 4096;

  // INVALID_ARGUMENT if it is malformed or beyond these. What was decoded
  // before is gone.
  absl::Status Decode(const grpc::ByteBuffer& message);

  // Gives the message's memory back: what comes next finds it in the caches.
  void Release();

  bool has_open() const { return kind_ == kOpen; }
  bool has_batch() const { return kind_ == kBatch; }
  const v1::AppendOpen& open() const { return open_; }
  // Refers to this decoder, until Release or the next Decode.
  const AppendInput& batch() const { return input_; }

 private:
  enum Kind { kNone, kOpen, kBatch };

  // False, and why_ says what is beyond its bound if that is why.
  bool DecodeRequest(MessageReader& reader);
  bool DecodeOpen(MessageReader& reader, uint64_t end);
  bool DecodeBatch(MessageReader& reader, uint64_t end);

  std::vector<grpc::Slice> slices_;
  std::string rest_;  // The batch without its columns.
  absl::Status why_;
  Kind kind_ = kNone;
  v1::AppendOpen open_;
  v1::AppendBatch lists_;
  AppendInput input_;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_SERVICE_APPEND_DECODER_H_
