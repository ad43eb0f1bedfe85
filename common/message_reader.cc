#include "common/message_reader.h"

#include "common/wire_format.h"
#include "qfleet/v1/replay.pb.h"

namespace qfleet {
namespace {

// How many bytes a value of this type takes after its tag, if that is fixed.
uint64_t FixedBytes(uint32_t type) {
  return type == kWireFixed64 ? 8 : type == kWireFixed32 ? 4 : 0;
}

}  // namespace

absl::Status SlicesOf(const grpc::ByteBuffer& message,
                      std::vector<grpc::Slice>& slices) {
  if (message.Valid() && !message.Dump(&slices).ok()) {
    return absl::InternalError("the message cannot be read");
  }
  return absl::OkStatus();
}

MessageReader::MessageReader(const std::vector<grpc::Slice>& slices)
    : slices_(slices) {
  for (const grpc::Slice& slice : slices) size_ += slice.size();
  SkipEmpty();
}

bool MessageReader::ReadVarint(uint64_t& value) {
  value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (position_ == size_) return false;
    const uint8_t byte = slices_[slice_].begin()[offset_];
    Advance(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool MessageReader::ReadTag(uint32_t& field, uint32_t& type) {
  uint64_t tag;
  if (!ReadVarint(tag) || tag >> 3 == 0 || tag >> 32 != 0) return false;
  field = static_cast<uint32_t>(tag >> 3);
  type = static_cast<uint32_t>(tag & 7);
  return true;
}

bool MessageReader::ReadLength(uint64_t end, uint64_t& length) {
  return ReadVarint(length) && position_ <= end && length <= end - position_;
}

bool MessageReader::Skip(uint32_t type, uint64_t end) {
  return CopyValue(type, end, nullptr, 0);
}

bool MessageReader::CopyField(uint32_t field, uint32_t type, uint64_t end,
                              std::string& to, uint64_t most) {
  AppendVarint(WireTag(field, type), to);
  return CopyValue(type, end, &to, most);
}

bool MessageReader::CopyValue(uint32_t type, uint64_t end, std::string* to,
                              uint64_t most) {
  uint64_t bytes = FixedBytes(type);
  if (type == kWireVarint || type == kWireBytes) {
    uint64_t value;
    if (!ReadVarint(value)) return false;
    if (to != nullptr) AppendVarint(value, *to);
    if (type == kWireBytes) bytes = value;
  } else if (bytes == 0) {
    return false;  // Groups are no part of the protocol.
  }
  if (position_ > end || bytes > end - position_) return false;
  too_long_ = to != nullptr && to->size() + bytes > most;
  if (too_long_) return false;
  Read(bytes, [to](absl::string_view piece) {
    if (to != nullptr) to->append(piece.data(), piece.size());
  });
  return true;
}

bool MessageReader::ReadColumn(uint32_t type, uint64_t end,
                               ColumnBytes& column) {
  uint64_t length;
  if (type != kWireBytes || !ReadLength(end, length)) return false;
  end = position_ + length;
  while (position_ < end) {
    uint32_t field, inner;
    if (!ReadTag(field, inner)) return false;
    if (field != v1::Column::kDataFieldNumber) {
      if (!Skip(inner, end)) return false;
      continue;
    }
    if (inner != kWireBytes || !ReadLength(end, length)) return false;
    column = ColumnBytes();
    Read(length, [&column](absl::string_view piece) { column.Add(piece); });
  }
  return position_ == end;
}

}  // namespace qfleet
