// A batch as the bytes of an AppendRequest, whose large columns are not copied
// (common/column_encoder.h).

#ifndef QFLEET_REPLAY_CLIENT_APPEND_ENCODER_H_
#define QFLEET_REPLAY_CLIENT_APPEND_ENCODER_H_

#include "grpcpp/support/byte_buffer.h"
#include "qfleet/v1/replay.pb.h"

namespace qfleet {

grpc::ByteBuffer EncodeAppend(v1::AppendBatch batch);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_APPEND_ENCODER_H_
