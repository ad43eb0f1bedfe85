#include "common/checkpoint_file.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/files.h"
#include "common/status_macros.h"
#include "xxhash.h"

namespace qfleet {
namespace {

constexpr char kMagic[8] = {'Q', 'F', 'L', 'T', 'C', 'K', 'P', 'T'};
constexpr uint32_t kFormat = 1;

void AppendU64(uint64_t value, std::string& to) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

uint64_t ReadU64(const char* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

absl::Status Damaged(const std::string& path, absl::string_view how) {
  return absl::DataLossError(absl::StrCat("checkpoint ", path, ": ", how));
}

}  // namespace

uint64_t Hash64(absl::string_view data) {
  return XXH3_64bits(data.data(), data.size());
}

absl::StatusOr<std::string> WriteCheckpoint(const std::string& directory,
                                            const v1::Checkpoint& checkpoint,
                                            int keep) {
  v1::Checkpoint stamped = checkpoint;
  stamped.set_format(kFormat);
  const std::string message = stamped.SerializeAsString();
  std::string file(kMagic, sizeof(kMagic));
  AppendU64(message.size(), file);
  file += message;
  AppendU64(Hash64(message), file);
  const std::string path = absl::StrCat(
      directory, "/",
      absl::StrFormat("checkpoint-%012d.qfckpt", checkpoint.updates()));
  QFLEET_RETURN_IF_ERROR(WriteFileAtomically(path, file));
  const std::vector<std::string> paths = ListCheckpoints(directory);
  for (size_t i = std::max(keep, 1); i < paths.size(); ++i) {
    std::error_code ignored;  // A file that stays does no harm.
    std::filesystem::remove(paths[i], ignored);
  }
  return path;
}

absl::StatusOr<v1::Checkpoint> ReadCheckpoint(const std::string& path) {
  QFLEET_ASSIGN_OR_RETURN(const std::string file, ReadFile(path));
  constexpr size_t kHead = sizeof(kMagic) + sizeof(uint64_t);
  if (file.size() < kHead + sizeof(uint64_t) ||
      std::memcmp(file.data(), kMagic, sizeof(kMagic)) != 0) {
    return Damaged(path, "not a checkpoint file");
  }
  const uint64_t length = ReadU64(file.data() + sizeof(kMagic));
  if (length != file.size() - kHead - sizeof(uint64_t)) {
    return Damaged(path, "cut short or longer than it says");
  }
  const absl::string_view message(file.data() + kHead, length);
  if (Hash64(message) != ReadU64(message.data() + length)) {
    return Damaged(path, "its checksum does not match");
  }
  v1::Checkpoint checkpoint;
  if (!checkpoint.ParseFromArray(message.data(),
                                 static_cast<int>(message.size()))) {
    return Damaged(path, "cannot be parsed");
  }
  if (checkpoint.format() != kFormat) {
    return Damaged(path, absl::StrCat("format = ", checkpoint.format(),
                                      ": allowed is ", kFormat));
  }
  return checkpoint;
}

std::vector<std::string> ListCheckpoints(const std::string& directory) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (absl::StartsWith(name, "checkpoint-") &&
        absl::EndsWith(name, ".qfckpt")) {
      paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end(), std::greater<>());
  return paths;
}

absl::StatusOr<v1::Checkpoint> ReadNewestCheckpoint(
    const std::string& directory, std::vector<std::string>* skipped) {
  for (const std::string& path : ListCheckpoints(directory)) {
    absl::StatusOr<v1::Checkpoint> checkpoint = ReadCheckpoint(path);
    if (checkpoint.ok()) return checkpoint;
    if (skipped != nullptr) {
      skipped->push_back(std::string(checkpoint.status().message()));
    }
  }
  return absl::NotFoundError(
      absl::StrCat("no readable checkpoint in ", directory));
}

}  // namespace qfleet
