// What a test's writers send, by their own account, and what a shard's samples
// and files hold. Contents follow from (writer, stream, index) and from an
// item's number, so that every row that comes back can be judged.

#ifndef QFLEET_TESTS_FAULT_EXPERIENCE_H_
#define QFLEET_TESTS_FAULT_EXPERIENCE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/random.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_server/core/table.h"

namespace qfleet {

// Step column: frame uint8[frame_bytes]. Item columns: uid int64. Views: a
// stack of 3 frames at the first step, the frame at the last. mass = priority.
v1::TableSpec FaultTable(uint64_t max_items, uint64_t frame_bytes = 64);

struct SentStep {
  uint32_t stream = 0;
  uint64_t index = 0;
  bool starts_episode = false;
  std::string frame;
};

struct SentItem {
  uint64_t uid = 0;
  uint64_t writer = 0;
  uint32_t stream = 0;
  uint64_t first = 0;
  uint64_t last = 0;
  uint64_t episode_start = 0;
  float priority = 0;
  uint64_t sequence = 0;  // Of its batch.
};

// All items that were ever sent. Thread-safe.
class Record {
 public:
  explicit Record(const v1::TableSpec& spec);

  const v1::TableSpec& spec() const { return spec_; }
  uint64_t frame_bytes() const { return frame_bytes_; }
  std::string Frame(uint64_t writer, uint32_t stream, uint64_t index) const;

  void Add(const SentItem& item);
  bool Find(uint64_t uid, SentItem& item) const;
  // By uid; those of one writer are in the order of their sending.
  std::map<uint64_t, SentItem> All() const;

  // Whether each row is an item that was sent, with the contents that were
  // sent; `uids` gets them all. `with_others`: or an item that is not here.
  absl::Status Check(const v1::SampleResponse& response,
                     std::vector<uint64_t>& uids,
                     bool with_others = false) const;
  // Likewise of one row: the columns in the order of a SampleBatch.
  absl::Status CheckRow(uint64_t uid, absl::string_view frames,
                        absl::string_view next_frame) const;

 private:
  const v1::TableSpec spec_;
  const uint64_t frame_bytes_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, SentItem> items_ ABSL_GUARDED_BY(mutex_);
};

// One writer's steps and items: random episodes in a few streams, items of up
// to 6 steps. Its uids are writer << 32 | 0, 1, 2, ... Thread-compatible.
class Experience {
 public:
  // `writer` > 0. `record` must outlive this.
  Experience(uint64_t writer, uint64_t seed, Record& record);

  uint64_t writer() const { return writer_; }

  // The next step of one of the streams and the items that end there, which
  // are recorded as of the batch `sequence`.
  SentStep NextStep(uint64_t sequence, std::vector<SentItem>& items);
  v1::AppendBatch NextBatch(uint64_t sequence);

 private:
  struct Stream {
    uint64_t next = 0;
    uint64_t episode_start = 0;
    uint64_t episode_end = 0;  // Its first step is the next episode's.
  };

  const uint64_t writer_;
  Random random_;
  Record& record_;
  std::vector<Stream> streams_;
  uint64_t next_uid_;
};

v1::AppendRequest OpenOf(const v1::TableSpec& spec, uint64_t writer_id);
v1::SampleRequest SampleOpenOf(const v1::TableSpec& spec);
v1::SampleRequest DrawOf(uint32_t count, uint32_t timeout_ms);

// ---- What is in a table's files --------------------------------------------

struct FoundItem {
  uint64_t uid = 0;
  uint32_t slot = 0;
  uint32_t generation = 0;
  float priority = 0;
};

struct FoundTable {
  std::vector<FoundItem> items;  // Every item, oldest first.
  absl::flat_hash_map<uint64_t, uint64_t> last_sequence;  // Of the writers.
  v1::TableStats stats;
  Table::Recovery recovery;
  Table::Verified verified;
};

// Opens the files of a table that no process has open, without changing them,
// verifies all payload and takes every item out. DATA_LOSS if an item is not as
// it was sent or the table's invariants do not hold. `with_others`: items that
// are not in the record are left out, else they are an error.
absl::StatusOr<FoundTable> ReadTableFiles(const std::string& directory,
                                          const Record& record,
                                          const std::vector<uint64_t>& writers,
                                          bool with_others = false);

}  // namespace qfleet

#endif  // QFLEET_TESTS_FAULT_EXPERIENCE_H_
