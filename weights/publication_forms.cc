#include "weights/publication_forms.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/grpc.h"
#include "common/status_macros.h"
#include "weights/publication.h"

namespace qfleet {

absl::StatusOr<std::shared_ptr<const PublicationForms>> PublicationForms::Make(
    std::shared_ptr<const v1::Publication> publication, uint64_t sequence,
    std::function<Calibration()> calibrate) {
  QFLEET_RETURN_IF_ERROR(CheckEncoded(
      publication->parameters(), publication->layout(), publication->codec()));
  return std::shared_ptr<const PublicationForms>(new PublicationForms(
      std::move(publication), sequence, std::move(calibrate)));
}

absl::Status PublicationForms::CheckForm(v1::WeightCodec codec) const {
  QFLEET_RETURN_IF_ERROR(CheckCodec(codec));
  if (publication_->codec() == v1::FP32 || publication_->codec() == codec) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("codec = ", v1::WeightCodec_Name(codec), ": allowed is ",
                   v1::WeightCodec_Name(publication_->codec()),
                   ", in which the weights come here (actors.weight_codec)"));
}

const grpc::ByteBuffer& PublicationForms::Wire(v1::WeightCodec codec) const {
  Form& form = forms_.at(codec);
  absl::call_once(form.once, [&] {
    if (codec == publication_->codec()) {
      form.wire = SerializeMessage(*publication_);
      return;
    }
    Calibration calibration;
    if (codec == v1::INT8 && calibrate_) calibration = calibrate_();
    // Make and CheckForm have checked all that could be wrong.
    form.wire =
        SerializeMessage(*EncodePublication(*publication_, codec, calibration));
  });
  return form.wire;
}

}  // namespace qfleet
