// What the learner is measured with: a network, a fixed batch for it, the
// config of the update, and both as a file for another program.

#ifndef QFLEET_BENCH_LEARNER_CASE_H_
#define QFLEET_BENCH_LEARNER_CASE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/workload.h"
#include "learner/algorithms/algorithm.h"
#include "learner/algorithms/value_algorithm.h"
#include "qfleet/v1/config.pb.h"
#include "replay_client/sampler.h"

namespace qfleet::bench {

struct LearnerCase {
  std::string name;   // As bench/learner_torch.py knows it.
  std::string title;  // For people.
  Shape shape;
  int num_actions = 0;
  int batch_size = 0;
  std::string network;         // Text of the config's `network { }`.
  double least_ratio = 0;      // Target: updates/s over PyTorch's.
  bool measured_grpc = false;  // Also over gRPC.
};

// CartPole's perceptron, MinAtar's convolution (Young and Tian 2019), the
// convolutions of Mnih et al. 2015.
std::vector<LearnerCase> LearnerCases();

// The last of these with batches of 32 and 512, for a GPU.
std::vector<LearnerCase> DeviceCases();

// Resolved. The update is the same for all: double DQN without dueling, Huber
// loss, Adam with 1e-4, gradients clipped to 10, target copied every 500.
absl::StatusOr<v1::Config> ConfigOf(const LearnerCase& learner_case);

absl::StatusOr<std::unique_ptr<Algorithm>> MakeLearner(
    const LearnerCase& learner_case, const v1::Config& config,
    const Placement& placement = {});

// Rows like those of the environment: uint8 frames of any bytes, float32
// observations of zeros and ones; rewards and priorities vary.
SampleBatch FixedBatch(const LearnerCase& learner_case);

// Writes NAME.bin: the algorithm's parameters, float32, then the batch's
// importance weights, float32 [B], then its columns one after another, then an
// int64, the number of parameters.
absl::Status WriteCase(const LearnerCase& learner_case,
                       const v1::Config& config, const Algorithm& algorithm,
                       const SampleBatch& batch, const std::string& path);

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_LEARNER_CASE_H_
