// A Protobuf message off the wire, field by field, without copying its columns:
// they are found in the pieces of the message and stay there. (The generated
// parser would copy each column once more, which for images is a third of the
// work.) What is not a column is moved to a message without columns, which the
// generated parser takes.
//
//   std::vector<grpc::Slice> slices;
//   QFLEET_RETURN_IF_ERROR(SlicesOf(bytes, slices));
//   MessageReader reader(slices);
//   while (reader.position() < reader.size()) {
//     uint32_t field, type;
//     if (!reader.ReadTag(field, type)) return malformed;
//     ...
//   }

#ifndef QFLEET_COMMON_MESSAGE_READER_H_
#define QFLEET_COMMON_MESSAGE_READER_H_

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/column_bytes.h"
#include "grpcpp/support/byte_buffer.h"

namespace qfleet {

// The pieces of a message, which live as long as `slices`.
absl::Status SlicesOf(const grpc::ByteBuffer& message,
                      std::vector<grpc::Slice>& slices);

// A position in a message. What reads is false at its end and where it is
// malformed. An `end` is a position up to size(). Thread-compatible.
class MessageReader {
 public:
  // `slices` must outlive it.
  explicit MessageReader(const std::vector<grpc::Slice>& slices);

  uint64_t position() const { return position_; }
  uint64_t size() const { return size_; }

  bool ReadVarint(uint64_t& value);
  bool ReadTag(uint32_t& field, uint32_t& type);
  // The length of what follows, all of which must end by `end`.
  bool ReadLength(uint64_t end, uint64_t& length);

  // Gives the next `bytes`, which must be there, piece by piece.
  template <typename Take>
  void Read(uint64_t bytes, Take take) {
    assert(bytes <= size_ - position_);
    while (bytes > 0) {
      const grpc::Slice& slice = slices_[slice_];
      const uint64_t count = std::min<uint64_t>(bytes, slice.size() - offset_);
      take(absl::string_view(
          reinterpret_cast<const char*>(slice.begin()) + offset_, count));
      Advance(count);
      bytes -= count;
    }
  }

  // Skips the value of a field, which must end by `end`.
  bool Skip(uint32_t type, uint64_t end);
  // Likewise, and appends the field to `to`.
  bool CopyField(uint32_t field, uint32_t type, uint64_t end, std::string& to,
                 uint64_t most = std::numeric_limits<uint64_t>::max());
  // Whether that was false because `to` would have more than `most` bytes.
  bool too_long() const { return too_long_; }
  // The value of a field that is a Column. It refers to the slices.
  bool ReadColumn(uint32_t type, uint64_t end, ColumnBytes& column);

 private:
  bool CopyValue(uint32_t type, uint64_t end, std::string* to, uint64_t most);
  void Advance(uint64_t bytes) {
    position_ += bytes;
    offset_ += bytes;
    SkipEmpty();
  }
  void SkipEmpty() {
    while (slice_ < slices_.size() && offset_ == slices_[slice_].size()) {
      ++slice_;
      offset_ = 0;
    }
  }

  const std::vector<grpc::Slice>& slices_;
  uint64_t size_ = 0;
  uint64_t position_ = 0;
  bool too_long_ = false;
  size_t slice_ = 0;
  uint64_t offset_ = 0;  // In the slice.
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_MESSAGE_READER_H_
