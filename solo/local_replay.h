// A replay table in this process, behind the same Writer and Sampler that a
// cluster has: one table, no network, no threads, no clock.

#ifndef QFLEET_SOLO_LOCAL_REPLAY_H_
#define QFLEET_SOLO_LOCAL_REPLAY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_client/batch_builder.h"
#include "replay_client/sampler.h"
#include "replay_client/writer.h"
#include "replay_server/core/rate_limiter.h"
#include "replay_server/core/storage.h"
#include "replay_server/core/table.h"

namespace qfleet {

// Thread-compatible.
class LocalReplay {
 public:
  static absl::StatusOr<std::unique_ptr<LocalReplay>> Create(
      const v1::TableSpec& spec, uint64_t seed);

  // Whether the rate limiter lets a batch be sampled now.
  bool CanSample() const;

  Table& table() { return *table_; }
  const v1::TableSpec& spec() const { return table_->spec(); }

 private:
  explicit LocalReplay(const v1::TableSpec& spec)
      : limiter_(spec.rate_limiter()) {}

  AnonymousStorage storage_;
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
