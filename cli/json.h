// Protobuf messages as JSON with their own field names and plain numbers (the
// standard mapping makes strings of 64-bit integers).

#ifndef QFLEET_CLI_JSON_H_
#define QFLEET_CLI_JSON_H_

#include "google/protobuf/message.h"
#include "nlohmann/json.hpp"

namespace qfleet {

// Every scalar, also if it is 0; messages and lists only if they are set.
nlohmann::ordered_json ToJson(const google::protobuf::Message& message);

}  // namespace qfleet

#endif  // QFLEET_CLI_JSON_H_
