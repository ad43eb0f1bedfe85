// A shard whose answers to one stream stop being messages.

#ifndef QFLEET_TESTS_REPLAY_CLIENT_GARBLED_REPLAY_H_
#define QFLEET_TESTS_REPLAY_CLIENT_GARBLED_REPLAY_H_

#include "common/grpc.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/method_handler.h"
#include "grpcpp/support/sync_stream.h"
#include "qfleet/v1/replay.grpc.pb.h"

namespace qfleet {

// Answers `good` messages by `right`, later ones by three bytes that are none.
class GarbledReplay final : public v1::Replay::Service {
 public:
  // Their places in the service.
  enum Method { kAppend = 1, kSample = 2 };

  GarbledReplay(Method method, int good,
                const google::protobuf::MessageLite& right)
      : good_(good), right_(SerializeMessage(right)) {
    MarkMethodStreamed(
        method, new grpc::internal::BidiStreamingHandler<
                    GarbledReplay, grpc::ByteBuffer, grpc::ByteBuffer>(
                    [](GarbledReplay* replay, grpc::ServerContext*,
                       Stream* stream) { return replay->Serve(*stream); },
                    this));
  }

 private:
  using Stream = grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

  grpc::Status Serve(Stream& stream) const {
    const grpc::Slice bytes("\xff\xff\xff");
    const grpc::ByteBuffer wrong(&bytes, 1);
    grpc::ByteBuffer request;
    for (int i = 0; stream.Read(&request); ++i) {
      if (!stream.Write(i < good_ ? right_ : wrong)) break;
    }
    return grpc::Status::OK;
  }

  const int good_;
  const grpc::ByteBuffer right_;
};

}  // namespace qfleet

#endif  // QFLEET_TESTS_REPLAY_CLIENT_GARBLED_REPLAY_H_
