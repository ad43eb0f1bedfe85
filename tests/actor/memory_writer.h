// A writer that remembers what an actor has written.

#ifndef QFLEET_TESTS_ACTOR_MEMORY_WRITER_H_
#define QFLEET_TESTS_ACTOR_MEMORY_WRITER_H_

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "replay_client/writer.h"

namespace qfleet {

struct WrittenStep {
  bool starts;
  std::string observation;
  std::string mask;  // Empty without one.
};

struct WrittenItem {
  uint32_t stream;
  uint64_t first, last;
  int32_t action;
  float return_, discount, priority;
};

template <typename T>
T As(ColumnRow row) {
  T value;
  EXPECT_EQ(row.size(), sizeof(T));
  std::memcpy(&value, row.data(), sizeof(value));
  return value;
}

inline std::string Text(ColumnRow row) { return {row.begin(), row.end()}; }

class MemoryWriter : public Writer {
 public:
  absl::StatusOr<uint64_t> AppendStep(
      uint32_t stream, bool starts,
      absl::Span<const ColumnRow> columns) override {
    WrittenStep step{.starts = starts,
                     .observation = Text(columns[0]),
                     .mask = columns.size() > 1 ? Text(columns[1]) : ""};
    EXPECT_LE(columns.size(), 2u);
    steps[stream].push_back(std::move(step));
    return steps[stream].size() - 1;
  }
  absl::Status AppendItem(uint32_t stream, uint64_t first, uint64_t last,
                          absl::Span<const ColumnRow> columns,
                          float priority) override {
    items.push_back({stream, first, last, As<int32_t>(columns[0]),
                     As<float>(columns[1]), As<float>(columns[2]), priority});
    return absl::OkStatus();
  }
  absl::Status Poll() override { return absl::OkStatus(); }
  absl::Status Flush() override { return absl::OkStatus(); }

  std::map<uint32_t, std::vector<WrittenStep>> steps;
  std::vector<WrittenItem> items;
};

}  // namespace qfleet

#endif  // QFLEET_TESTS_ACTOR_MEMORY_WRITER_H_
