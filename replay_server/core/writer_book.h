// What a table knows of its writers: the last sequence, and where each stream
// stands. Bounded: beyond kMaxWriters the one unused for longest is forgotten,
// and beyond kMaxIdleStreams more than the ring has steps those streams that
// have none there.
// A writer that is forgotten and comes back is a new one: a batch that it sends
// again would be stored again, and a stream goes on at its next episode. It
// takes 65,536 other writers' batches for that to happen.
//
// Region "writers", little-endian: kMaxWriters slots of WriterSlot. Streams are
// not in it; a table that is opened again finds them in its steps.
//
// Thread-compatible.

#ifndef QFLEET_REPLAY_SERVER_CORE_WRITER_BOOK_H_
#define QFLEET_REPLAY_SERVER_CORE_WRITER_BOOK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "replay_server/core/step_ring.h"

namespace qfleet {

// A stream after its newest step.
struct StreamState {
  uint64_t next_index = 0;
  uint64_t newest_id = 0;
  uint32_t episode_offset = 0;  // Of the newest step.
  // As its rows say that an earlier life left. There may have been newer ones:
  // a power failure or damage takes steps, and leaves the writer's sequence.
  bool recovered = false;
};

struct WriterState {
  uint64_t last_sequence = 0;
  uint64_t last_used = 0;  // The number of its last commit.
  uint32_t slot = 0;
  absl::flat_hash_map<uint32_t, StreamState> streams;
};

struct WriterSlot {
  uint64_t writer_id;  // 0: empty.
  uint64_t last_sequence;
  uint64_t last_used;
  uint32_t check;  // XXH3, lower 32 bits, of the fields before.
  uint32_t unused;
};
static_assert(sizeof(WriterSlot) == 32);

class WriterBook {
 public:
  static constexpr size_t kMaxWriters = 65536;
  static constexpr size_t kMaxStreams = 65536;      // Of one writer.
  static constexpr size_t kMaxIdleStreams = 65536;  // Of all.
  static constexpr uint64_t kBytes = kMaxWriters * sizeof(WriterSlot);

  // `region`: kBytes, zero when new.
  explicit WriterBook(char* region);

  // Takes what an earlier life left. Slots that are torn are empty; how many.
  uint64_t Recover();

  // Null if not known.
  const WriterState* Find(uint64_t writer_id) const {
    auto found = writers_.find(writer_id);
    return found == writers_.end() ? nullptr : &found->second;
  }
  WriterState* Find(uint64_t writer_id) {
    auto found = writers_.find(writer_id);
    return found == writers_.end() ? nullptr : &found->second;
  }

  // A batch of this writer is stored; `commit` numbers them all. The writer's
  // state, new if need be, valid until the next call.
  WriterState& Commit(uint64_t writer_id, uint64_t sequence, uint64_t commit);

  // Where a stream of that writer stands now.
  void SetStream(WriterState& writer, uint32_t stream,
                 const StreamState& state) {
    streams_ += writer.streams.insert_or_assign(stream, state).second ? 1 : 0;
  }

  // Forgets streams that have no step in the ring, if there are too many.
  // They begin at their next episode.
  void BoundStreams(const StepRing& ring);

  size_t size() const { return writers_.size(); }
  size_t streams() const { return streams_; }

  // From here on the region is zero.
  uint64_t used_bytes() const { return never_used_ * sizeof(WriterSlot); }

 private:
  uint32_t FreeSlot();

  WriterSlot* const slots_;
  absl::flat_hash_map<uint64_t, WriterState> writers_;
  size_t streams_ = 0;          // Of all writers.
  uint32_t never_used_ = 0;     // Slots from here on are empty.
  std::vector<uint32_t> free_;  // And these.
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_WRITER_BOOK_H_
