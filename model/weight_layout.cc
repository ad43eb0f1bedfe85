#include "model/weight_layout.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <vector>

namespace qfleet {

WeightLayout LayoutOf(const Network& network) {
  WeightLayout layout;
  for (const ParameterSpec& parameter : network.parameters()) {
    v1::WeightSpan& span = *layout.Add();
    span.set_size(parameter.size);
    span.set_channels(parameter.shape.size() > 1 ? parameter.shape[0] : 0);
  }
  return layout;
}

Calibration CalibrationOf(const Network& network,
                          absl::Span<const at::Tensor> views,
                          const at::Tensor& observations) {
  c10::InferenceMode no_autograd;
  const std::vector<bool> integers = IntegerSpans(LayoutOf(network));
  const at::Tensor rows = observations.narrow(
      0, 0, std::min(observations.size(0), kCalibrationRows));
  Calibration calibration;
  for (int copy = 0; copy < network.copies(); ++copy) {
    Network::Trace trace;
    network.Forward(views, rows, /*noise=*/{}, copy, &trace);
    for (size_t layer = 0; layer < trace.inputs.size(); ++layer) {
      const int span = network.WeightIndex(copy, layer);
      const at::Tensor x = trace.inputs[layer].contiguous();
      if (!integers[span] || x.dim() != 2) continue;  // Not a convolution's.
      const float* values = x.data_ptr<float>();
      calibration.push_back({span, {values, values + x.numel()}});
    }
  }
  return calibration;
}

}  // namespace qfleet
