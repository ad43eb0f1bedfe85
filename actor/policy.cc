#include "actor/policy.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "model/tensors.h"
#include "model/weight_layout.h"
#include "weights/publication.h"

namespace qfleet {

absl::Status CheckPublication(const v1::Publication& publication,
                              const Network& network) {
  if (publication.network() != network.signature()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "weights of the network \"", publication.network(),
        "\": allowed is this process's network \"", network.signature(), "\""));
  }
  return CheckWhole(publication, LayoutOf(network));
}

Policy::Policy(std::shared_ptr<const Network> network,
               const v1::TensorSpec& observation)
    : network_(std::move(network)),
      observation_(observation),
      parameters_(*network_) {}

absl::Status Policy::SetWeights(const v1::Publication& publication) {
  QFLEET_RETURN_IF_ERROR(CheckPublication(publication, *network_));
  QFLEET_RETURN_IF_ERROR(DecodeWeights(publication.parameters(),
                                       LayoutOf(*network_), publication.codec(),
                                       parameters_.values()));
  version_ = publication.version();
  return absl::OkStatus();
}

void Policy::Explore(uint64_t seed) {
  noise_ = std::make_unique<NoiseSource>(*network_, seed);
}

std::string Policy::SaveRandom() const {
  return noise_ == nullptr ? "" : noise_->random().Save();
}

bool Policy::LoadRandom(const std::string& state) {
  if (noise_ == nullptr) return state.empty();
  return noise_->random().Load(state);
}

absl::Span<const float> Policy::QValues(StridedRows observations, int rows) {
  c10::InferenceMode no_autograd;
  at::Tensor input =
      WrapRows(observation_, observations.data, rows, observations.stride);
  at::Tensor noise;
  int copy = 0;
  if (noise_ != nullptr) {
    noise = noise_->Sample();
    if (network_->copies() > 1) {
      copy = static_cast<int>(noise_->random().Below(network_->copies()));
    }
  }
  q_ = network_->Values(
      network_->Forward(parameters_.views(), input, noise, copy));
  q_ = q_.contiguous();
  return absl::MakeConstSpan(q_.data_ptr<float>(), q_.numel());
}

Calibration Policy::Calibrate(StridedRows observations, int rows) const {
  return CalibrationOf(
      *network_, parameters_.views(),
      WrapRows(observation_, observations.data, rows, observations.stride));
}

}  // namespace qfleet
