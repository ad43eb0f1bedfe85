// One publication as it goes over the wire, in each form that somebody asks
// for: encoded and serialised once, however many it is sent to.

#ifndef QFLEET_WEIGHTS_PUBLICATION_FORMS_H_
#define QFLEET_WEIGHTS_PUBLICATION_FORMS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/base/call_once.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"
#include "qfleet/v1/weights.pb.h"
#include "weights/codec.h"

namespace qfleet {

// Immutable from outside, thread-safe.
class PublicationForms {
 public:
  // INVALID_ARGUMENT if it is in no known form, DATA_LOSS if its parameters are
  // not of its layout's size. `sequence`: among those of a service. `calibrate`
  // is asked where INT8 is made, once, in any thread; null: of nothing.
  static absl::StatusOr<std::shared_ptr<const PublicationForms>> Make(
      std::shared_ptr<const v1::Publication> publication, uint64_t sequence,
      std::function<Calibration()> calibrate = nullptr);

  // As it came.
  const v1::Publication& publication() const { return *publication_; }
  uint64_t sequence() const { return sequence_; }

  // INVALID_ARGUMENT if there is no such form, FAILED_PRECONDITION if it cannot
  // be had of this publication: all can of one in FP32, else only its own.
  absl::Status CheckForm(v1::WeightCodec codec) const;

  // A serialised Publication, valid as long as this object; those who write it
  // share its memory. Made by the first who asks, while others wait for it. In
  // a form that CheckForm allows.
  const grpc::ByteBuffer& Wire(v1::WeightCodec codec) const;

 private:
  struct Form {
    absl::once_flag once;
    grpc::ByteBuffer wire;
  };

  PublicationForms(std::shared_ptr<const v1::Publication> publication,
                   uint64_t sequence, std::function<Calibration()> calibrate)
      : publication_(std::move(publication)),
        sequence_(sequence),
        calibrate_(std::move(calibrate)) {}

  const std::shared_ptr<const v1::Publication> publication_;
  const uint64_t sequence_;
  const std::function<Calibration()> calibrate_;
  mutable std::array<Form, v1::WeightCodec_ARRAYSIZE> forms_;
};

}  // namespace qfleet

#endif  // QFLEET_WEIGHTS_PUBLICATION_FORMS_H_
