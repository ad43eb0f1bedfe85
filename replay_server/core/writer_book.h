// What a table knows of its writers: the last sequence, and where each stream
// stands. Bounded: beyond kMaxWriters the one unused for longest is forgotten.
// A writer that is forgotten and comes back is a new one: a batch that it sends
// again would be stored again, and a stream goes on at its next episode. It
// takes 65,536 other writers' batches for that to happen.
//
// Thread-compatible.

#ifndef QFLEET_REPLAY_SERVER_CORE_WRITER_BOOK_H_
#define QFLEET_REPLAY_SERVER_CORE_WRITER_BOOK_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/container/flat_hash_map.h"

namespace qfleet {

// A stream after its newest step.
struct StreamState {
  uint64_t next_index = 0;
  uint64_t newest_id = 0;
  uint32_t episode_offset = 0;  // Of the newest step.
};

struct WriterState {
  uint64_t last_sequence = 0;
  uint64_t last_used = 0;
  absl::flat_hash_map<uint32_t, StreamState> streams;
};

class WriterBook {
 public:
  static constexpr size_t kMaxWriters = 65536;
  static constexpr size_t kMaxStreams = 65536;  // Of one writer.

  // Null if not known.
  const WriterState* Find(uint64_t writer_id) const {
    auto found = writers_.find(writer_id);
    return found == writers_.end() ? nullptr : &found->second;
  }

  // The writer's state, new if need be; valid until the next call.
  WriterState& Use(uint64_t writer_id) {
    const auto [found, is_new] = writers_.try_emplace(writer_id);
    found->second.last_used = ++uses_;
    if (is_new && writers_.size() > kMaxWriters) {
      // A search through all, which only a new writer beyond the bound costs.
      writers_.erase(std::min_element(
          writers_.begin(), writers_.end(), [](const auto& a, const auto& b) {
            return a.second.last_used < b.second.last_used;
          }));
    }
    return found->second;
  }

  size_t size() const { return writers_.size(); }

 private:
  absl::flat_hash_map<uint64_t, WriterState> writers_;
  uint64_t uses_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_WRITER_BOOK_H_
