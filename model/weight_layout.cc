#include "model/weight_layout.h"

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

}  // namespace qfleet
