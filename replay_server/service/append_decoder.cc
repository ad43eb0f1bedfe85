#include "replay_server/service/append_decoder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/io/coded_stream.h"

namespace qfleet {
namespace {

using google::protobuf::io::CodedOutputStream;

// protobuf.dev/programming-guides/encoding
enum WireType : uint32_t {
  kVarint = 0,
  kFixed64 = 1,
  kBytes = 2,
  kFixed32 = 5
};

constexpr uint32_t kOpenField = v1::AppendRequest::kOpenFieldNumber;
constexpr uint32_t kBatchField = v1::AppendRequest::kBatchFieldNumber;
constexpr uint32_t kStepColumns = v1::AppendBatch::kStepColumnsFieldNumber;
constexpr uint32_t kItemColumns = v1::AppendBatch::kItemColumnsFieldNumber;
constexpr uint32_t kData = v1::Column::kDataFieldNumber;

void AppendVarint(uint64_t value, std::string& to) {
  uint8_t bytes[10];
  const uint8_t* end = CodedOutputStream::WriteVarint64ToArray(value, bytes);
  to.append(reinterpret_cast<const char*>(bytes), end - bytes);
}

}  // namespace

// A position in the message. Reading fails at the message's end.
class AppendDecoder::Reader {
 public:
  explicit Reader(const std::vector<grpc::Slice>& slices) : slices_(slices) {
    for (const grpc::Slice& slice : slices) size_ += slice.size();
    SkipEmpty();
  }

  uint64_t position() const { return position_; }
  uint64_t size() const { return size_; }

  bool ReadVarint(uint64_t& value) {
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

  bool ReadTag(uint32_t& field, uint32_t& type) {
    uint64_t tag;
    if (!ReadVarint(tag) || tag >> 3 == 0 || tag >> 32 != 0) return false;
    field = static_cast<uint32_t>(tag >> 3);
    type = static_cast<uint32_t>(tag & 7);
    return true;
  }

  // The length of what follows, all of which must end by `end`.
  bool ReadLength(uint64_t end, uint64_t& length) {
    return ReadVarint(length) && position_ <= end && length <= end - position_;
  }

  // Gives the next `bytes`, which must be there, piece by piece.
  template <typename Take>
  void Read(uint64_t bytes, Take take) {
    while (bytes > 0) {
      const grpc::Slice& slice = slices_[slice_];
      const uint64_t count = std::min<uint64_t>(bytes, slice.size() - offset_);
      take(absl::string_view(
          reinterpret_cast<const char*>(slice.begin()) + offset_, count));
      Advance(count);
      bytes -= count;
    }
  }

  // How many bytes a value of this type takes after its tag, if that is fixed.
  static uint64_t FixedBytes(uint32_t type) {
    return type == kFixed64 ? 8 : type == kFixed32 ? 4 : 0;
  }

  // Passes the value of a field, adding its bytes to `to` if that is not null.
  bool Pass(uint32_t type, uint64_t end, std::string* to) {
    uint64_t bytes = FixedBytes(type);
    if (type == kVarint || type == kBytes) {
      uint64_t value;
      if (!ReadVarint(value)) return false;
      if (to != nullptr) AppendVarint(value, *to);
      if (type == kBytes) bytes = value;
    } else if (bytes == 0) {
      return false;  // Groups are no part of the protocol.
    }
    if (position_ > end || bytes > end - position_) return false;
    Read(bytes, [to](absl::string_view piece) {
      if (to != nullptr) to->append(piece.data(), piece.size());
    });
    return true;
  }

 private:
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
  size_t slice_ = 0;
  uint64_t offset_ = 0;  // In the slice.
};

absl::Status AppendDecoder::Decode(const grpc::ByteBuffer& message) {
  Release();
  if (message.Valid() && !message.Dump(&slices_).ok()) {
    return absl::InternalError("the message cannot be read");
  }
  Reader reader(slices_);
  if (DecodeRequest(reader)) return absl::OkStatus();
  kind_ = kNone;
  return absl::InvalidArgumentError(absl::StrCat(
      "a message of ", reader.size(), " bytes does not parse: allowed is a ",
      v1::AppendRequest::descriptor()->full_name(), " with one payload"));
}

void AppendDecoder::Release() {
  kind_ = kNone;
  input_ = AppendInput();
  slices_.clear();
}

bool AppendDecoder::DecodeRequest(Reader& reader) {
  while (reader.position() < reader.size()) {
    uint32_t field, type;
    if (!reader.ReadTag(field, type)) return false;
    if (field != kOpenField && field != kBatchField) {
      if (!reader.Pass(type, reader.size(), nullptr)) return false;
      continue;
    }
    uint64_t length;
    if (kind_ != kNone || type != kBytes ||
        !reader.ReadLength(reader.size(), length)) {
      return false;
    }
    const uint64_t end = reader.position() + length;
    kind_ = field == kOpenField ? kOpen : kBatch;
    if (!(kind_ == kOpen ? DecodeOpen(reader, end)
                         : DecodeBatch(reader, end))) {
      return false;
    }
  }
  return true;
}

bool AppendDecoder::DecodeOpen(Reader& reader, uint64_t end) {
  rest_.clear();
  reader.Read(end - reader.position(), [this](absl::string_view piece) {
    rest_.append(piece.data(), piece.size());
  });
  return open_.ParseFromString(rest_);
}

bool AppendDecoder::DecodeBatch(Reader& reader, uint64_t end) {
  rest_.clear();
  while (reader.position() < end) {
    uint32_t field, type;
    if (!reader.ReadTag(field, type)) return false;
    if (field == kStepColumns || field == kItemColumns) {
      uint64_t length;
      if (type != kBytes || !reader.ReadLength(end, length)) return false;
      auto& columns =
          field == kStepColumns ? input_.step_columns : input_.item_columns;
      if (!DecodeColumn(reader, reader.position() + length,
                        columns.emplace_back())) {
        return false;
      }
    } else {
      AppendVarint(uint64_t{field} << 3 | type, rest_);
      if (!reader.Pass(type, end, &rest_)) return false;
    }
  }
  input_.lists = &lists_;
  return reader.position() == end && lists_.ParseFromString(rest_);
}

bool AppendDecoder::DecodeColumn(Reader& reader, uint64_t end,
                                 ColumnBytes& column) {
  while (reader.position() < end) {
    uint32_t field, type;
    if (!reader.ReadTag(field, type)) return false;
    if (field != kData) {
      if (!reader.Pass(type, end, nullptr)) return false;
      continue;
    }
    uint64_t length;
    if (type != kBytes || !reader.ReadLength(end, length)) return false;
    column = ColumnBytes();
    reader.Read(length,
                [&column](absl::string_view piece) { column.Add(piece); });
  }
  return reader.position() == end;
}

}  // namespace qfleet
