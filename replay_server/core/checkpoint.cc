#include "replay_server/core/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/files.h"
#include "common/framed_file.h"
#include "common/hash.h"
#include "common/status_macros.h"
#include "replay_server/core/data_directory.h"
#include "replay_server/core/direct_file.h"
#include "replay_server/core/storage.h"
#include "replay_server/core/table_header.h"

namespace qfleet {
namespace {

constexpr absl::string_view kManifestMagic = "QFLTMANI";
constexpr uint32_t kFormat = 1;
constexpr absl::string_view kTemporary = ".tmp";

// Closes itself.
class File {
 public:
  File(const std::string& path, int flags)
      : path_(path), fd_(open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int fd() const { return fd_; }
  absl::Status status() const {
    return fd_ >= 0 ? absl::OkStatus() : FileError("open", path_);
  }

 private:
  const std::string path_;
  const int fd_;
};

// Gives the file's pieces to `take`; its XXH3-64. `direct`: past the page
// cache, for one who has others to serve.
absl::StatusOr<uint64_t> ReadThrough(
    const std::string& path, bool direct, uint64_t& bytes,
    const std::function<absl::Status(const char*, size_t)>& take) {
  Hasher hasher;
  bytes = 0;
  QFLEET_RETURN_IF_ERROR(
      ReadPieces(path, direct, [&](const char* data, size_t size) {
        hasher.Add(data, size);
        bytes += size;
        return take ? take(data, size) : absl::OkStatus();
      }));
  return hasher.Digest();
}

// Of the files in a folder, in order.
absl::StatusOr<std::set<std::string>> FileNames(const std::string& directory) {
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory, error)) {
    names.insert(entry.path().filename().string());
  }
  if (!error) return names;
  return absl::UnavailableError(
      absl::StrCat("cannot read ", directory, ": ", error.message()));
}

// Whole or not there at all, as what has its final name is.
void RemoveCheckpoint(const std::string& path) {
  std::error_code ignored;  // What stays does no harm.
  const std::string temporary = absl::StrCat(path, kTemporary);
  std::filesystem::rename(path, temporary, ignored);
  std::filesystem::remove_all(temporary, ignored);
}

std::string Prefix(uint32_t shard) {
  return absl::StrCat("shard-", shard, "-");
}

absl::Status CheckFile(const std::string& checkpoint,
                       const v1::CheckpointManifest::File& file, uint64_t bytes,
                       uint64_t hash) {
  if (bytes == file.bytes() && hash == file.hash()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "checkpoint file ", checkpoint, "/", file.path(), " has ", bytes,
      " bytes, ", file.bytes(), " were written",
      bytes == file.bytes() ? "; its checksum does not match" : ""));
}

}  // namespace

// ------------------------------------------------------------------ write ---

absl::Status TableFilesWriter::Open(const std::string& directory,
                                    const v1::TableHeader& header) {
  QFLEET_RETURN_IF_ERROR(MakeWritableDirectory(directory));
  QFLEET_RETURN_IF_ERROR(WriteTableHeader(directory, header));
  for (const v1::TableHeader::Region& region : header.regions()) {
    QFLEET_RETURN_IF_ERROR(files_.emplace_back().Create(
        absl::StrCat(directory, "/", region.name()), region.bytes()));
  }
  return absl::OkStatus();
}

absl::Status TableFilesWriter::Write(int region, uint64_t offset,
                                     const char* data, uint64_t bytes) {
  return files_[region].Write(offset, data, bytes);
}

absl::Status TableFilesWriter::Sync() {
  for (DirectFile& file : files_) QFLEET_RETURN_IF_ERROR(file.Sync());
  return absl::OkStatus();
}

absl::StatusOr<std::string> BeginCheckpoint(const std::string& directory,
                                            uint32_t shard) {
  QFLEET_RETURN_IF_ERROR(MakeWritableDirectory(directory));
  // What was interrupted, by a kill say, is of no use.
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename().string();
    if (absl::StartsWith(name, Prefix(shard)) &&
        absl::EndsWith(name, kTemporary)) {
      std::filesystem::remove_all(entry.path(), ignored);
    }
  }
  const std::string path = absl::StrCat(
      directory, "/", Prefix(shard),
      absl::FormatTime("%Y%m%dT%H%M%E3SZ", absl::Now(), absl::UTCTimeZone()),
      kTemporary);
  QFLEET_RETURN_IF_ERROR(MakeWritableDirectory(path));
  return path;
}

absl::StatusOr<std::string> FinishCheckpoint(
    const std::string& temporary, uint32_t shard, absl::string_view version,
    uint32_t keep, const std::function<bool()>& stopped) {
  v1::CheckpointManifest manifest;
  manifest.set_format(kFormat);
  manifest.set_shard(shard);
  manifest.set_version(std::string(version));
  manifest.set_created_unix_seconds(absl::ToUnixSeconds(absl::Now()));
  const auto go_on = [&stopped](const char*, size_t) {
    if (!stopped || !stopped()) return absl::OkStatus();
    return absl::CancelledError("the shard is shutting down");
  };
  for (const std::string& table : ListTables(temporary)) {
    QFLEET_ASSIGN_OR_RETURN(const std::set<std::string> names,
                            FileNames(temporary + "/" + table));
    for (const std::string& name : names) {
      v1::CheckpointManifest::File& file = *manifest.add_files();
      file.set_path(absl::StrCat(table, "/", name));
      uint64_t bytes = 0;
      QFLEET_ASSIGN_OR_RETURN(
          const uint64_t hash,
          ReadThrough(absl::StrCat(temporary, "/", file.path()),
                      /*direct=*/true, bytes, go_on));
      file.set_bytes(bytes);
      file.set_hash(hash);
    }
    QFLEET_RETURN_IF_ERROR(SyncDirectory(temporary + "/" + table));
  }
  QFLEET_RETURN_IF_ERROR(
      WriteFramedFile(temporary + "/MANIFEST", kManifestMagic, manifest));
  const std::string path =
      temporary.substr(0, temporary.size() - kTemporary.size());
  QFLEET_RETURN_IF_ERROR(RenameDirectory(temporary, path));
  if (keep > 0) {
    const std::vector<std::string> all = ListShardCheckpoints(
        std::filesystem::path(path).parent_path().string(), shard);
    for (size_t i = keep; i < all.size(); ++i) {
      // Not the newest by name if the clock was set back.
      if (all[i] != path) RemoveCheckpoint(all[i]);
    }
  }
  return path;
}

// ------------------------------------------------------------------- read ---

std::vector<std::string> ListShardCheckpoints(const std::string& directory,
                                              uint32_t shard) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (absl::StartsWith(name, Prefix(shard)) &&
        !absl::EndsWith(name, kTemporary)) {
      paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end(), std::greater<>());
  return paths;
}

absl::StatusOr<v1::CheckpointManifest> CheckCheckpoint(const std::string& path,
                                                       bool contents) {
  v1::CheckpointManifest manifest;
  QFLEET_RETURN_IF_ERROR(ReadFramedFile(path + "/MANIFEST", kManifestMagic,
                                        "checkpoint manifest", manifest));
  if (manifest.format() != kFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat("checkpoint ", path, ": format = ", manifest.format(),
                     ": allowed is ", kFormat));
  }
  if (!contents) return manifest;
  for (const v1::CheckpointManifest::File& file : manifest.files()) {
    uint64_t bytes = 0;
    QFLEET_ASSIGN_OR_RETURN(const uint64_t hash,
                            ReadThrough(absl::StrCat(path, "/", file.path()),
                                        /*direct=*/false, bytes, {}));
    QFLEET_RETURN_IF_ERROR(CheckFile(path, file, bytes, hash));
  }
  return manifest;
}

namespace {

absl::Status CheckRestorable(const std::string& checkpoint,
                             const v1::CheckpointManifest& manifest,
                             const v1::TableHeader& wanted) {
  const std::string& table = wanted.spec().name();
  std::set<std::string> there;
  for (const v1::CheckpointManifest::File& file : manifest.files()) {
    there.insert(file.path());
  }
  if (there.count(table + "/header") == 0) {
    return absl::NotFoundError(absl::StrCat("checkpoint ", checkpoint,
                                            " has no table \"", table, "\""));
  }
  const std::string source = absl::StrCat(checkpoint, "/", table);
  QFLEET_ASSIGN_OR_RETURN(const v1::TableHeader header,
                          ReadTableHeader(source));
  QFLEET_RETURN_IF_ERROR(CheckTableHeader(header, wanted, source));
  for (const v1::TableHeader::Region& region : header.regions()) {
    const std::string path = absl::StrCat(table, "/", region.name());
    if (there.count(path) > 0) continue;
    return absl::DataLossError(
        absl::StrCat("checkpoint ", checkpoint, " has no ", path));
  }
  return absl::OkStatus();
}

absl::Status CopyFile(const std::string& checkpoint,
                      const v1::CheckpointManifest::File& file,
                      const std::string& to) {
  QFLEET_RETURN_IF_ERROR(PreallocateFile(to, file.bytes()));
  File target(to, O_WRONLY);
  QFLEET_RETURN_IF_ERROR(target.status());
  uint64_t at = 0;
  uint64_t bytes = 0;
  QFLEET_ASSIGN_OR_RETURN(
      const uint64_t hash,
      ReadThrough(absl::StrCat(checkpoint, "/", file.path()), /*direct=*/false,
                  bytes, [&](const char* data, size_t size) {
                    absl::Status status =
                        WriteAt(target.fd(), to, at, data, size);
                    at += size;
                    return status;
                  }));
  QFLEET_RETURN_IF_ERROR(CheckFile(checkpoint, file, bytes, hash));
  return fsync(target.fd()) == 0 ? absl::OkStatus() : FileError("sync", to);
}

std::string Unfinished(const RestoredTable& table) {
  return table.directory + ".new";
}

absl::Status CopyTable(const std::string& checkpoint,
                       const v1::CheckpointManifest& manifest,
                       const RestoredTable& table) {
  const std::string temporary = Unfinished(table);
  std::error_code error;
  std::filesystem::remove_all(temporary, error);
  QFLEET_RETURN_IF_ERROR(MakeWritableDirectory(temporary));
  for (const v1::CheckpointManifest::File& file : manifest.files()) {
    const std::filesystem::path path(file.path());
    if (path.parent_path() != table.wanted.spec().name()) continue;
    QFLEET_RETURN_IF_ERROR(
        CopyFile(checkpoint, file,
                 absl::StrCat(temporary, "/", path.filename().string())));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RestoreTables(const std::string& checkpoint,
                           const std::vector<RestoredTable>& tables) {
  QFLEET_ASSIGN_OR_RETURN(const v1::CheckpointManifest manifest,
                          CheckCheckpoint(checkpoint, /*contents=*/false));
  // A copy that cannot be served, or one table of several, would be in the way
  // of the right ones.
  for (const RestoredTable& table : tables) {
    QFLEET_RETURN_IF_ERROR(CheckRestorable(checkpoint, manifest, table.wanted));
  }
  absl::Status status;
  for (const RestoredTable& table : tables) {
    status = CopyTable(checkpoint, manifest, table);
    if (!status.ok()) break;
  }
  for (const RestoredTable& table : tables) {
    if (!status.ok()) break;
    status = RenameDirectory(Unfinished(table), table.directory);
  }
  if (status.ok()) return status;
  std::error_code ignored;
  for (const RestoredTable& table : tables) {
    std::filesystem::remove_all(Unfinished(table), ignored);
    std::filesystem::remove_all(table.directory, ignored);
  }
  return status;
}

}  // namespace qfleet
