// The bytes of a column that are not copied from where they are: a message, or
// the pieces in which it came off the wire.

#ifndef QFLEET_COMMON_COLUMN_BYTES_H_
#define QFLEET_COMMON_COLUMN_BYTES_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <vector>

#include "absl/strings/string_view.h"

namespace qfleet {

// Owns nothing. Thread-compatible.
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

  // Gives [offset, offset + bytes), which must be in the column, piece by
  // piece.
  template <typename Take>
  void Read(uint64_t offset, uint64_t bytes, Take take) const {
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
      take(piece->bytes.substr(skip, count));
      offset += count;
      bytes -= count;
      ++piece;
    }
  }

  // Copies them.
  void Copy(uint64_t offset, uint64_t bytes, char* to) const {
    Read(offset, bytes, [&to](absl::string_view piece) {
      std::memcpy(to, piece.data(), piece.size());
      to += piece.size();
    });
  }

 private:
  struct Piece {
    uint64_t offset;
    absl::string_view bytes;
  };
  std::vector<Piece> pieces_;
  uint64_t size_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_COLUMN_BYTES_H_
