#include "common/hash.h"

// Inlined: rows are often short, and a call into the library would cost as much
// as their hash. Long ones take the library's, which uses what the processor
// has.
#define XXH_INLINE_ALL
#include "xxhash.h"
#if defined(__x86_64__)
// As in xxh_x86dispatch.h, which cannot be included beside the inlined one.
extern "C" uint64_t XXH3_64bits_dispatch(const void* input, size_t length);
#endif

namespace qfleet {
namespace {

XXH3_state_t* State(void* state) { return static_cast<XXH3_state_t*>(state); }

uint64_t Hash(const void* data, size_t bytes) {
#if defined(__x86_64__)
  if (bytes > 1024) return XXH3_64bits_dispatch(data, bytes);
#endif
  return XXH3_64bits(data, bytes);
}

}  // namespace

uint64_t Hash64(absl::string_view data) {
  return Hash(data.data(), data.size());
}

uint32_t Hash32(const void* data, size_t bytes) {
  return static_cast<uint32_t>(Hash(data, bytes));
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
