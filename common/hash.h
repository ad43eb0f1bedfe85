// Checksums: XXH3, seed 0. They find damage, not malice.

#ifndef QFLEET_COMMON_HASH_H_
#define QFLEET_COMMON_HASH_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace qfleet {

// XXH3-64.
uint64_t Hash64(absl::string_view data);

// The lower 32 bits of it.
uint32_t Hash32(const void* data, size_t bytes);

// XXH3-64 of a stream of pieces.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void Add(const void* data, size_t bytes);
  uint64_t Digest() const;

 private:
  void* const state_;
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_HASH_H_
