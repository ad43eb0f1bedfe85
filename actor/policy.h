// A network and the weights in use: Q-values of a batch of observations,
// without autograd.

#ifndef QFLEET_ACTOR_POLICY_H_
#define QFLEET_ACTOR_POLICY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "model/network.h"
#include "qfleet/v1/weights.pb.h"

namespace qfleet {

// OK if `publication` belongs to `network` and is whole; else
// FAILED_PRECONDITION or DATA_LOSS in words.
absl::Status CheckPublication(const v1::Publication& publication,
                              const Network& network);

// Thread-compatible.
class Policy {
 public:
  Policy(std::shared_ptr<const Network> network,
         const v1::TensorSpec& observation);

  // Checked; on an error the weights stay.
  absl::Status SetWeights(const v1::Publication& publication);

  uint64_t version() const { return version_; }  // 0: none yet.
  int num_actions() const { return network_->num_actions(); }
  const Network& network() const { return *network_; }

  // observations [rows, observation...] -> [rows, actions], valid until the
  // next call.
  absl::Span<const float> QValues(absl::Span<const char> observations,
                                  int rows);

 private:
  const std::shared_ptr<const Network> network_;
  const v1::TensorSpec observation_;
  FlatParameters parameters_;
  at::Tensor q_;
  uint64_t version_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_ACTOR_POLICY_H_
