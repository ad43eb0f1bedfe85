#include "bench/learner_case.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/workload.h"
#include "common/files.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/table_spec.h"
#include "config/config.h"
#include "learner/algorithms/dqn.h"

namespace qfleet::bench {
namespace {

template <typename T>
void Append(T value, std::string& bytes) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::string Column(const v1::TensorSpec& spec, int rows, int num_actions,
                   Random& random) {
  std::string bytes;
  const int64_t values = rows * RowBytes(spec) / DTypeBytes(spec.dtype());
  for (int64_t i = 0; i < values; ++i) {
    if (spec.dtype() == v1::UINT8) {
      Append(static_cast<uint8_t>(random.Bits()), bytes);
    } else if (spec.name() == "action") {
      Append(static_cast<int32_t>(random.Bits() % num_actions), bytes);
    } else if (spec.name() == "return") {
      Append(static_cast<float>(random.Uniform(-1, 1)), bytes);
    } else if (spec.name() == "discount") {  // An episode ends now and then.
      Append(random.Uniform(0, 1) < 0.05 ? 0.0F : 0.97F, bytes);
    } else {
      Append(random.Uniform(0, 1) < 0.2 ? 1.0F : 0.0F, bytes);
    }
  }
  return bytes;
}

}  // namespace

std::vector<LearnerCase> LearnerCases() {
  return {
      {.name = "mlp",
       .title = "MLP 4-128-128-2, batch 64",
       .shape = SmallShape(),
       .num_actions = 2,
       .batch_size = 64,
       .network = "hidden: [128, 128]",
       .least_ratio = 2.2},
      {.name = "minatar",
       .title = "MinAtar convolution, batch 32",
       .shape = MinAtarShape(),
       .num_actions = 6,
       .batch_size = 32,
       .network = "convolutions { channels: 16 kernel: 3 stride: 1 } "
                  "hidden: 128",
       .least_ratio = 2,
       .measured_grpc = true},
      {.name = "nature",
       .title = "Nature CNN, batch 32",
       .shape = StackedFramesShape(),
       .num_actions = 6,
       .batch_size = 32,
       .network = "convolutions { channels: 32 kernel: 8 stride: 4 } "
                  "convolutions { channels: 64 kernel: 4 stride: 2 } "
                  "convolutions { channels: 64 kernel: 3 stride: 1 } "
                  "hidden: 512",
       .least_ratio = 1.1},
  };
}

std::vector<LearnerCase> DeviceCases() {
  std::vector<LearnerCase> cases;
  for (int batch_size : {32, 512}) {
    LearnerCase one = LearnerCases().back();
    one.title = absl::StrCat("Nature CNN, batch ", batch_size);
    one.batch_size = batch_size;
    cases.push_back(std::move(one));
  }
  return cases;
}

absl::StatusOr<v1::Config> ConfigOf(const LearnerCase& learner_case) {
  QFLEET_ASSIGN_OR_RETURN(
      v1::Config config,
      ParseConfig(absl::StrCat("algorithm { double_q: true target_period: 500 "
                               "max_gradient_norm: 10 dqn { huber_delta: 1 } } "
                               "network { dueling: false ",
                               learner_case.network,
                               " } optimizer { learning_rate: 1e-4 } "
                               "replay { beta: 0.4 final_beta: 0.4 } "
                               "learner { prefetch: 8 batch_size: ",
                               learner_case.batch_size, " }"),
                  learner_case.name));
  // A table of our own, so that no environment is needed for the shapes.
  *config.mutable_replay()->mutable_table() =
      TableOf(learner_case.shape, uint64_t{1} << 15);
  QFLEET_RETURN_IF_ERROR(ResolveConfig(config));
  return config;
}

absl::StatusOr<std::unique_ptr<Algorithm>> MakeLearner(
    const LearnerCase& learner_case, const v1::Config& config,
    const Placement& placement) {
  EnvironmentSpec environment;
  environment.observation = learner_case.shape.signature.step_columns(0);
  environment.num_actions = learner_case.num_actions;
  QFLEET_ASSIGN_OR_RETURN(std::shared_ptr<const Network> network,
                          Network::Make(config, environment));
  return std::make_unique<Dqn>(config, std::move(network),
                               /*collective=*/nullptr, placement);
}

SampleBatch FixedBatch(const LearnerCase& learner_case) {
  const int rows = learner_case.batch_size;
  const v1::TableSignature& signature = learner_case.shape.signature;
  Random random(5);
  SampleBatch batch;
  for (int i = 0; i < rows; ++i) {
    batch.keys.push_back({.slot = static_cast<uint32_t>(i)});
    batch.scaled_probability.push_back(random.Uniform(0.5, 2));
  }
  for (const v1::TensorSpec& spec : signature.item_columns()) {
    batch.columns.push_back(
        Column(spec, rows, learner_case.num_actions, random));
  }
  for (const v1::View& view : signature.views()) {
    batch.columns.push_back(Column(ViewTensor(signature, view), rows,
                                   learner_case.num_actions, random));
  }
  return batch;
}

absl::Status WriteCase(const LearnerCase& learner_case,
                       const v1::Config& config, const Algorithm& algorithm,
                       const SampleBatch& batch, const std::string& path) {
  std::string bytes = algorithm.Publish();
  const auto parameters = static_cast<int64_t>(bytes.size() / sizeof(float));
  for (float weight :
       ImportanceWeights(batch.scaled_probability, config.replay().beta())) {
    Append(weight, bytes);
  }
  for (const std::string& column : batch.columns) bytes += column;
  Append(parameters, bytes);
  return WriteFileAtomically(absl::StrCat(path, "/", learner_case.name, ".bin"),
                             bytes);
}

}  // namespace qfleet::bench
