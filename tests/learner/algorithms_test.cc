// Each algorithm against an independent implementation
// (tests/golden/make_golden.py), and what each promises.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "learner/algorithms/algorithm.h"
#include "learner/algorithms/categorical_dqn.h"
#include "learner/algorithms/dqn.h"
#include "learner/algorithms/iterated_dqn.h"
#include "learner/algorithms/qr_dqn.h"
#include "tests/learner/golden.h"

namespace qfleet {
namespace {

v1::Config ConfigOf(const std::string& text) {
  v1::Config config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config));
  return config;
}

template <typename T>
std::unique_ptr<T> Make(const v1::Config& config) {
  return std::make_unique<T>(config,
                             *Network::Make(config, GoldenEnvironment()));
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
    adam { epsilon: 1e-4 }
  }
)pb";

constexpr char kRainbow[] = R"pb(
  algorithm {
    target_period: 4
    target_tau: 0.3
    max_gradient_norm: 0.5
    rainbow { atoms: 7 v_min: -3 v_max: 3 }
  }
  network { hidden: 8 }
  optimizer {
    learning_rate: 3e-3
    adam {}
  }
)pb";

constexpr char kQrDqn[] = R"pb(
  algorithm {
    double_q: false
    value_rescaling: true
    target_period: 5
    max_gradient_norm: 0
    qr_dqn { quantiles: 5 huber_delta: 0.8 }
  }
  network { hidden: 8 }
  optimizer {
    learning_rate: 3e-3
    adam {}
  }
)pb";

constexpr char kIteratedDqn[] = R"pb(
  algorithm {
    double_q: false
    target_period: 5
    max_gradient_norm: 0
    i_dqn { networks: 3 sync_period: 2 huber_delta: 0 }
  }
  network { hidden: 8 hidden: 8 }
  optimizer {
    learning_rate: 3e-3
    adam {}
  }
)pb";

TEST(DqnTest, FollowsTheIndependentImplementation) {
  const nlohmann::json golden = ReadGolden("dqn.json");
  ExpectGoldenUpdates(golden, *Make<Dqn>(ConfigOf(kDqn)));
}

TEST(CategoricalDqnTest, FollowsTheIndependentImplementation) {
  ExpectGoldenUpdates(ReadGolden("rainbow.json"),
                      *Make<CategoricalDqn>(ConfigOf(kRainbow)));
}

TEST(QrDqnTest, FollowsTheIndependentImplementation) {
  ExpectGoldenUpdates(ReadGolden("qr_dqn.json"),
                      *Make<QrDqn>(ConfigOf(kQrDqn)));
}

TEST(IteratedDqnTest, FollowsTheIndependentImplementation) {
  ExpectGoldenUpdates(ReadGolden("i_dqn.json"),
                      *Make<IteratedDqn>(ConfigOf(kIteratedDqn)));
}

UpdateResult UpdateOnce(const nlohmann::json& update, Algorithm& algorithm) {
  const SampleBatch sample = GoldenSample(update);
  const v1::TableSignature signature =
      GoldenSignature(update.contains("next_action_mask"));
  return algorithm.Update(Batch(signature, sample, /*beta=*/1));
}

TEST(IteratedDqnTest, WithOneNetworkItIsDqnToTheBit) {
  const nlohmann::json golden = ReadGolden("dqn.json");
  v1::Config config = ConfigOf(kDqn);
  std::unique_ptr<Algorithm> dqn = Make<Dqn>(config);
  v1::IteratedDqnConfig* iterated = config.mutable_algorithm()->mutable_i_dqn();
  iterated->set_networks(1);
  iterated->set_sync_period(3);
  iterated->set_huber_delta(1.5);
  std::unique_ptr<Algorithm> chain = Make<IteratedDqn>(config);
  ASSERT_EQ(dqn->Publish(), chain->Publish());
  for (const nlohmann::json& update : golden["updates"]) {
    const UpdateResult one = UpdateOnce(update, *dqn);
    const UpdateResult other = UpdateOnce(update, *chain);
    ASSERT_EQ(one.priorities, other.priorities);
    ASSERT_EQ(dqn->Publish(), chain->Publish());
  }
}

class EveryAlgorithm : public testing::TestWithParam<const char*> {
 protected:
  // With noise, so that the generator's state counts.
  EveryAlgorithm() : config_(ConfigOf(GetParam())) {
    config_.mutable_network()->set_noisy(true);
  }

  std::unique_ptr<Algorithm> Make() {
    auto network = *Network::Make(config_, GoldenEnvironment());
    switch (config_.algorithm().kind_case()) {
      case v1::AlgorithmConfig::kRainbow:
        return std::make_unique<CategoricalDqn>(config_, network);
      case v1::AlgorithmConfig::kQrDqn:
        return std::make_unique<QrDqn>(config_, network);
      case v1::AlgorithmConfig::kIDqn:
        return std::make_unique<IteratedDqn>(config_, network);
      default:
        return std::make_unique<Dqn>(config_, network);
    }
  }

  v1::Config config_;
  nlohmann::json updates_ = ReadGolden("dqn.json")["updates"];
};

TEST_P(EveryAlgorithm, ALoadedStateGoesOnToTheBit) {
  std::unique_ptr<Algorithm> straight = Make(), first = Make();
  for (int i = 0; i < 15; ++i) {
    UpdateOnce(updates_[i], *straight);
    UpdateOnce(updates_[i], *first);
  }
  config_.set_seed(99);
  std::unique_ptr<Algorithm> second = Make();
  ASSERT_NE(second->Publish(), first->Publish());
  ASSERT_EQ(second->Load(first->updates(), first->Save()), absl::OkStatus());
  for (int i = 15; i < 30; ++i) {
    UpdateOnce(updates_[i], *straight);
    UpdateOnce(updates_[i], *second);
  }
  EXPECT_EQ(straight->Publish(), second->Publish());
  EXPECT_EQ(second->updates(), 30);
}

TEST_P(EveryAlgorithm, AStateThatDoesNotFitIsRefusedAndChangesNothing) {
  std::unique_ptr<Algorithm> algorithm = Make();
  UpdateOnce(updates_[0], *algorithm);
  const std::string before = algorithm->Publish();
  const std::vector<v1::NamedTensor> good = algorithm->Save();
  for (size_t damaged = 0; damaged < good.size(); ++damaged) {
    for (bool missing : {false, true}) {
      std::vector<v1::NamedTensor> state = good;
      for (v1::NamedTensor& tensor : state) {
        if (tensor.spec().dtype() == v1::FLOAT32) {
          tensor.mutable_data()->assign(tensor.data().size(), '\1');
        }
      }
      state[damaged].set_data("x");
      const std::string name = good[damaged].spec().name();
      if (missing) state[damaged].mutable_spec()->set_name("other");
      absl::Status status = algorithm->Load(3, state);
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << name;
      EXPECT_THAT(std::string(status.message()), testing::HasSubstr(name));
    }
  }
  EXPECT_EQ(algorithm->Publish(), before);
  EXPECT_EQ(algorithm->updates(), 1);
}

TEST_P(EveryAlgorithm, AnUpdateThatIsNotFiniteIsSkipped) {
  std::unique_ptr<Algorithm> algorithm = Make();
  UpdateOnce(updates_[0], *algorithm);
  auto state_of = [](Algorithm& one) {
    std::string all;
    for (const v1::NamedTensor& tensor : one.Save()) {
      // The generator of noise has moved on, and may.
      if (tensor.spec().dtype() == v1::FLOAT32) all += tensor.data();
    }
    return all;
  };
  const std::string before = state_of(*algorithm);
  nlohmann::json broken = updates_[1];
  const SampleBatch good = GoldenSample(broken);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(),
                    std::numeric_limits<float>::infinity()}) {
    SampleBatch sample = good;
    std::memcpy(sample.columns[3].data(), &bad, sizeof(bad));  // observation
    const v1::TableSignature signature = GoldenSignature(false);
    const UpdateResult result =
        algorithm->Update(Batch(signature, sample, /*beta=*/1));
    EXPECT_TRUE(result.skipped);
    EXPECT_THAT(result.priorities, testing::IsEmpty());
    EXPECT_EQ(state_of(*algorithm), before);
    EXPECT_EQ(algorithm->updates(), 1);
  }
  // A return that is no number has no place among a distribution's atoms.
  SampleBatch sample = good;
  const float bad = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(sample.columns[1].data(), &bad, sizeof(bad));
  const v1::TableSignature signature = GoldenSignature(false);
  EXPECT_TRUE(algorithm->Update(Batch(signature, sample, /*beta=*/1)).skipped);
  EXPECT_EQ(state_of(*algorithm), before);
  EXPECT_FALSE(UpdateOnce(updates_[1], *algorithm).skipped);
}

std::string NameOf(const testing::TestParamInfo<const char*>& info) {
  constexpr const char* kNames[] = {"Dqn", "Rainbow", "QrDqn", "IteratedDqn"};
  return kNames[info.index];
}

INSTANTIATE_TEST_SUITE_P(Algorithms, EveryAlgorithm,
                         testing::Values(kDqn, kRainbow, kQrDqn, kIteratedDqn),
                         NameOf);

// Each of Rainbow's switches changes what it is said to change. (n-step is the
// actor's: n_step_test; prioritized the table's: config_test, table_test.)

// The first update's priorities, |target - Q|, of two configs with the same
// weights.
std::vector<float> FirstPriorities(Algorithm& algorithm,
                                   const nlohmann::json& golden) {
  // Targets that differ from the online networks, so that who chooses matters.
  std::vector<v1::NamedTensor> state = algorithm.Save();
  for (v1::NamedTensor& tensor : state) {
    if (tensor.spec().name() == "target") {
      std::vector<float> weights = FloatsOf(tensor.data());
      for (size_t i = 0; i < weights.size(); ++i) {
        weights[i] = static_cast<float>(std::sin(static_cast<double>(i)));
      }
      tensor.set_data(BytesOf(weights));
    }
  }
  EXPECT_TRUE(algorithm.Load(0, state).ok());
  return UpdateOnce(golden["updates"][0], algorithm).priorities;
}

TEST(SwitchTest, DoubleQChangesWhoChoosesTheNextAction) {
  const nlohmann::json golden = ReadGolden("dqn.json");
  v1::Config config = ConfigOf(kDqn);
  const std::vector<float> with = FirstPriorities(*Make<Dqn>(config), golden);
  config.mutable_algorithm()->set_double_q(false);
  const std::vector<float> without =
      FirstPriorities(*Make<Dqn>(config), golden);
  EXPECT_NE(with, without);
  // Where nothing follows there is nothing to choose.
  EXPECT_EQ(with[2], without[2]);
  EXPECT_EQ(with[5], without[5]);
}

TEST(SwitchTest, DuelingNeedsOneMoreOutputAndCentresAdvantages) {
  v1::Config config = ConfigOf(kDqn);
  auto dueling = *Network::Make(config, GoldenEnvironment());
  config.mutable_network()->set_dueling(false);
  auto plain = *Network::Make(config, GoldenEnvironment());
  EXPECT_EQ(dueling->parameter_count() - plain->parameter_count(), 8 + 1);
  EXPECT_NE(dueling->signature(), plain->signature());
}

TEST(SwitchTest, DistributionalLearnsADistributionOfTheSameMeans) {
  v1::Config config = ConfigOf(kRainbow);
  EXPECT_EQ((*Network::Make(config, GoldenEnvironment()))->head(),
            Network::Head::kCategorical);
  config.mutable_algorithm()->mutable_rainbow()->set_distributional(false);
  EXPECT_EQ((*Network::Make(config, GoldenEnvironment()))->head(),
            Network::Head::kValue);
}

// Each forward pass of an update, and each update, has noise of its own.
TEST(SwitchTest, NoiseChangesEachUpdate) {
  const nlohmann::json golden = ReadGolden("dqn.json");
  v1::Config config = ConfigOf(kDqn);
  config.mutable_network()->set_noisy(true);
  config.mutable_optimizer()->set_learning_rate(1e-30);
  std::unique_ptr<Algorithm> noisy = Make<Dqn>(config);
  const auto first = UpdateOnce(golden["updates"][0], *noisy).priorities;
  const auto second = UpdateOnce(golden["updates"][0], *noisy).priorities;
  EXPECT_NE(first, second);
  config.mutable_network()->set_noisy(false);
  std::unique_ptr<Algorithm> plain = Make<Dqn>(config);
  EXPECT_EQ(UpdateOnce(golden["updates"][0], *plain).priorities,
            UpdateOnce(golden["updates"][0], *plain).priorities);
}

}  // namespace
}  // namespace qfleet
