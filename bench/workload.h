// What is written and sampled: tables of two shapes, and experience for them.

#ifndef QFLEET_BENCH_WORKLOAD_H_
#define QFLEET_BENCH_WORKLOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "qfleet/v1/replay.pb.h"
#include "replay_client/writer.h"

namespace qfleet::bench {

struct Shape {
  std::string name;
  v1::TableSignature signature;
  uint32_t n_step = 1;  // An item spans so many transitions.
  uint64_t max_bytes = 0;

  // What an item is when it is sampled, and a step with its item when they are
  // appended: payload only.
  uint64_t SampledBytes() const;
  uint64_t AppendedBytes() const;
};

// Frames of 84x84 bytes, stored once, sampled as two stacks of four (Mnih et
// al. 2015): an item is 56 kB.
Shape AtariShape();
// Observations of four floats (CartPole), no stacks.
Shape SmallShape();
// Observations of four channels of 10x10 floats (MinAtar), no stacks.
Shape MinAtarShape();
// Four frames of 84x84 bytes as one observation, no stacks.
Shape StackedFramesShape();

// One shard's part of a table with `max_items` over `shards` shards. No rate
// limit: it is the throughput that is measured.
v1::TableSpec TableOf(const Shape& shape, uint64_t max_items, int shards = 1);

// Endless experience of several environments in turn: in each round every
// stream gets a step, and (after an episode's first n_step steps) an item that
// ends there. Thread-compatible.
class Experience {
 public:
  struct Step {
    uint32_t stream;
    uint64_t index;  // In the stream.
    bool starts_episode;
    std::vector<ColumnRow> step_columns;
    bool has_item;
    uint64_t item_first;
    std::vector<ColumnRow> item_columns;
    float priority;
  };

  Experience(const Shape& shape, uint32_t streams);

  // Valid until the next call.
  const Step& Next();

 private:
  // Few enough that they come out of the cache, as an environment's would.
  static constexpr size_t kRows = 64;
  static constexpr uint64_t kEpisodeSteps = 500;

  const uint32_t streams_;
  const uint32_t n_step_;
  // kRows rows of each column.
  std::vector<std::string> step_rows_;
  std::vector<std::string> item_rows_;
  uint64_t count_ = 0;
  Step step_;
};

// Requests that write `steps` steps to a shard: batches with sequences from 1.
// Their writer id is whatever the stream that sends them opened with.
std::vector<v1::AppendRequest> BuildRequests(const Shape& shape,
                                             uint32_t streams, uint64_t steps,
                                             uint64_t batch_steps);

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_WORKLOAD_H_
