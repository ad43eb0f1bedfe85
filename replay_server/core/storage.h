// Where a table's rows live: one region of bytes for each purpose
// (table_header.h). The table addresses rows by offset and never assumes who
// backs the memory.
//
//   MappedStorage storage("/data/replay", MappedStorage::Mode::kServe);
//   auto table = Table::Create(spec, storage, seed);
//   ...
//   storage.Sync();  // now and then
//
// Thread-compatible; Sync may run while the regions are written.

#ifndef QFLEET_REPLAY_SERVER_CORE_STORAGE_H_
#define QFLEET_REPLAY_SERVER_CORE_STORAGE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qfleet/v1/storage.pb.h"

namespace qfleet {

// Of one table. Regions live as long as it.
class Storage {
 public:
  virtual ~Storage() = default;

  struct Mapped {
    v1::TableHeader header;      // The wanted one, or that of the earlier life.
    std::vector<char*> regions;  // As header.regions, 64-byte aligned.
    bool is_new = true;          // All zero.
  };
  // At most once. RESOURCE_EXHAUSTED if there is no room; FAILED_PRECONDITION
  // if there is another table; DATA_LOSS if a file is damaged or has another
  // size than it should.
  virtual absl::StatusOr<Mapped> Open(const v1::TableHeader& wanted) = 0;

  // Until all that was written before is where a power failure does not reach.
  // After an error nothing can be relied on any more.
  virtual absl::Status Sync() { return absl::OkStatus(); }
  // Of one region, by its place in header.regions.
  virtual absl::Status SyncRegion(int /*region*/) { return absl::OkStatus(); }

  // Where the files are; empty: there are none.
  virtual std::string directory() const { return ""; }
};

// A mapping; unmaps itself.
class Mapping {
 public:
  Mapping() = default;
  Mapping(void* address, uint64_t bytes) : address_(address), bytes_(bytes) {}
  Mapping(Mapping&& other) noexcept { *this = std::move(other); }
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping();

  char* data() const { return static_cast<char*>(address_); }
  uint64_t bytes() const { return bytes_; }

 private:
  void* address_ = nullptr;
  uint64_t bytes_ = 0;
};

// Zero pages of the kernel: memory is used as rows are written, and all of it
// is gone with the process.
class AnonymousStorage : public Storage {
 public:
  absl::StatusOr<Mapped> Open(const v1::TableHeader& wanted) override;

 private:
  std::vector<Mapping> mappings_;
};

// Files in a folder, mapped into memory and preallocated: a full disk is an
// error of Open, not a signal later.
class MappedStorage : public Storage {
 public:
  enum class Mode {
    kServe,    // What is written reaches the files; they are made if need be.
    kPrivate,  // The files stay as they are, and must be there.
  };

  // `directory` is for this table alone, and its parent is there.
  MappedStorage(std::string directory, Mode mode)
      : directory_(std::move(directory)), mode_(mode) {}

  absl::StatusOr<Mapped> Open(const v1::TableHeader& wanted) override;
  absl::Status Sync() override;
  absl::Status SyncRegion(int region) override;
  std::string directory() const override { return directory_; }

 private:
  absl::Status MakeFiles(const v1::TableHeader& header) const;
  absl::StatusOr<Mapping> MapFile(const v1::TableHeader::Region& region) const;

  const std::string directory_;
  const Mode mode_;
  std::vector<Mapping> mappings_;
};

// The file `header` of a table's folder. DATA_LOSS if it is damaged.
absl::StatusOr<v1::TableHeader> ReadTableHeader(const std::string& directory);
absl::Status WriteTableHeader(const std::string& directory,
                              const v1::TableHeader& header);

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_STORAGE_H_
