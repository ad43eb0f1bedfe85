// Several learners that train one network together, data parallel: each samples
// batches of its own, and one sum over all of them makes every update the same
// everywhere. c10d does the work, with Gloo; between CUDA devices with NCCL
// where LibTorch has it.
//
//   QFLEET_ASSIGN_OR_RETURN(auto rendezvous, RendezvousFromEnvironment());
//   QFLEET_ASSIGN_OR_RETURN(auto collective, Collective::Join(*rendezvous));
//   collective->Sum(values);

#ifndef QFLEET_LEARNER_COLLECTIVE_H_
#define QFLEET_LEARNER_COLLECTIVE_H_

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace qfleet {

// Where the learners of a job find each other.
struct Rendezvous {
  int rank = 0;
  int size = 1;
  // "HOST:PORT" of rank 0, which listens there, or "file:PATH", a file that
  // does not exist yet on a file system of all.
  std::string address;
  // torchrun's own store listens there already; the prefix of our keys in it.
  std::string agent_prefix;
};

// What torchrun and Kubeflow's PyTorchJob set: RANK, WORLD_SIZE, MASTER_ADDR,
// MASTER_PORT (and TORCHELASTIC_USE_AGENT_STORE). Nothing if WORLD_SIZE is not
// set or 1. `address`, if not empty, stands for MASTER_*. INVALID_ARGUMENT
// names a variable that is missing or wrong.
absl::StatusOr<std::optional<Rendezvous>> RendezvousFromEnvironment(
    const std::string& address = "");

// Thread-compatible. All ranks must make the same calls in the same order.
class Collective {
 public:
  virtual ~Collective() = default;

  // Waits for all ranks, at most `timeout`, which also bounds each later call.
  // UNAVAILABLE says who did not come. `device`: the rank's, of the tensors
  // that are summed.
  static absl::StatusOr<std::unique_ptr<Collective>> Join(
      const Rendezvous& rendezvous, absl::Duration timeout,
      at::Device device = at::kCPU);

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Each value becomes the sum over the ranks. float32, contiguous, on Join's
  // device. UNAVAILABLE when another rank is gone.
  virtual absl::Status Sum(const at::Tensor& values) = 0;
  // The same in the host's memory, where that is the device.
  absl::Status Sum(absl::Span<float> values);

  // Every rank gets rank 0's bytes.
  virtual absl::Status Broadcast(std::string& bytes) = 0;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_COLLECTIVE_H_
