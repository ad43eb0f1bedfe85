#include "replay_server/core/storage.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/files.h"
#include "common/framed_file.h"
#include "common/status_macros.h"
#include "replay_server/core/table_header.h"

namespace qfleet {
namespace {

constexpr absl::string_view kHeaderMagic = "QFLTTABL";

std::string HeaderPath(const std::string& directory) {
  return absl::StrCat(directory, "/header");
}

}  // namespace

Mapping::~Mapping() {
  if (address_ != nullptr) munmap(address_, bytes_);
}

absl::StatusOr<v1::TableHeader> ReadTableHeader(const std::string& directory) {
  v1::TableHeader header;
  QFLEET_RETURN_IF_ERROR(ReadFramedFile(HeaderPath(directory), kHeaderMagic,
                                        "table header", header));
  return header;
}

absl::Status WriteTableHeader(const std::string& directory,
                              const v1::TableHeader& header) {
  return WriteFramedFile(HeaderPath(directory), kHeaderMagic, header);
}

// -------------------------------------------------------------- anonymous ---

absl::StatusOr<Storage::Mapped> AnonymousStorage::Open(
    const v1::TableHeader& wanted) {
  Mapped mapped;
  mapped.header = wanted;
  for (const v1::TableHeader::Region& region : wanted.regions()) {
    void* address = mmap(nullptr, region.bytes(), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) {
      return absl::ResourceExhaustedError(
          absl::StrCat("table \"", wanted.spec().name(), "\", ", region.name(),
                       ": no memory for ", region.bytes(),
                       " bytes: ", std::strerror(errno)));
    }
    // Samples read rows at random, which huge pages make quicker. Only advice.
    madvise(address, region.bytes(), MADV_HUGEPAGE);
    mappings_.emplace_back(address, region.bytes());
    mapped.regions.push_back(mappings_.back().data());
  }
  return mapped;
}

// ------------------------------------------------------------------ files ---

absl::StatusOr<Storage::Mapped> MappedStorage::Open(
    const v1::TableHeader& wanted) {
  Mapped mapped;
  std::error_code error;
  mapped.is_new = !std::filesystem::exists(directory_, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot read ", directory_, ": ", error.message()));
  }
  if (mapped.is_new) {
    if (mode_ == Mode::kPrivate) {
      return absl::NotFoundError(absl::StrCat("no table at ", directory_));
    }
    QFLEET_RETURN_IF_ERROR(MakeFiles(wanted));
  }
  QFLEET_ASSIGN_OR_RETURN(mapped.header, ReadTableHeader(directory_));
  QFLEET_RETURN_IF_ERROR(CheckTableHeader(mapped.header, wanted, directory_));
  for (const v1::TableHeader::Region& region : mapped.header.regions()) {
    QFLEET_ASSIGN_OR_RETURN(Mapping mapping, MapFile(region));
    mappings_.push_back(std::move(mapping));
    mapped.regions.push_back(mappings_.back().data());
  }
  return mapped;
}

// In a folder of another name, which is given its own once all is there: one
// who is killed here leaves nothing that looks like a table.
absl::Status MappedStorage::MakeFiles(const v1::TableHeader& header) const {
  const std::string temporary = directory_ + ".new";
  std::error_code error;
  std::filesystem::remove_all(temporary, error);
  QFLEET_RETURN_IF_ERROR(MakeWritableDirectory(temporary));
  absl::Status status;
  for (const v1::TableHeader::Region& region : header.regions()) {
    status = PreallocateFile(absl::StrCat(temporary, "/", region.name()),
                             region.bytes());
    if (!status.ok()) break;
  }
  if (status.ok()) {
    status = WriteTableHeader(temporary, header);
  }
  if (status.ok()) status = RenameDirectory(temporary, directory_);
  if (!status.ok()) std::filesystem::remove_all(temporary, error);
  return status;
}

absl::StatusOr<Mapping> MappedStorage::MapFile(
    const v1::TableHeader::Region& region) const {
  const std::string path = absl::StrCat(directory_, "/", region.name());
  const bool serve = mode_ == Mode::kServe;
  const int fd = open(path.c_str(), (serve ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) {
    return absl::DataLossError(
        absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
  }
  struct stat file;
  if (fstat(fd, &file) != 0 ||
      static_cast<uint64_t>(file.st_size) != region.bytes()) {
    close(fd);
    return absl::DataLossError(absl::StrCat(
        path, " has ", file.st_size, " bytes: allowed is ", region.bytes()));
  }
  void* address = mmap(nullptr, region.bytes(), PROT_READ | PROT_WRITE,
                       serve ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  const int map_error = errno;
  close(fd);
  if (address == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot map ", path, ": ", std::strerror(map_error)));
  }
  return Mapping(address, region.bytes());
}

absl::Status MappedStorage::Sync() {
  // Rows before the record that commits them, so that what a power failure
  // leaves between two of these is nearly always whole.
  for (size_t r = mappings_.size(); r-- > 0;) {
    QFLEET_RETURN_IF_ERROR(SyncRegion(static_cast<int>(r)));
  }
  return absl::OkStatus();
}

absl::Status MappedStorage::SyncRegion(int region) {
  if (mode_ == Mode::kPrivate) return absl::OkStatus();
  const Mapping& mapping = mappings_[region];
  if (msync(mapping.data(), mapping.bytes(), MS_SYNC) == 0) {
    return absl::OkStatus();
  }
  return absl::DataLossError(
      absl::StrCat("cannot sync ", directory_, ": ", std::strerror(errno)));
}

}  // namespace qfleet
