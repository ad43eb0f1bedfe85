// Against an independent implementation in Python PyTorch
// (tests/golden/make_golden.py).
#include "learner/algorithms/dqn.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "envs/registry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "learner/losses.h"
#include "nlohmann/json.hpp"

namespace qfleet {
namespace {

using Floats = std::vector<float>;

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(T));
}

std::string Rows(const nlohmann::json& rows) {
  Floats flat;
  for (const auto& row : rows) {
    for (float value : row) flat.push_back(value);
  }
  return Bytes(flat);
}

void Add(google::protobuf::RepeatedPtrField<v1::TensorSpec>* columns,
         const char* name, v1::DType dtype, int size = 0) {
  v1::TensorSpec* spec = columns->Add();
  spec->set_name(name);
  spec->set_dtype(dtype);
  if (size > 0) spec->add_shape(size);
}

v1::TableSignature Signature() {
  v1::TableSignature signature;
  Add(signature.mutable_step_columns(), "observation", v1::FLOAT32, 4);
  Add(signature.mutable_item_columns(), "action", v1::INT32);
  Add(signature.mutable_item_columns(), "return", v1::FLOAT32);
  Add(signature.mutable_item_columns(), "discount", v1::FLOAT32);
  for (const char* name : {"observation", "next_observation"}) {
    v1::View* view = signature.add_views();
    view->set_name(name);
    view->set_column("observation");
    view->set_anchor(view->name() == "observation" ? v1::View::FIRST
                                                   : v1::View::LAST);
  }
  return signature;
}

// Scaled probabilities that give these importance weights at beta 1.
SampleBatch MakeSample(const nlohmann::json& update) {
  SampleBatch sample;
  sample.columns = {Bytes(update["action"].get<std::vector<int32_t>>()),
                    Bytes(update["return"].get<Floats>()),
                    Bytes(update["discount"].get<Floats>()),
                    Rows(update["observation"]),
                    Rows(update["next_observation"])};
  for (double weight : update["weights"]) {
    sample.keys.emplace_back();
    sample.scaled_probability.push_back(1 / weight);
  }
  return sample;
}

class DqnTest : public testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file(QFLEET_SOURCE_DIR "/tests/golden/dqn.json");
    golden_ = nlohmann::json::parse(file);
    config_.mutable_network()->add_hidden(8);
    config_.mutable_network()->add_hidden(8);
    config_.mutable_optimizer()->set_learning_rate(3e-3);
    config_.mutable_optimizer()->mutable_adam()->set_epsilon(1e-4);
    v1::AlgorithmConfig* algorithm = config_.mutable_algorithm();
    algorithm->set_target_period(10);
    algorithm->mutable_dqn()->set_huber_delta(1.5);
    algorithm->set_max_gradient_norm(0.7);
    EnvironmentSpec environment;
    environment.observation = Signature().step_columns(0);
    environment.num_actions = 3;
    network_ = *Network::Make(config_.network(), environment);
  }

  // A Dqn whose networks are the golden start.
  std::unique_ptr<Dqn> MakeStart() {
    auto dqn = std::make_unique<Dqn>(config_, network_);
    std::vector<v1::NamedTensor> state = dqn->Save();
    for (v1::NamedTensor& tensor : state) {
      if (tensor.spec().name() == "online" ||
          tensor.spec().name() == "target") {
        tensor.set_data(Bytes(golden_["start"].get<Floats>()));
      }
    }
    EXPECT_TRUE(dqn->Load(0, state).ok());
    return dqn;
  }

  UpdateResult Update(Dqn& dqn, int number) {
    const SampleBatch sample = MakeSample(golden_["updates"][number]);
    const v1::TableSignature signature = Signature();
    Batch batch(signature, sample, /*beta=*/1);
    return dqn.Update(batch);
  }

  nlohmann::json golden_;
  v1::Config config_;
  std::shared_ptr<const Network> network_;
};

TEST_F(DqnTest, ThirtyUpdatesFollowTheIndependentImplementation) {
  std::unique_ptr<Dqn> dqn = MakeStart();
  for (size_t i = 0; i < golden_["updates"].size(); ++i) {
    const nlohmann::json& expected = golden_["updates"][i];
    const UpdateResult result = Update(*dqn, i);
    EXPECT_NEAR(result.loss, expected["loss"], 2e-5) << "update " << i;
    EXPECT_NEAR(result.gradient_norm, expected["gradient_norm"], 2e-4);
    const Floats priorities = expected["priorities"];
    EXPECT_THAT(result.priorities,
                testing::Pointwise(testing::FloatNear(1e-4), priorities));
  }
  const std::string published = dqn->Publish();
  Floats end(published.size() / sizeof(float));
  std::memcpy(end.data(), published.data(), published.size());
  EXPECT_THAT(end, testing::Pointwise(testing::FloatNear(1e-4),
                                      golden_["end"].get<Floats>()));
  EXPECT_NE(golden_["end"], golden_["start"]);
}

TEST_F(DqnTest, ALoadedStateGoesOnToTheBit) {
  std::unique_ptr<Dqn> straight = MakeStart();
  std::unique_ptr<Dqn> first = MakeStart();
  for (int i = 0; i < 15; ++i) {
    Update(*straight, i);
    Update(*first, i);
  }
  Dqn second(config_, network_);
  ASSERT_TRUE(second.Load(first->updates(), first->Save()).ok());
  for (int i = 15; i < 30; ++i) {
    Update(*straight, i);
    Update(second, i);
  }
  EXPECT_EQ(straight->Publish(), second.Publish());
  EXPECT_EQ(second.updates(), 30);
}

TEST_F(DqnTest, AStateThatDoesNotFitIsRefusedAndChangesNothing) {
  std::unique_ptr<Dqn> dqn = MakeStart();
  const std::string before = dqn->Publish();
  std::vector<v1::NamedTensor> state = dqn->Save();
  state[0].mutable_data()->assign(state[0].data().size(), '\1');
  state.back().mutable_data()->resize(8);
  absl::Status status = dqn->Load(3, state);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("adam.second_moment"));
  EXPECT_EQ(dqn->Publish(), before);
}

TEST(LossesTest, DoubleQTakesTheActionOfOneAndTheValueOfTheOther) {
  const at::Tensor choose = at::tensor({1.f, 5.f, 2.f, 0.f}).view({2, 2});
  const at::Tensor next = at::tensor({10.f, 20.f, 30.f, 40.f}).view({2, 2});
  const at::Tensor target = BootstrapTarget(
      at::tensor({1.f, 2.f}), at::tensor({0.5f, 0.f}), choose, next);
  EXPECT_TRUE(at::equal(target, at::tensor({11.f, 2.f})));
  EXPECT_TRUE(at::equal(BootstrapTarget(at::tensor({0.f, 0.f}),
                                        at::tensor({1.f, 1.f}), next, next),
                        at::tensor({20.f, 40.f})));
}

TEST(LossesTest, HuberIsQuadraticThenLinear) {
  const at::Tensor x = at::tensor({-4.f, -1.f, 0.f, 0.5f, 2.f, 3.f});
  EXPECT_TRUE(at::allclose(Huber(x, 2),
                           at::tensor({6.f, 0.5f, 0.f, 0.125f, 2.f, 4.f})));
}

TEST(LossesTest, TheGradientIsClippedBeforeItIsWeighted) {
  at::Tensor td = at::tensor({5.f, -0.5f, -9.f, 0.25f}).requires_grad_(true);
  const at::Tensor weights = at::tensor({1.f, 0.5f, 0.25f, 0.f});
  WeightedHuber(td, weights, 1).backward();
  EXPECT_TRUE(
      at::allclose(td.grad(), at::tensor({1.f, -0.25f, -0.25f, 0.f}) / 4));
}

// With m actions of true value 0 and estimates off by uniform +- e noise,
// the bias of max is e (m - 1) / (m + 1); Double Q's is 0 (van Hasselt et al.
// 2016).
TEST(LossesTest, DoubleQHasNoOverestimationBias) {
  constexpr int kRows = 200000;
  constexpr int kActions = 5;
  constexpr double kNoise = 1.5;
  Random random(11);
  auto noise = [&random] {
    at::Tensor values = at::empty({kRows, kActions});
    float* data = values.data_ptr<float>();
    for (int i = 0; i < kRows * kActions; ++i) {
      data[i] = static_cast<float>(random.Uniform(-kNoise, kNoise));
    }
    return values;
  };
  const at::Tensor one = noise(), other = noise();
  const at::Tensor zero = at::zeros({kRows}), gamma = at::full({kRows}, 0.9);
  const double plain =
      BootstrapTarget(zero, gamma, one, one).mean().item<double>();
  const double twice =
      BootstrapTarget(zero, gamma, other, one).mean().item<double>();
  EXPECT_NEAR(plain, 0.9 * kNoise * (kActions - 1) / (kActions + 1), 0.01);
  EXPECT_NEAR(twice, 0, 0.01);
}

}  // namespace
}  // namespace qfleet
