// A batch as the bytes of an AppendRequest. Large columns are not copied: the
// buffer refers to the batch's own strings and keeps them alive, however often
// it is sent. (The generated serialiser would copy images once more.)

#ifndef QFLEET_REPLAY_CLIENT_APPEND_ENCODER_H_
#define QFLEET_REPLAY_CLIENT_APPEND_ENCODER_H_

#include "grpcpp/support/byte_buffer.h"
#include "qfleet/v1/replay.pb.h"

namespace qfleet {

grpc::ByteBuffer EncodeAppend(v1::AppendBatch batch);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_APPEND_ENCODER_H_
