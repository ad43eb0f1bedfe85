// Fills an AppendBatch, column-major, row by row.

#ifndef QFLEET_REPLAY_CLIENT_BATCH_BUILDER_H_
#define QFLEET_REPLAY_CLIENT_BATCH_BUILDER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_client/writer.h"

namespace qfleet {

struct BatchSize {
  // Of payload and of the lists beside it, about what goes over the wire.
  uint64_t bytes = 0;
  uint64_t steps = 0;
};

// Thread-compatible.
class BatchBuilder {
 public:
  explicit BatchBuilder(const v1::TableSignature& signature);

  // INVALID_ARGUMENT naming the column if a row's size is not the column's.
  absl::Status AddStep(uint32_t stream, uint64_t index, bool starts_episode,
                       absl::Span<const ColumnRow> columns);
  absl::Status AddItem(uint32_t stream, uint64_t first, uint64_t last,
                       absl::Span<const ColumnRow> columns, float priority);

  bool empty() const { return bytes_ == 0; }
  BatchSize size() const {
    return {.bytes = bytes_,
            .steps = static_cast<uint64_t>(batch_.step_index_size())};
  }

  // Gives the batch away, with this sequence, and starts a new one.
  v1::AppendBatch Take(uint64_t sequence);

 private:
  void Reset();
  void ReserveAs(const v1::AppendBatch& batch);

  const v1::TableSignature signature_;
  const std::vector<uint64_t> step_row_bytes_;  // Of each column.
  const std::vector<uint64_t> item_row_bytes_;
  const uint64_t step_bytes_;  // Of a step with what is beside it.
  const uint64_t item_bytes_;
  v1::AppendBatch batch_;
  uint64_t bytes_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_BATCH_BUILDER_H_
