// A network and the weights in use: Q-values of a batch of observations,
// without autograd.
//
// A policy that explores values each batch with new noise, where its network is
// noisy, and with one of its network's copies at random, where there are
// several (i-DQN). One that does not: the mean weights, the first copy.

#ifndef QFLEET_ACTOR_POLICY_H_
#define QFLEET_ACTOR_POLICY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "envs/frames.h"
#include "model/network.h"
#include "qfleet/v1/weights.pb.h"
#include "weights/codec.h"

namespace qfleet {

// OK if `publication`, in any form, belongs to `network` and is whole; else
// FAILED_PRECONDITION, DATA_LOSS or INVALID_ARGUMENT in words.
absl::Status CheckPublication(const v1::Publication& publication,
                              const Network& network);

// Thread-compatible.
class Policy {
 public:
  // `observation`: what the network sees (StackedObservation).
  Policy(std::shared_ptr<const Network> network,
         const v1::TensorSpec& observation);

  // Checked and decoded; on an error the weights stay.
  absl::Status SetWeights(const v1::Publication& publication);

  uint64_t version() const { return version_; }  // 0: none yet.
  int num_actions() const { return network_->num_actions(); }
  const Network& network() const { return *network_; }

  // From now on the policy explores, seeded.
  void Explore(uint64_t seed);
  // The generator's state, for those who go on later; "" and no effect where
  // the policy does not explore. Load says whether `state` was one.
  std::string SaveRandom() const;
  bool LoadRandom(const std::string& state);

  // observations [rows, observation...] -> [rows, actions], valid until the
  // next call.
  absl::Span<const float> QValues(StridedRows observations, int rows);

  // What INT8 needs beside the weights, for these observations (no more than
  // kCalibrationRows of them).
  Calibration Calibrate(StridedRows observations, int rows) const;

 private:
  const std::shared_ptr<const Network> network_;
  const v1::TensorSpec observation_;
  FlatParameters parameters_;
  std::unique_ptr<NoiseSource> noise_;  // Null: it does not explore.
  at::Tensor q_;
  uint64_t version_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_ACTOR_POLICY_H_
