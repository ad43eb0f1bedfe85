#include "common/hash.h"

// Inlined: rows are short, and a call into the library would cost as much as
// their hash.
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace qfleet {
namespace {

XXH3_state_t* State(void* state) { return static_cast<XXH3_state_t*>(state); }

}  // namespace

uint64_t Hash64(absl::string_view data) {
  return XXH3_64bits(data.data(), data.size());
}

uint32_t Hash32(const void* data, size_t bytes) {
  return static_cast<uint32_t>(XXH3_64bits(data, bytes));
}

Hasher::Hasher() : state_(XXH3_createState()) {
  XXH3_64bits_reset(State(state_));
}

Hasher::~Hasher() { XXH3_freeState(State(state_)); }

void Hasher::Add(const void* data, size_t bytes) {
  XXH3_64bits_update(State(state_), data, bytes);
}

uint64_t Hasher::Digest() const { return XXH3_64bits_digest(State(state_)); }

}  // namespace qfleet
