#include "learner/calibrator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "model/weight_layout.h"

namespace qfleet {
namespace {

// Of one batch, so that those kept are of several.
constexpr int64_t kRowsOfABatch = 16;
static_assert(kCalibrationRows % kRowsOfABatch == 0);

}  // namespace

void Calibrator::Add(const at::Tensor& observations) {
  if (!kept_.defined()) {
    std::vector<int64_t> shape = observations.sizes().vec();
    shape[0] = kCalibrationRows;
    kept_ = at::zeros(shape, observations.options());
  }
  const int64_t rows = std::min(observations.size(0), kRowsOfABatch);
  for (int64_t done = 0; done < rows;) {
    const int64_t at = added_ % kCalibrationRows;
    const int64_t part = std::min(rows - done, kCalibrationRows - at);
    kept_.narrow(0, at, part).copy_(observations.narrow(0, done, part));
    done += part;
    added_ += part;
  }
}

std::function<Calibration()> Calibrator::Of(const std::string& fp32) const {
  if (added_ == 0) return nullptr;
  return [&network = network_, fp32,
          observations =
              kept_.narrow(0, 0, std::min(added_, kCalibrationRows)).clone()] {
    FlatParameters parameters(network);
    std::memcpy(parameters.values().data(), fp32.data(), fp32.size());
    return CalibrationOf(network, parameters.views(), observations);
  };
}

}  // namespace qfleet
