#include "common/framed_file.h"

#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/files.h"
#include "common/hash.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

constexpr size_t kMagicBytes = 8;

void AppendU64(uint64_t value, std::string& to) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

uint64_t ReadU64(const char* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

}  // namespace

absl::Status WriteFramedFile(const std::string& path, absl::string_view magic,
                             const google::protobuf::MessageLite& message) {
  const std::string data = message.SerializeAsString();
  std::string file(magic);
  AppendU64(data.size(), file);
  file += data;
  AppendU64(Hash64(data), file);
  return WriteFileAtomically(path, file);
}

absl::Status ReadFramedFile(const std::string& path, absl::string_view magic,
                            absl::string_view what,
                            google::protobuf::MessageLite& message) {
  QFLEET_ASSIGN_OR_RETURN(const std::string file, ReadFile(path));
  const auto damaged = [&](absl::string_view how) {
    return absl::DataLossError(absl::StrCat(what, " ", path, ": ", how));
  };
  constexpr size_t kHead = kMagicBytes + sizeof(uint64_t);
  if (file.size() < kHead + sizeof(uint64_t) ||
      std::memcmp(file.data(), magic.data(), kMagicBytes) != 0) {
    return damaged(absl::StrCat("not a ", what, " file"));
  }
  const uint64_t length = ReadU64(file.data() + kMagicBytes);
  if (length != file.size() - kHead - sizeof(uint64_t)) {
    return damaged("cut short or longer than it says");
  }
  const absl::string_view data(file.data() + kHead, length);
  if (Hash64(data) != ReadU64(data.data() + length)) {
    return damaged("its checksum does not match");
  }
  if (!message.ParseFromArray(data.data(), static_cast<int>(data.size()))) {
    return damaged("cannot be parsed");
  }
  return absl::OkStatus();
}

}  // namespace qfleet
