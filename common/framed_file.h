// A Protobuf message as a file that is either whole or known to be damaged:
//
//   magic (8 bytes) | u64 length | message | u64 XXH3-64 of the message
//
// little-endian. Checkpoints, a table's header and a checkpoint's manifest are
// such files (docs/formats.md).

#ifndef QFLEET_COMMON_FRAMED_FILE_H_
#define QFLEET_COMMON_FRAMED_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message_lite.h"

namespace qfleet {

// Atomic (WriteFileAtomically). `magic` has 8 bytes.
absl::Status WriteFramedFile(const std::string& path, absl::string_view magic,
                             const google::protobuf::MessageLite& message);

// DATA_LOSS, beginning with `what` and the path, if the file is cut short,
// changed or of another kind; NOT_FOUND if it is not there.
absl::Status ReadFramedFile(const std::string& path, absl::string_view magic,
                            absl::string_view what,
                            google::protobuf::MessageLite& message);

}  // namespace qfleet

#endif  // QFLEET_COMMON_FRAMED_FILE_H_
