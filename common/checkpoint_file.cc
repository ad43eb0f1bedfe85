#include "common/checkpoint_file.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/framed_file.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

constexpr absl::string_view kMagic = "QFLTCKPT";
constexpr uint32_t kFormat = 2;

constexpr char kRefused[] = ".refused";

std::string Stem(uint64_t updates) {
  return absl::StrFormat("checkpoint-%012d", updates);
}

// Removes folders that belong to no file, and those of `checkpoint`'s updates
// that it does not mean.
void RemoveUnusedFolders(const std::string& directory,
                         const v1::Checkpoint& checkpoint) {
  std::error_code ignored;  // A folder that stays does no harm.
  std::vector<std::filesystem::path> unused;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename().string();
    const size_t end = name.find(".replay-");
    if (!absl::StartsWith(name, "checkpoint-") || end == std::string::npos) {
      continue;
    }
    const std::string stem = name.substr(0, end);
    const std::string file = absl::StrCat(directory, "/", stem, ".qfckpt");
    const bool has_file = std::filesystem::exists(file, ignored) ||
                          std::filesystem::exists(file + kRefused, ignored);
    const bool ours = stem == Stem(checkpoint.updates());
    if (absl::EndsWith(name, ".tmp") || !has_file ||
        (ours && name != checkpoint.solo().replay())) {
      unused.push_back(entry.path());
    }
  }
  for (const auto& path : unused) std::filesystem::remove_all(path, ignored);
}

}  // namespace

absl::StatusOr<std::string> WriteCheckpoint(const std::string& directory,
                                            const v1::Checkpoint& checkpoint,
                                            int keep) {
  v1::Checkpoint stamped = checkpoint;
  stamped.set_format(kFormat);
  const std::string path =
      absl::StrCat(directory, "/", Stem(checkpoint.updates()), ".qfckpt");
  QFLEET_RETURN_IF_ERROR(WriteFramedFile(path, kMagic, stamped));
  const std::vector<std::string> paths = ListCheckpoints(directory);
  for (size_t i = std::max(keep, 1); i < paths.size(); ++i) {
    if (paths[i] == path) continue;  // It counts, whatever is beside it.
    std::error_code ignored;         // A file that stays does no harm.
    std::filesystem::remove(paths[i], ignored);
  }
  RemoveUnusedFolders(directory, checkpoint);
  return path;
}

std::string NewCheckpointFolder(const std::string& directory,
                                uint64_t updates) {
  for (int n = 0;; ++n) {
    const std::string name = absl::StrCat(Stem(updates), ".replay-", n);
    std::error_code ignored;
    if (!std::filesystem::exists(absl::StrCat(directory, "/", name), ignored)) {
      return name;
    }
  }
}

absl::StatusOr<v1::Checkpoint> ReadCheckpoint(const std::string& path) {
  v1::Checkpoint checkpoint;
  QFLEET_RETURN_IF_ERROR(
      ReadFramedFile(path, kMagic, "checkpoint", checkpoint));
  if (checkpoint.format() != kFormat) {
    return absl::DataLossError(
        absl::StrCat("checkpoint ", path, ": format = ", checkpoint.format(),
                     ": allowed is ", kFormat, ", this version's"));
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

void SetAsideNewerCheckpoints(const std::string& directory, uint64_t updates) {
  const std::string path =
      absl::StrCat(directory, "/", Stem(updates), ".qfckpt");
  for (const std::string& newer : ListCheckpoints(directory)) {
    if (newer <= path) break;
    std::error_code ignored;  // A file that stays does little harm.
    std::filesystem::rename(newer, newer + kRefused, ignored);
  }
}

absl::StatusOr<v1::Checkpoint> ReadNewestCheckpoint(
    const std::string& directory, std::vector<std::string>* skipped,
    const AcceptCheckpoint& accept) {
  std::string first_refusal;
  for (const std::string& path : ListCheckpoints(directory)) {
    absl::StatusOr<v1::Checkpoint> checkpoint = ReadCheckpoint(path);
    std::string refusal(checkpoint.status().message());
    if (checkpoint.ok()) {
      const absl::Status accepted =
          accept ? accept(*checkpoint) : absl::OkStatus();
      if (accepted.ok()) return checkpoint;
      refusal = absl::StrCat("checkpoint ", path, ": ", accepted.message());
    }
    if (skipped != nullptr) skipped->push_back(refusal);
    if (first_refusal.empty()) first_refusal = std::move(refusal);
  }
  if (first_refusal.empty()) {
    return absl::NotFoundError(absl::StrCat("no checkpoint in ", directory));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "no checkpoint in ", directory, " can be used: ", first_refusal));
}

}  // namespace qfleet
