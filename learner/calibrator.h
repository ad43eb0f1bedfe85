// What the INT8 form of a publication is made with: the inputs of its layers
// for observations that the learner had lately.

#ifndef QFLEET_LEARNER_CALIBRATOR_H_
#define QFLEET_LEARNER_CALIBRATOR_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>

#include "model/network.h"
#include "weights/codec.h"

namespace qfleet {

// Thread-compatible.
class Calibrator {
 public:
  // `network` must outlive this and what it made.
  explicit Calibrator(const Network& network) : network_(network) {}

  // Some of a batch's observations, [rows, observation...], are kept until as
  // many others have come.
  void Add(const at::Tensor& observations);

  // Of the network with these parameters, as FP32, and the observations kept
  // now: a function that may be called in any thread, for a forward pass is
  // much to do for every publication if nobody asks. Null before the first Add.
  std::function<Calibration()> Of(const std::string& fp32) const;

 private:
  const Network& network_;
  at::Tensor kept_;  // A ring, [kCalibrationRows, observation...].
  int64_t added_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_CALIBRATOR_H_
