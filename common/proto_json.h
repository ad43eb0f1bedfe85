// Messages of plain numbers as JSON that other tools like: fields by their
// proto names, 64-bit integers as numbers (Protobuf's own JSON has strings).

#ifndef QFLEET_COMMON_PROTO_JSON_H_
#define QFLEET_COMMON_PROTO_JSON_H_

#include "google/protobuf/message.h"
#include "nlohmann/json.hpp"

namespace qfleet {

// Every scalar field, set or not, in the order of the file; submessages and
// lists only where they are set. A number that is not finite becomes null.
// Bytes and maps are left out.
nlohmann::ordered_json ToJson(const google::protobuf::Message& message);

}  // namespace qfleet

#endif  // QFLEET_COMMON_PROTO_JSON_H_
