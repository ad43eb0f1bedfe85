#include "replay_client/sample_answer.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/message_reader.h"
#include "common/status_macros.h"

namespace qfleet {

absl::StatusOr<std::shared_ptr<const SampleAnswer>> SampleAnswer::Decode(
    const grpc::ByteBuffer& message) {
  auto answer = std::make_shared<SampleAnswer>();
  QFLEET_RETURN_IF_ERROR(SlicesOf(message, answer->slices_));
  if (!answer->DecodeFields()) {
    return absl::InternalError(
        absl::StrCat("an answer of ", message.Length(), " bytes is no ",
                     v1::SampleResponse::descriptor()->full_name()));
  }
  return answer;
}

bool SampleAnswer::DecodeFields() {
  MessageReader reader(slices_);
  std::string rest;
  while (reader.position() < reader.size()) {
    uint32_t field, type;
    if (!reader.ReadTag(field, type)) return false;
    if (field == v1::SampleResponse::kItemColumnsFieldNumber ||
        field == v1::SampleResponse::kViewsFieldNumber) {
      auto& columns = field == v1::SampleResponse::kViewsFieldNumber
                          ? views_
                          : item_columns_;
      if (!reader.ReadColumn(type, reader.size(), columns.emplace_back())) {
        return false;
      }
    } else if (!reader.CopyField(field, type, reader.size(), rest)) {
      return false;
    }
  }
  return lists_.ParseFromString(rest);
}

}  // namespace qfleet
