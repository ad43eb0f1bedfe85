// A replay table in this process, behind the same Writer and Sampler that a
// cluster has: one table, no network, no threads, no clock.

#ifndef QFLEET_SOLO_LOCAL_REPLAY_H_
#define QFLEET_SOLO_LOCAL_REPLAY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qfleet/v1/checkpoint.pb.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_client/batch_builder.h"
#include "replay_client/sampler.h"
#include "replay_client/writer.h"
#include "replay_server/core/rate_limiter.h"
#include "replay_server/core/storage.h"
#include "replay_server/core/table.h"
#include "replay_server/core/table_header.h"

namespace qfleet {

// A table's rows as of one moment, copied, and what its files lack.
struct TableCopy {
  v1::TableHeader header;
  std::vector<Table::Piece> regions[kRegionCount];
  v1::TableVolatile rest;
};

// Writes `copy` as the folder `path`, which is not there yet: a checkpoint of a
// shard (replay_server/core/checkpoint.h), whole once it has its name. The hash
// of what its manifest says of the files, which names the contents.
absl::StatusOr<uint64_t> WriteTableCopy(const TableCopy& copy,
                                        const std::string& path);

// DATA_LOSS if `path` is not whole or is not of this hash. Reads all of it.
absl::Status CheckTableCopy(const std::string& path, uint64_t hash);

// Thread-compatible.
class LocalReplay {
 public:
  static absl::StatusOr<std::unique_ptr<LocalReplay>> Create(
      const v1::TableSpec& spec, uint64_t seed);

  // With what was copied to `path`. The folder is only read and may go while
  // the replay lives. FAILED_PRECONDITION if its table is another one than
  // `spec`.
  static absl::StatusOr<std::unique_ptr<LocalReplay>> Open(
      const v1::TableSpec& spec, const std::string& path,
      const v1::TableVolatile& rest);

  // Between two batches.
  TableCopy Copy();

  // Whether there are `count` items to draw and the rate limiter allows it now.
  bool CanSample(uint32_t count) const;

  Table& table() { return *table_; }
  const v1::TableSpec& spec() const { return table_->spec(); }

 private:
  explicit LocalReplay(const v1::TableSpec& spec)
      : limiter_(spec.rate_limiter()) {}

  std::unique_ptr<Storage> storage_;
  const RateLimiter limiter_;
  std::unique_ptr<Table> table_;
};

// Stores at each Poll. Thread-compatible.
class LocalWriter : public Writer {
 public:
  explicit LocalWriter(LocalReplay& replay);

  absl::StatusOr<uint64_t> AppendStep(
      uint32_t stream, bool starts_episode,
      absl::Span<const ColumnRow> columns) override;
  absl::Status AppendItem(uint32_t stream, uint64_t first, uint64_t last,
                          absl::Span<const ColumnRow> columns,
                          float priority) override;
  absl::Status Poll() override;
  absl::Status Flush() override { return Poll(); }

  // Where streams and batches stand, after a Poll.
  void Save(v1::SoloState& state) const;
  void Load(const v1::SoloState& state);

 private:
  LocalReplay& replay_;
  BatchBuilder builder_;
  std::vector<uint64_t> next_index_;  // Of each stream.
  uint64_t sequence_ = 0;
};

// DEADLINE_EXCEEDED from Next while the rate limiter says no: the caller acts
// first. Thread-compatible.
class LocalSampler : public Sampler {
 public:
  LocalSampler(LocalReplay& replay, uint32_t batch_size)
      : replay_(replay), batch_size_(batch_size) {}

  absl::StatusOr<std::unique_ptr<SampleBatch>> Next() override;
  absl::Status UpdatePriorities(absl::Span<const SampleKey> keys,
                                absl::Span<const float> priorities) override;
  ReplayView View() const override;

 private:
  LocalReplay& replay_;
  const uint32_t batch_size_;
  uint64_t applied_ = 0;
  uint64_t stale_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_SOLO_LOCAL_REPLAY_H_
