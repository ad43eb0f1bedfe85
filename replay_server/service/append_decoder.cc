#include "replay_server/service/append_decoder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"
#include "common/wire_format.h"

namespace qfleet {
namespace {

constexpr uint32_t kOpenField = v1::AppendRequest::kOpenFieldNumber;
constexpr uint32_t kBatchField = v1::AppendRequest::kBatchFieldNumber;
constexpr uint32_t kStepColumns = v1::AppendBatch::kStepColumnsFieldNumber;
constexpr uint32_t kItemColumns = v1::AppendBatch::kItemColumnsFieldNumber;

// Memory beyond that is given back at once. Any usual batch stays below it.
constexpr size_t kKeptBytes = 1 << 20;

}  // namespace

absl::Status AppendDecoder::Decode(const grpc::ByteBuffer& message) {
  Release();
  QFLEET_RETURN_IF_ERROR(SlicesOf(message, slices_));
  MessageReader reader(slices_);
  if (DecodeRequest(reader)) return absl::OkStatus();
  kind_ = kNone;
  if (!why_.ok()) return why_;
  return absl::InvalidArgumentError(absl::StrCat(
      "a message of ", reader.size(), " bytes does not parse: allowed is a ",
      v1::AppendRequest::descriptor()->full_name(), " with one payload"));
}

void AppendDecoder::Release() {
  kind_ = kNone;
  input_ = AppendInput();
  slices_.clear();
  why_ = absl::OkStatus();
  if (rest_.capacity() <= kKeptBytes) return;
  std::string().swap(rest_);
  v1::AppendBatch().Swap(&lists_);
}

bool AppendDecoder::DecodeRequest(MessageReader& reader) {
  while (reader.position() < reader.size()) {
    uint32_t field, type;
    if (!reader.ReadTag(field, type)) return false;
    if (field != kOpenField && field != kBatchField) {
      if (!reader.Skip(type, reader.size())) return false;
      continue;
    }
    uint64_t length;
    if (kind_ != kNone || type != kWireBytes ||
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

bool AppendDecoder::DecodeOpen(MessageReader& reader, uint64_t end) {
  if (end - reader.position() > kMaxOpenBytes) {
    why_ = absl::InvalidArgumentError(
        absl::StrCat("open has ", end - reader.position(),
                     " bytes: allowed is at most ", kMaxOpenBytes));
    return false;
  }
  rest_.clear();
  reader.Read(end - reader.position(), [this](absl::string_view piece) {
    rest_.append(piece.data(), piece.size());
  });
  return open_.ParseFromString(rest_);
}

bool AppendDecoder::DecodeBatch(MessageReader& reader, uint64_t end) {
  rest_.clear();
  while (reader.position() < end) {
    uint32_t field, type;
    if (!reader.ReadTag(field, type)) return false;
    if (field == kStepColumns || field == kItemColumns) {
      auto& columns =
          field == kStepColumns ? input_.step_columns : input_.item_columns;
      if (columns.size() == kMaxColumns) {
        why_ = absl::InvalidArgumentError(absl::StrCat(
            field == kStepColumns ? "step_columns" : "item_columns",
            " has more than ", kMaxColumns, " columns: allowed are these"));
        return false;
      }
      if (!reader.ReadColumn(type, end, columns.emplace_back())) return false;
    } else if (!reader.CopyField(field, type, end, rest_, kMaxListBytes)) {
      if (reader.too_long()) {
        why_ = absl::InvalidArgumentError(
            absl::StrCat("batch has more than ", kMaxListBytes,
                         " bytes beside its columns: allowed are these"));
      }
      return false;
    }
  }
  input_.lists = &lists_;
  return reader.position() == end && lists_.ParseFromString(rest_);
}

}  // namespace qfleet
