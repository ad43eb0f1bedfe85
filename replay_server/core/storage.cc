#include "replay_server/core/storage.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace qfleet {

AnonymousStorage::~AnonymousStorage() {
  for (const auto& [address, bytes] : regions_) munmap(address, bytes);
}

absl::StatusOr<char*> AnonymousStorage::Region(absl::string_view name,
                                               uint64_t bytes) {
  bytes = std::max<uint64_t>(bytes, 1);  // mmap refuses 0.
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("storage region \"", name, "\": no memory for ", bytes,
                     " bytes: ", std::strerror(errno)));
  }
  // Samples read rows at random, which huge pages make quicker. Only advice.
  madvise(address, bytes, MADV_HUGEPAGE);
  regions_.emplace_back(address, bytes);
  return static_cast<char*>(address);
}

}  // namespace qfleet
