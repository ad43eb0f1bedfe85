// The actor over real environments with a writer that remembers: every item
// is recomputed from the steps that were written.
#include "actor/actor.h"

#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actor/evaluator.h"
#include "common/hash.h"
#include "envs/registry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

constexpr int kEnvironments = 3;
constexpr int kN = 3;
constexpr double kGamma = 0.9;

struct WrittenStep {
  bool starts;
  std::string observation;
};

struct WrittenItem {
  uint32_t stream;
  uint64_t first, last;
  int32_t action;
  float return_, discount, priority;
};

template <typename T>
T As(ColumnRow row) {
  T value;
  EXPECT_EQ(row.size(), sizeof(T));
  std::memcpy(&value, row.data(), sizeof(value));
  return value;
}

class MemoryWriter : public Writer {
 public:
  absl::StatusOr<uint64_t> AppendStep(
      uint32_t stream, bool starts,
      absl::Span<const ColumnRow> columns) override {
    EXPECT_EQ(columns.size(), 1u);
    steps[stream].push_back(
        {starts, std::string(columns[0].begin(), columns[0].end())});
    return steps[stream].size() - 1;
  }
  absl::Status AppendItem(uint32_t stream, uint64_t first, uint64_t last,
                          absl::Span<const ColumnRow> columns,
                          float priority) override {
    items.push_back({stream, first, last, As<int32_t>(columns[0]),
                     As<float>(columns[1]), As<float>(columns[2]), priority});
    return absl::OkStatus();
  }
  absl::Status Poll() override { return absl::OkStatus(); }
  absl::Status Flush() override { return absl::OkStatus(); }

  std::map<uint32_t, std::vector<WrittenStep>> steps;
  std::vector<WrittenItem> items;
};

class ActorTest : public testing::Test {
 protected:
  void SetUp() override {
    config_.mutable_environment()->set_id("CartPole-v1");
    config_.mutable_network()->add_hidden(16);
    config_.mutable_algorithm()->set_n_step(kN);
    config_.mutable_algorithm()->set_gamma(kGamma);
    auto environment = MakeEnvironment(config_.environment());
    ASSERT_TRUE(environment.ok());
    observation_ = (*environment)->spec().observation;
    auto network = Network::Make(config_, (*environment)->spec());
    ASSERT_TRUE(network.ok());
    network_ = *network;
    policy_ = std::make_unique<Policy>(network_, observation_);
    ASSERT_TRUE(policy_->SetWeights(MakePublication(1)).ok());
  }

  v1::Publication MakePublication(uint64_t seed) {
    FlatParameters parameters(*network_);
    Random random(seed);
    parameters.Initialize(*network_, random);
    v1::Publication publication;
    publication.set_version(seed);
    publication.set_network(network_->signature());
    publication.set_parameters(parameters.values().data(),
                               parameters.values().size() * sizeof(float));
    publication.set_hash(Hash64(publication.parameters()));
    return publication;
  }

  std::unique_ptr<Actor> MakeActor(Writer& writer, double epsilon) {
    auto environments =
        MakeVectorEnvironment(config_.environment(), kEnvironments, /*seed=*/3);
    EXPECT_TRUE(environments.ok());
    return std::make_unique<Actor>(
        config_.algorithm(), *std::move(environments),
        Explorer(std::vector<double>(kEnvironments, epsilon), /*seed=*/4),
        *policy_, writer);
  }

  std::vector<float> Q(const std::string& observation) {
    absl::Span<const float> q = policy_->QValues(observation, 1);
    return std::vector<float>(q.begin(), q.end());
  }

  v1::Config config_;
  v1::TensorSpec observation_;
  std::shared_ptr<const Network> network_;
  std::unique_ptr<Policy> policy_;
};

TEST_F(ActorTest, EveryItemFollowsFromTheStepsWritten) {
  MemoryWriter writer;
  std::unique_ptr<Actor> actor = MakeActor(writer, /*epsilon=*/1);
  for (int step = 0; step < 400; ++step) ASSERT_TRUE(actor->Step().ok());
  EXPECT_EQ(actor->stats().env_steps, 400u * kEnvironments);
  EXPECT_GT(actor->stats().episodes, 20u);
  EXPECT_GT(writer.items.size(), 1000u);
  int ends = 0;
  for (const WrittenItem& item : writer.items) {
    const std::vector<WrittenStep>& steps = writer.steps[item.stream];
    const uint64_t k = item.last - item.first;
    ASSERT_GE(k, 1u);
    ASSERT_LE(k, static_cast<uint64_t>(kN));
    for (uint64_t i = item.first + 1; i <= item.last; ++i) {
      ASSERT_FALSE(steps[i].starts) << "an item crosses a reset";
    }
    // CartPole's reward is 1.
    double expected = 0;
    for (uint64_t i = 0; i < k; ++i) expected += std::pow(kGamma, i);
    EXPECT_NEAR(item.return_, expected, 1e-5);
    const bool ended =
        item.last + 1 < steps.size() && steps[item.last + 1].starts;
    ends += ended;
    if (!ended) {
      EXPECT_EQ(k, static_cast<uint64_t>(kN));
    }
    EXPECT_NEAR(item.discount, ended ? 0 : std::pow(kGamma, k), 1e-6);
    const std::vector<float> q_first = Q(steps[item.first].observation);
    const std::vector<float> q_last = Q(steps[item.last].observation);
    const double target =
        item.return_ + item.discount * std::max(q_last[0], q_last[1]);
    EXPECT_NEAR(item.priority, std::abs(target - q_first[item.action]), 1e-4);
  }
  EXPECT_GT(ends, 50);
}

TEST_F(ActorTest, EveryTransitionStartsOneItem) {
  MemoryWriter writer;
  std::unique_ptr<Actor> actor = MakeActor(writer, /*epsilon=*/1);
  for (int step = 0; step < 300; ++step) ASSERT_TRUE(actor->Step().ok());
  std::map<std::pair<uint32_t, uint64_t>, int> starts;
  for (const WrittenItem& item : writer.items) {
    ++starts[{item.stream, item.first}];
  }
  for (const auto& [stream, steps] : writer.steps) {
    // Those at the very end still wait for their last step.
    for (uint64_t i = 0; i + kN + 1 < steps.size(); ++i) {
      const bool is_final = steps[i + 1].starts;
      EXPECT_EQ((starts[{stream, i}]), is_final ? 0 : 1)
          << "stream " << stream << " step " << i;
    }
  }
}

TEST_F(ActorTest, TheSameSeedsWriteTheSame) {
  MemoryWriter first, second;
  std::unique_ptr<Actor> a = MakeActor(first, 0.3);
  std::unique_ptr<Actor> b = MakeActor(second, 0.3);
  for (int step = 0; step < 200; ++step) {
    ASSERT_TRUE(a->Step().ok());
    ASSERT_TRUE(b->Step().ok());
  }
  ASSERT_EQ(first.items.size(), second.items.size());
  for (size_t i = 0; i < first.items.size(); ++i) {
    EXPECT_EQ(first.items[i].action, second.items[i].action);
    EXPECT_EQ(first.items[i].priority, second.items[i].priority);
  }
}

TEST_F(ActorTest, EvaluationRepeatsItself) {
  config_.mutable_evaluation()->set_episodes(7);
  absl::StatusOr<v1::Evaluation> first = Evaluate(config_, *policy_);
  absl::StatusOr<v1::Evaluation> second = Evaluate(config_, *policy_);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->SerializeAsString(), second->SerializeAsString());
  EXPECT_EQ(first->episodes(), 7u);
  EXPECT_LE(first->min_return(), first->median_return());
  EXPECT_LE(first->median_return(), first->max_return());
  // CartPole's return is its length.
  EXPECT_EQ(first->mean_return(), first->mean_length());
}

TEST_F(ActorTest, EvaluationCanBeCancelled) {
  EXPECT_TRUE(absl::IsCancelled(
      Evaluate(config_, *policy_, [] { return true; }).status()));
}

TEST_F(ActorTest, WeightsOfAnotherNetworkAreRefusedInWords) {
  v1::Publication publication = MakePublication(2);
  publication.set_network("float32[4] mlp 99 dueling 2");
  absl::Status status = policy_->SetWeights(publication);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("mlp 99"),
                             testing::HasSubstr("mlp 16")));
  EXPECT_EQ(policy_->version(), 1u);
}

// It was reported as a usage error.
TEST_F(ActorTest, WeightsThatGiveNoNumbersAreAnErrorOfTheirOwn) {
  v1::Publication publication = MakePublication(2);
  const std::vector<float> values(network_->parameter_count(), NAN);
  publication.set_parameters(values.data(), values.size() * sizeof(float));
  publication.set_hash(Hash64(publication.parameters()));
  ASSERT_TRUE(policy_->SetWeights(publication).ok());
  MemoryWriter writer;
  std::unique_ptr<Actor> actor = MakeActor(writer, /*epsilon=*/1);
  absl::Status status;
  for (int step = 0; step < 200 && status.ok(); ++step) status = actor->Step();
  EXPECT_TRUE(absl::IsInternal(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("policy version 2"));
  EXPECT_THAT(writer.items, testing::IsEmpty());
}

TEST_F(ActorTest, ChangedWeightsAreRefused) {
  v1::Publication publication = MakePublication(2);
  (*publication.mutable_parameters())[5] ^= 1;
  EXPECT_EQ(policy_->SetWeights(publication).code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(policy_->version(), 1u);
  EXPECT_TRUE(policy_->SetWeights(MakePublication(2)).ok());
  EXPECT_EQ(policy_->version(), 2u);
}

}  // namespace
}  // namespace qfleet
