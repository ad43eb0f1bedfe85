#include "envs/environment.h"

namespace qfleet {

v1::TensorSpec StackedObservation(const EnvironmentSpec& spec) {
  v1::TensorSpec result = spec.observation;
  if (spec.frame_stack == 1) return result;
  result.clear_shape();
  absl::Span<const int64_t> shape = spec.observation.shape();
  if (shape.size() == 3) {
    result.add_shape(spec.frame_stack * shape[0]);
    shape.remove_prefix(1);
  } else {
    result.add_shape(spec.frame_stack);
  }
  for (int64_t extent : shape) result.add_shape(extent);
  return result;
}

}  // namespace qfleet
