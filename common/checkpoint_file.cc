#include "common/checkpoint_file.h"

#include <algorithm>
#include <filesystem>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/framed_file.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

constexpr absl::string_view kMagic = "QFLTCKPT";
constexpr uint32_t kFormat = 1;

}  // namespace

absl::StatusOr<std::string> WriteCheckpoint(const std::string& directory,
                                            const v1::Checkpoint& checkpoint,
                                            int keep) {
  v1::Checkpoint stamped = checkpoint;
  stamped.set_format(kFormat);
  const std::string path = absl::StrCat(
      directory, "/",
      absl::StrFormat("checkpoint-%012d.qfckpt", checkpoint.updates()));
  QFLEET_RETURN_IF_ERROR(WriteFramedFile(path, kMagic, stamped));
  const std::vector<std::string> paths = ListCheckpoints(directory);
  for (size_t i = std::max(keep, 1); i < paths.size(); ++i) {
    std::error_code ignored;  // A file that stays does no harm.
    std::filesystem::remove(paths[i], ignored);
  }
  return path;
}

absl::StatusOr<v1::Checkpoint> ReadCheckpoint(const std::string& path) {
  v1::Checkpoint checkpoint;
  QFLEET_RETURN_IF_ERROR(
      ReadFramedFile(path, kMagic, "checkpoint", checkpoint));
  if (checkpoint.format() != kFormat) {
    return absl::DataLossError(absl::StrCat("checkpoint ", path,
                                            ": format = ", checkpoint.format(),
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
