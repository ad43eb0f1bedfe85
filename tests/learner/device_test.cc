// The update as a device makes it, with its results late, beside the fused one:
// on the CPU, and on a CUDA device where there is one, there with its operations
// one by one and as a graph.
#include "model/device.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "learner/algorithms/categorical_dqn.h"
#include "learner/algorithms/dqn.h"
#include "learner/algorithms/iterated_dqn.h"
#include "learner/algorithms/qr_dqn.h"
#include "learner/staging.h"
#include "learner/trainer.h"
#include "tests/learner/golden.h"

namespace qfleet {
namespace {

using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;
using testing::Pointwise;

const Placement kStaged = {.staged = true};

v1::Config ConfigOf(const std::string& text) {
  v1::Config config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config));
  return config;
}

std::unique_ptr<Algorithm> Make(const v1::Config& config,
                                const Placement& placement = {}) {
  auto network = *Network::Make(config, GoldenEnvironment());
  switch (config.algorithm().kind_case()) {
    case v1::AlgorithmConfig::kRainbow:
      return std::make_unique<CategoricalDqn>(config, network, nullptr,
                                              placement);
    case v1::AlgorithmConfig::kQrDqn:
      return std::make_unique<QrDqn>(config, network, nullptr, placement);
    case v1::AlgorithmConfig::kIDqn:
      return std::make_unique<IteratedDqn>(config, network, nullptr, placement);
    default:
      return std::make_unique<Dqn>(config, network, nullptr, placement);
  }
}

constexpr char kDqn[] = R"pb(
  algorithm {
    target_period: 10
    max_gradient_norm: 0.7
    dqn { huber_delta: 1.5 }
  }
  network { hidden: 8 hidden: 8 }
  optimizer {
    learning_rate: 3e-3
    final_learning_rate_share: 0.1
    decay_updates: 25
    adam { epsilon: 1e-4 }
  }
)pb";

constexpr char kDqnRmsProp[] = R"pb(
  algorithm {
    double_q: false
    value_rescaling: true
    target_period: 1
    target_tau: 0.02
    dqn {}
  }
  network { hidden: 8 }
  optimizer {
    learning_rate: 3e-3
    rmsprop {}
  }
)pb";

constexpr char kRainbow[] = R"pb(
  algorithm {
    target_period: 4
    target_tau: 0.3
    max_gradient_norm: 0.5
    rainbow { atoms: 7 v_min: -3 v_max: 3 }
  }
  network { hidden: 8 noisy: true }
  optimizer {
    learning_rate: 3e-3
    adam { epsilon: 1e-4 }
  }
)pb";

constexpr char kQrDqn[] = R"pb(
  algorithm {
    double_q: false
    target_period: 5
    max_gradient_norm: 0
    qr_dqn { quantiles: 5 huber_delta: 0.8 }
  }
  network { hidden: 8 noisy: true }
  optimizer {
    learning_rate: 3e-3
    rmsprop {}
  }
)pb";

constexpr char kIteratedDqn[] = R"pb(
  algorithm {
    target_period: 5
    max_gradient_norm: 2
    i_dqn { networks: 3 sync_period: 2 }
  }
  network { hidden: 8 noisy: true }
  optimizer {
    learning_rate: 3e-3
    adam { epsilon: 1e-4 }
  }
)pb";

constexpr char kIteratedDqnSoft[] = R"pb(
  algorithm {
    double_q: false
    target_period: 6
    target_tau: 0.4
    i_dqn { networks: 2 sync_period: 4 huber_delta: 0 }
  }
  network { hidden: 8 }
  optimizer {
    learning_rate: 3e-3
    rmsprop {}
  }
)pb";

struct StagedCase {
  std::string name;
  const char* config;
  Placement staged;
};

class StagedTest : public testing::TestWithParam<StagedCase> {
 protected:
  static constexpr int kUpdates = 45;

  v1::Config config() const { return ConfigOf(GetParam().config); }
  const Placement& staged_placement() const { return GetParam().staged; }

  // Batch i; `broken`: with a value that is not finite.
  SampleBatch Sample(int i, bool broken = false) {
    SampleBatch sample = GoldenSample(updates_[i % updates_.size()]);
    if (broken) {
      const bool even = i % 2 == 0;  // An observation, or a return.
      const float bad = even ? std::numeric_limits<float>::infinity()
                             : std::numeric_limits<float>::quiet_NaN();
      std::memcpy(sample.columns[even ? 3 : 1].data(), &bad, sizeof(bad));
    }
    return sample;
  }

  UpdateResult Update(const SampleBatch& sample, Algorithm& algorithm) {
    return algorithm.Update(Batch(signature_, sample, /*beta=*/1));
  }

  const v1::TableSignature signature_ = GoldenSignature(false);
  const nlohmann::json updates_ = ReadGolden("dqn.json")["updates"];
};

void ExpectSame(const UpdateResult& staged, const UpdateResult& fused) {
  ASSERT_FALSE(staged.pending);
  ASSERT_EQ(staged.skipped, fused.skipped);
  if (fused.skipped) {
    EXPECT_THAT(staged.priorities, testing::IsEmpty());
    return;
  }
  EXPECT_NEAR(staged.loss, fused.loss, 1e-5);
  EXPECT_NEAR(staged.mean_q, fused.mean_q, 1e-5);
  EXPECT_NEAR(staged.gradient_norm, fused.gradient_norm,
              1e-5 * (1 + fused.gradient_norm));
  EXPECT_THAT(staged.priorities, Pointwise(FloatNear(2e-5), fused.priorities));
}

// Skips where a target moves, one after the other, and just before a save; a
// save and a load in the middle.
TEST_P(StagedTest, DoesWhatTheFusedUpdateDoesOneUpdateLater) {
  v1::Config config = this->config();
  std::unique_ptr<Algorithm> fused = Make(config);
  std::unique_ptr<Algorithm> staged = Make(config, staged_placement());
  ASSERT_EQ(staged->Publish(), fused->Publish());
  const std::string start = fused->Publish();
  UpdateResult before = {.pending = true};
  for (int i = 0; i < kUpdates; ++i) {
    SCOPED_TRACE(testing::Message() << "batch " << i);
    const bool broken = i == 9 || i == 10 || i == 24 || i == 30;
    const SampleBatch sample = Sample(i, broken);
    const UpdateResult now = Update(sample, *fused);
    EXPECT_EQ(now.skipped, broken);
    const UpdateResult late = Update(sample, *staged);
    if (before.pending) {
      EXPECT_TRUE(late.pending);
    } else {
      ExpectSame(late, before);
    }
    before = now;
    EXPECT_THAT(FloatsOf(staged->Publish()),
                Pointwise(FloatNear(1e-5), FloatsOf(fused->Publish())));
    if (i == 24) {
      config.set_seed(99);
      std::unique_ptr<Algorithm> other = Make(config, staged_placement());
      const std::vector<v1::NamedTensor> state = staged->Save();
      EXPECT_EQ(staged->updates(), fused->updates());
      ASSERT_EQ(other->Load(staged->updates(), state), absl::OkStatus());
      ExpectSame(staged->Finish(), before);
      EXPECT_TRUE(staged->Finish().pending);
      before = {.pending = true};
      staged = std::move(other);
    }
  }
  ExpectSame(staged->Finish(), before);
  EXPECT_EQ(staged->updates(), kUpdates - 4);
  EXPECT_EQ(staged->updates(), fused->updates());
  EXPECT_NE(fused->Publish(), start);
  // All of the state, not the published part alone.
  const std::vector<v1::NamedTensor> one = staged->Save(), two = fused->Save();
  ASSERT_EQ(one.size(), two.size());
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].spec().name(), two[i].spec().name());
    if (one[i].spec().dtype() != v1::FLOAT32) {
      EXPECT_EQ(one[i].data(), two[i].data());
      continue;
    }
    EXPECT_THAT(FloatsOf(one[i].data()),
                Pointwise(FloatNear(1e-5), FloatsOf(two[i].data())))
        << one[i].spec().name();
  }
}

TEST_P(StagedTest, ASkippedUpdateChangesNoBit) {
  std::unique_ptr<Algorithm> staged = Make(config(), staged_placement());
  auto state_of = [&] {
    std::string all;
    for (const v1::NamedTensor& tensor : staged->Save()) {
      if (tensor.spec().dtype() == v1::FLOAT32) all += tensor.data();
    }
    return all;
  };
  for (int i = 0; i < 19; ++i) Update(Sample(i), *staged);
  const std::string before = state_of();
  EXPECT_EQ(staged->updates(), 19);
  for (int i = 19; i < 24; ++i) Update(Sample(i, /*broken=*/true), *staged);
  EXPECT_EQ(state_of(), before);
  EXPECT_EQ(staged->updates(), 19);
}

// What a CUDA graph needs: each update is the same operations, those included
// that move targets or are skipped, and none of them looks at a value.
TEST_P(StagedTest, EveryUpdateIsTheSameOperations) {
  // Its operations are seen once. One that looked would fail the capture.
  if (staged_placement().device.is_cuda() && staged_placement().capture) return;
  std::unique_ptr<Algorithm> staged = Make(config(), staged_placement());
  Update(Sample(0), *staged);
  static std::vector<std::string> operations;
  const at::CallbackHandle handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& function)
                                     -> std::unique_ptr<at::ObserverContext> {
        operations.push_back(function.name());
        return nullptr;
      })
          .scopes(
              {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
  std::vector<std::string> first;
  for (int i = 1; i < 25; ++i) {
    operations.clear();
    Update(Sample(i, /*broken=*/i == 8 || i == 13), *staged);
    if (i == 1) first = operations;
    EXPECT_EQ(operations, first) << i;
  }
  at::removeCallback(handle);
  EXPECT_EQ(staged->updates(), 23);
  EXPECT_GT(first.size(), 50u);
  for (const char* looks :
       {"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero",
        "aten::nonzero", "aten::equal", "aten::masked_select"}) {
    EXPECT_THAT(first, testing::Not(testing::Contains(looks)));
  }
}

TEST_P(StagedTest, ASavedResultIsStillOwed) {
  const v1::Config config = this->config();
  std::unique_ptr<Algorithm> fused = Make(config);
  std::unique_ptr<Algorithm> staged = Make(config, staged_placement());
  UpdateResult before;
  for (int i = 0; i < 6; ++i) {
    const UpdateResult now = Update(Sample(i), *fused);
    const UpdateResult late = Update(Sample(i), *staged);
    if (i > 0) ExpectSame(late, before);
    if (i % 2 == 0) staged->Save();
    before = now;
  }
}

// Another size is another layout and another function.
TEST_P(StagedTest, ABatchMayHaveAnotherSize) {
  const v1::Config config = this->config();
  std::unique_ptr<Algorithm> fused = Make(config);
  std::unique_ptr<Algorithm> staged = Make(config, staged_placement());
  UpdateResult before;
  for (int i = 0; i < 8; ++i) {
    SampleBatch sample = Sample(i);
    if (i == 3 || i == 5) {
      const size_t rows = sample.rows();
      for (std::string& column : sample.columns) {
        column.resize(column.size() / rows * 2);
      }
      sample.keys.resize(2);
      sample.scaled_probability.resize(2);
    }
    const UpdateResult now = Update(sample, *fused);
    const UpdateResult late = Update(sample, *staged);
    if (i > 0) ExpectSame(late, before);
    before = now;
  }
  ExpectSame(staged->Finish(), before);
}

// Weights in bfloat16 have 8 bits: the values are near, and follow the weights.
TEST_P(StagedTest, Bf16IsNearFloat32) {
  const v1::Config config = this->config();
  std::unique_ptr<Algorithm> exact = Make(config, staged_placement());
  Placement rough_placement = staged_placement();
  rough_placement.bf16 = true;
  std::unique_ptr<Algorithm> rough =
      Make(config, rough_placement);
  const std::string start = exact->Publish();
  double difference = 0;
  for (int i = 0; i < 30; ++i) {
    const UpdateResult one = Update(Sample(i), *exact);
    const UpdateResult other = Update(Sample(i), *rough);
    if (one.pending) continue;
    EXPECT_NEAR(other.loss, one.loss, 0.05 * (1 + one.loss)) << i;
    EXPECT_NEAR(other.mean_q, one.mean_q, 0.05) << i;
    difference += std::abs(other.mean_q - one.mean_q);
  }
  EXPECT_GT(difference, 0);
  EXPECT_THAT(FloatsOf(rough->Publish()),
              Pointwise(FloatNear(0.03), FloatsOf(exact->Publish())));
  EXPECT_NE(rough->Publish(), start);
}

std::vector<StagedCase> StagedCases() {
  std::vector<std::pair<std::string, Placement>> placements = {{"", kStaged}};
  if (const absl::StatusOr<at::Device> cuda = FindDevice("cuda"); cuda.ok()) {
    placements.push_back(
        {"OnCuda", {.device = *cuda, .staged = true, .capture = false}});
    placements.push_back(
        {"AsCudaGraph", {.device = *cuda, .staged = true, .capture = true}});
  }
  std::vector<StagedCase> cases;
  for (const auto& [where, placement] : placements) {
    cases.push_back({"Dqn" + where, kDqn, placement});
    cases.push_back({"DqnRmsProp" + where, kDqnRmsProp, placement});
    cases.push_back({"Rainbow" + where, kRainbow, placement});
    cases.push_back({"QrDqn" + where, kQrDqn, placement});
    cases.push_back({"IteratedDqn" + where, kIteratedDqn, placement});
    cases.push_back({"IteratedDqnSoft" + where, kIteratedDqnSoft, placement});
  }
  return cases;
}

std::string NameOf(const testing::TestParamInfo<StagedCase>& info) {
  return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(Algorithms, StagedTest,
                         testing::ValuesIn(StagedCases()), NameOf);

TEST(StagedDqnTest, IllegalActionsAreNotValued) {
  const nlohmann::json golden = ReadGolden("rainbow.json");
  const v1::Config config = ConfigOf(kDqn);
  std::unique_ptr<Algorithm> fused = Make(config);
  std::unique_ptr<Algorithm> staged = Make(config, kStaged);
  const nlohmann::json& update = golden["updates"][0];
  ASSERT_TRUE(update.contains("next_action_mask"));
  const SampleBatch sample = GoldenSample(update);
  const v1::TableSignature signature = GoldenSignature(true);
  const UpdateResult now = fused->Update(Batch(signature, sample, 1));
  EXPECT_TRUE(staged->Update(Batch(signature, sample, 1)).pending);
  ExpectSame(staged->Finish(), now);
}

// ---------------------------------------------------------------- trainer ---

// Batches of distinct keys, some of them broken; remembers what priorities each
// key got. Now and then there is nothing.
class NumberedSampler : public Sampler {
 public:
  absl::StatusOr<std::unique_ptr<SampleBatch>> Next() override {
    if (dry) return absl::DeadlineExceededError("nothing yet");
    auto batch = std::make_unique<SampleBatch>(
        GoldenSample(updates_[next_ % updates_.size()]));
    for (SampleKey& key : batch->keys) key.slot = next_;
    if (next_ % 7 == 3) {
      const float bad = std::numeric_limits<float>::quiet_NaN();
      std::memcpy(batch->columns[1].data(), &bad, sizeof(bad));
    }
    ++next_;
    return batch;
  }
  absl::Status UpdatePriorities(absl::Span<const SampleKey> keys,
                                absl::Span<const float> values) override {
    batches.push_back(keys[0].slot);
    priorities.insert(priorities.end(), values.begin(), values.end());
    return absl::OkStatus();
  }
  ReplayView View() const override { return {}; }

  bool dry = false;
  std::vector<uint32_t> batches;
  std::vector<float> priorities;

 private:
  const nlohmann::json updates_ = ReadGolden("dqn.json")["updates"];
  uint32_t next_ = 0;
};

TEST(StagedTrainerTest, PrioritiesGoToTheKeysOfTheirBatch) {
  v1::Config config = ConfigOf(kDqn);
  *config.mutable_replay()->mutable_table()->mutable_signature() =
      GoldenSignature(false);
  NumberedSampler sampler, staged_sampler;
  Trainer trainer(config, Make(config), sampler);
  Trainer staged(config, Make(config, kStaged), staged_sampler);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(trainer.Step(), absl::OkStatus());
    ASSERT_EQ(staged.Step(), absl::OkStatus());
  }
  EXPECT_EQ(sampler.batches.back(), 19u);
  EXPECT_EQ(staged_sampler.batches.back(), 18u);
  // Nothing to sample: what is known goes out before the wait.
  staged_sampler.dry = true;
  EXPECT_TRUE(absl::IsDeadlineExceeded(staged.Step()));
  EXPECT_EQ(staged_sampler.batches, sampler.batches);
  EXPECT_THAT(staged_sampler.priorities,
              Pointwise(FloatNear(2e-5), sampler.priorities));
  EXPECT_EQ(staged.updates(), trainer.updates());
  const TrainerAccount account = staged.TakeAccount();
  const TrainerAccount expected = trainer.TakeAccount();
  EXPECT_EQ(account.updates, expected.updates);
  EXPECT_EQ(account.skipped, expected.skipped);
  staged_sampler.dry = false;
  ASSERT_EQ(staged.Step(), absl::OkStatus());
  ASSERT_EQ(staged.Step(), absl::OkStatus());
  EXPECT_EQ(staged_sampler.batches.back(), 20u);
}

// --------------------------------------------------------------- the parts ---

TEST(DevicePipelineTest, OutputsAreOfTheirOwnRun) {
  DevicePipeline pipeline(at::kCPU, /*input_bytes=*/1, /*output_size=*/2, {});
  std::vector<float> outputs;
  for (int i = 0; i < 5; ++i) {
    pipeline.next_input().fill_(i);
    pipeline.Run([&] {
      pipeline.output().fill_(pipeline.input().item<uint8_t>() * 10);
    });
    if (pipeline.in_flight() == 2) outputs.push_back(pipeline.Fetch()[1]);
  }
  EXPECT_THAT(outputs, ElementsAre(0, 10, 20, 30));
  EXPECT_EQ(pipeline.in_flight(), 1);
  pipeline.Wait();
  EXPECT_EQ(pipeline.Fetch()[0], 40);
  EXPECT_EQ(pipeline.in_flight(), 0);
}

TEST(InputLayoutTest, HoldsABatchAlignedAndKnowsItsLike) {
  const nlohmann::json golden = ReadGolden("rainbow.json");
  const SampleBatch sample = GoldenSample(golden["updates"][0]);
  const v1::TableSignature signature = GoldenSignature(true);
  const Batch batch(signature, sample, 1);
  const InputLayout layout(batch, {3, 0}, {2, 5});
  const at::Tensor block = at::zeros({layout.bytes()}, at::kByte);
  const StagedInputs views = layout.Views(block);
  CopyColumns(batch, views);
  views.scalars.fill_(-1);
  EXPECT_EQ(views.batch.rows(), batch.rows());
  for (const auto& [name, tensor] : batch.columns()) {
    EXPECT_TRUE(at::equal(views.batch[name], tensor)) << name;
    EXPECT_EQ(views.batch[name].storage_offset() *
                  views.batch[name].element_size() % 256,
              0u)
        << name;
  }
  EXPECT_TRUE(at::equal(views.batch.weights(), batch.weights()));
  EXPECT_EQ(views.noise.numel(), 0);
  EXPECT_TRUE(layout.Fits(views.batch));
  EXPECT_FALSE(layout.Fits(Batch(GoldenSignature(false), sample, 1)));
  Batch::Columns shorter = batch.columns();
  shorter[0].second = shorter[0].second.narrow(0, 0, 2);
  EXPECT_FALSE(layout.Fits(Batch(shorter, batch.weights())));
}

TEST(FindDeviceTest, RefusesInWordsWhatIsNotThere) {
  EXPECT_TRUE((*FindDevice("cpu")).is_cpu());
  for (const char* name : {"gpu", "cuda:", "cuda:x", "CUDA", ""}) {
    EXPECT_EQ(FindDevice(name).status().message(),
              std::string("learner.device = ") + name +
                  ": allowed is cpu, cuda or cuda:N");
  }
  // No machine has so many.
  const absl::Status status = FindDevice("cuda:9999").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(status.message()),
      testing::StartsWith("learner.device = cuda:9999: allowed is cpu"));
}

TEST(MakeAlgorithmTest, RefusesADeviceThatIsNotThere) {
  v1::Config config = ConfigOf(kDqn);
  config.mutable_environment()->set_id("CartPole-v1");
  config.mutable_learner()->set_device("cuda:9999");
  EXPECT_THAT(std::string(MakeAlgorithm(config).status().message()),
              HasSubstr("learner.device = cuda:9999"));
  config.mutable_learner()->set_device("cpu");
  EXPECT_EQ(MakeAlgorithm(config).status(), absl::OkStatus());
}

}  // namespace
}  // namespace qfleet
