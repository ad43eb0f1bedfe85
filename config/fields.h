// What can be done with any field of the config, by reflection: its default,
// its range (`allowed` in config.proto), its name in errors.

#ifndef QFLEET_CONFIG_FIELDS_H_
#define QFLEET_CONFIG_FIELDS_H_

#include <string>

#include "absl/status/status.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace qfleet {

// Sets each unset field that has a default, creates unset messages and, of a
// oneof without a choice, its first. Messages of other files than the config's
// (a table) are left as they are.
void FillDefaults(google::protobuf::Message& message);

// Checks each number that is set, here and below, against its range, and that
// it is finite. INVALID_ARGUMENT names the first that is not.
absl::Status CheckRanges(const google::protobuf::Message& message);

// "count, environments, epsilon_base".
std::string FieldNames(const google::protobuf::Descriptor& message);

// The shortest text that reads back as the same number; 4e9 is "4000000000".
std::string NumberText(double value);

// "FIELD = VALUE: allowed is ALLOWED".
absl::Status NotAllowed(absl::string_view field, absl::string_view value,
                        absl::string_view allowed);

}  // namespace qfleet

#endif  // QFLEET_CONFIG_FIELDS_H_
