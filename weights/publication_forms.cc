#include "weights/publication_forms.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/grpc.h"
#include "common/status_macros.h"
#include "weights/publication.h"

namespace qfleet {

absl::StatusOr<std::shared_ptr<const PublicationForms>> PublicationForms::Make(
    std::shared_ptr<const v1::Publication> fp32, uint64_t sequence) {
  QFLEET_RETURN_IF_ERROR(CheckCodec(fp32->codec()));
  if (fp32->codec() != v1::FP32) {
    return absl::InvalidArgumentError(
        absl::StrCat("codec = ", v1::WeightCodec_Name(fp32->codec()),
                     ": allowed is FP32, of which the others are made"));
  }
  QFLEET_RETURN_IF_ERROR(
      CheckEncoded(fp32->parameters(), fp32->layout(), v1::FP32));
  return std::shared_ptr<const PublicationForms>(
      new PublicationForms(std::move(fp32), sequence));
}

const grpc::ByteBuffer& PublicationForms::Wire(v1::WeightCodec codec) const {
  Form& form = forms_.at(codec);
  absl::call_once(form.once, [&] {
    form.wire = codec == v1::FP32
                    ? SerializeMessage(*fp32_)
                    // Make has checked all that could be wrong.
                    : SerializeMessage(*EncodePublication(*fp32_, codec));
  });
  return form.wire;
}

}  // namespace qfleet
