// What moves items between a client and a server, for as long as it is told:
// the sides of a comparison.

#ifndef QFLEET_BENCH_LOAD_H_
#define QFLEET_BENCH_LOAD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/workload.h"

namespace qfleet::bench {

struct Moved {
  double items = 0;
  double seconds = 0;
  double rate() const { return items / seconds; }
};

// Thread-compatible.
class Load {
 public:
  virtual ~Load() = default;
  // Moves items for about so long. What it keeps in flight is not counted.
  virtual absl::StatusOr<Moved> Run(absl::Duration duration) = 0;
};

// ---------------------------------------------------------------- append ---

struct AppendOptions {
  uint32_t streams = 8;
  uint64_t batch_bytes = 64 << 10;
  uint32_t batch_steps = 64;
  uint64_t max_unacknowledged_steps = 256;

  // Steps in a batch: whichever bound comes first. As RemoteWriter counts.
  uint64_t StepsInBatch(const Shape& shape) const;
  // Batches in flight.
  uint64_t Window(const Shape& shape) const;
};

// RemoteWriter: rows in, batches made and acknowledged.
std::unique_ptr<Load> MakeWriterLoad(const Shape& shape,
                                     const std::vector<std::string>& addresses,
                                     const AppendOptions& options);
// Batches that were made beforehand, over the same service.
std::unique_ptr<Load> MakeBareAppendLoad(const Shape& shape,
                                         const std::string& address,
                                         const AppendOptions& options);
// Bytes of one of these batches on the wire.
uint64_t BatchWireBytes(const Shape& shape, const AppendOptions& options);

// Writes so many steps, fast, and waits for the last acknowledgement.
absl::Status Fill(const Shape& shape, const std::vector<std::string>& addresses,
                  uint64_t steps);

// ---------------------------------------------------------------- sample ---

// RemoteSampler: merged batches with their probabilities.
std::unique_ptr<Load> MakeSamplerLoad(const Shape& shape,
                                      const std::vector<std::string>& addresses,
                                      uint32_t batch_size, uint32_t prefetch);
// Rows of one of the answers that it asks for, and bytes of one row there.
uint32_t RowsInAnswer(const Shape& shape, uint32_t batch_size,
                      uint32_t prefetch);
uint64_t SampleWireBytes(const Shape& shape);
// The shard's answers as they come, two in flight.
std::unique_ptr<Load> MakeBareSampleLoad(const Shape& shape,
                                         const std::string& address,
                                         uint32_t batch_size);

// -------------------------------------------------------------- raw gRPC ---

// Messages of so many bytes, each standing for `items`.
std::unique_ptr<Load> MakeRawDownloadLoad(const std::string& address,
                                          uint64_t message_bytes, double items);
// Acknowledged, at most `window` in flight.
std::unique_ptr<Load> MakeRawUploadLoad(const std::string& address,
                                        uint64_t message_bytes, double items,
                                        uint64_t window);

// ------------------------------------------------------------------- all ---

// The loads at the same time, each in a thread of its own.
std::unique_ptr<Load> MakeTogetherLoad(
    std::vector<std::unique_ptr<Load>> loads);

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_LOAD_H_
