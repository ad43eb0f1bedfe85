// What the generated code does not write by itself.
// protobuf.dev/programming-guides/encoding

#ifndef QFLEET_COMMON_WIRE_FORMAT_H_
#define QFLEET_COMMON_WIRE_FORMAT_H_

#include <cstdint>
#include <string>

#include "google/protobuf/io/coded_stream.h"

namespace qfleet {

enum WireType : uint32_t {
  kWireVarint = 0,
  kWireFixed64 = 1,
  kWireBytes = 2,  // Messages, too.
  kWireFixed32 = 5
};

constexpr uint64_t WireTag(uint32_t field, uint32_t type) {
  return uint64_t{field} << 3 | type;
}

inline void AppendVarint(uint64_t value, std::string& to) {
  uint8_t bytes[10];
  const uint8_t* end =
      google::protobuf::io::CodedOutputStream::WriteVarint64ToArray(value,
                                                                    bytes);
  to.append(reinterpret_cast<const char*>(bytes), end - bytes);
}

}  // namespace qfleet

#endif  // QFLEET_COMMON_WIRE_FORMAT_H_
