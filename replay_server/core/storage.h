// Where a table's rows live: one region of bytes for each purpose. The table
// addresses rows by offset and never assumes who backs the memory, so that a
// region may be anonymous memory or a mapped file.

#ifndef QFLEET_REPLAY_SERVER_CORE_STORAGE_H_
#define QFLEET_REPLAY_SERVER_CORE_STORAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qfleet {

// Gives out regions, which live as long as it. Thread-compatible.
class Storage {
 public:
  virtual ~Storage() = default;

  // A region of at least `bytes`, zero when new, 64-byte aligned. `name` says
  // what it is for ("steps", "items") and is unique in the storage.
  // RESOURCE_EXHAUSTED if there is no room.
  virtual absl::StatusOr<char*> Region(absl::string_view name,
                                       uint64_t bytes) = 0;
};

// Zero pages of the kernel: memory is used as rows are written, and all of it
// is gone with the process.
class AnonymousStorage : public Storage {
 public:
  ~AnonymousStorage() override;
  absl::StatusOr<char*> Region(absl::string_view name, uint64_t bytes) override;

 private:
  std::vector<std::pair<void*, uint64_t>> regions_;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_STORAGE_H_
