// A batch as a table takes it: the lists of a v1::AppendBatch, and the columns
// as bytes that lie where they lie, in the message itself or in the pieces in
// which they came off the wire. They are copied once, into the table's rows.

#ifndef QFLEET_REPLAY_SERVER_CORE_APPEND_INPUT_H_
#define QFLEET_REPLAY_SERVER_CORE_APPEND_INPUT_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/string_view.h"
#include "qfleet/v1/replay.pb.h"

namespace qfleet {

// The bytes of one column, in pieces. Owns nothing. Thread-compatible.
class ColumnBytes {
 public:
  ColumnBytes() = default;
  explicit ColumnBytes(absl::string_view bytes) { Add(bytes); }

  void Add(absl::string_view bytes) {
    if (bytes.empty()) return;
    pieces_.push_back({size_, bytes});
    size_ += bytes.size();
  }

  uint64_t size() const { return size_; }

  // Copies [offset, offset + bytes), which must be in the column.
  void Copy(uint64_t offset, uint64_t bytes, char* to) const {
    if (bytes == 0) return;
    auto piece = pieces_.begin();
    if (pieces_.size() > 1) {
      piece = std::prev(std::upper_bound(
          pieces_.begin(), pieces_.end(), offset,
          [](uint64_t at, const Piece& p) { return at < p.offset; }));
    }
    while (bytes > 0) {
      const uint64_t skip = offset - piece->offset;
      const uint64_t count =
          std::min<uint64_t>(bytes, piece->bytes.size() - skip);
      std::memcpy(to, piece->bytes.data() + skip, count);
      to += count;
      offset += count;
      bytes -= count;
      ++piece;
    }
  }

 private:
  struct Piece {
    uint64_t offset;
    absl::string_view bytes;
  };
  std::vector<Piece> pieces_;
  uint64_t size_ = 0;
};

// What it refers to must live until the batch was committed or given up.
struct AppendInput {
  AppendInput() = default;
  // The columns of the message itself.
  AppendInput(const v1::AppendBatch& batch)  // NOLINT: is what it says.
      : lists(&batch) {
    for (const v1::Column& column : batch.step_columns()) {
      step_columns.emplace_back(column.data());
    }
    for (const v1::Column& column : batch.item_columns()) {
      item_columns.emplace_back(column.data());
    }
  }

  const v1::AppendBatch* lists = nullptr;  // Its columns are not looked at.
  std::vector<ColumnBytes> step_columns;
  std::vector<ColumnBytes> item_columns;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_APPEND_INPUT_H_
