// Golden files of tests/golden as tensors and batches.

#ifndef QFLEET_TESTS_LEARNER_GOLDEN_H_
#define QFLEET_TESTS_LEARNER_GOLDEN_H_

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "learner/algorithms/algorithm.h"
#include "nlohmann/json.hpp"
#include "qfleet/v1/config.pb.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_client/sampler.h"

namespace qfleet {

nlohmann::json ReadGolden(const std::string& name);

// Nested lists of numbers as float32.
at::Tensor GoldenTensor(const nlohmann::json& values);

template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(T));
}
std::vector<float> FloatsOf(const std::string& bytes);

// Observations of four floats and three actions: `masked` with
// next_action_mask.
v1::TableSignature GoldenSignature(bool masked);
EnvironmentSpec GoldenEnvironment();

// An update's batch, and the scaled probabilities that give its importance
// weights at beta 1.
SampleBatch GoldenSample(const nlohmann::json& update);

// Gives the online and target networks these weights, at update 0.
void StartFrom(const std::vector<float>& weights, Algorithm& algorithm);

// Runs a golden file's updates; each must agree in loss and priorities, and the
// weights at the end, and these must have moved.
void ExpectGoldenUpdates(const nlohmann::json& golden, Algorithm& algorithm);

}  // namespace qfleet

#endif  // QFLEET_TESTS_LEARNER_GOLDEN_H_
