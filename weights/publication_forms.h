// One publication as it goes over the wire, in each form that somebody asks
// for: encoded and serialised once, however many it is sent to.

#ifndef QFLEET_WEIGHTS_PUBLICATION_FORMS_H_
#define QFLEET_WEIGHTS_PUBLICATION_FORMS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/call_once.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"
#include "qfleet/v1/weights.pb.h"

namespace qfleet {

// Immutable from outside, thread-safe.
class PublicationForms {
 public:
  // INVALID_ARGUMENT if `fp32` is not in FP32, DATA_LOSS if its parameters are
  // not of its layout's size. `sequence`: among those of a service.
  static absl::StatusOr<std::shared_ptr<const PublicationForms>> Make(
      std::shared_ptr<const v1::Publication> fp32, uint64_t sequence);

  const v1::Publication& fp32() const { return *fp32_; }
  uint64_t sequence() const { return sequence_; }

  // A serialised Publication, valid as long as this object; those who write it
  // share its memory. Made by the first who asks, while others wait for it.
  const grpc::ByteBuffer& Wire(v1::WeightCodec codec) const;

 private:
  struct Form {
    absl::once_flag once;
    grpc::ByteBuffer wire;
  };

  PublicationForms(std::shared_ptr<const v1::Publication> fp32,
                   uint64_t sequence)
      : fp32_(std::move(fp32)), sequence_(sequence) {}

  const std::shared_ptr<const v1::Publication> fp32_;
  const uint64_t sequence_;
  mutable std::array<Form, v1::WeightCodec_ARRAYSIZE> forms_;
};

}  // namespace qfleet

#endif  // QFLEET_WEIGHTS_PUBLICATION_FORMS_H_
