// Messages with columns as the bytes of the wire. Large columns are not copied:
// the buffer refers to their strings and keeps them alive, however often it is
// sent. (The generated serialiser would copy images once more.)
//
//   ColumnEncoder columns;
//   columns.Take(v1::SampleResponse::kViewsFieldNumber,
//                response.mutable_views());
//   grpc::ByteBuffer bytes =
//       std::move(columns).Encode(response.SerializeAsString());

#ifndef QFLEET_COMMON_COLUMN_ENCODER_H_
#define QFLEET_COMMON_COLUMN_ENCODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "google/protobuf/repeated_field.h"
#include "grpcpp/support/byte_buffer.h"
#include "qfleet/v1/replay.pb.h"

namespace qfleet {

// Appends the tag and the length of a field of bytes or of a message, which are
// to follow.
void AppendFieldHead(int field, uint64_t bytes, std::string& to);

// Thread-compatible.
class ColumnEncoder {
 public:
  // Moves these columns, the message's field `field`, out of their message.
  void Take(int field, google::protobuf::RepeatedPtrField<v1::Column>* columns);

  // What was taken takes on the wire.
  uint64_t bytes() const;

  // `rest`, the message without these fields, and after it all that was taken.
  grpc::ByteBuffer Encode(std::string rest) &&;

 private:
  struct Column {
    int field;
    std::string data;
  };
  std::vector<Column> columns_;
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_COLUMN_ENCODER_H_
