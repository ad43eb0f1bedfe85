// The actor over real environments with a writer that remembers: every item
// is recomputed from the steps that were written.
#include "actor/actor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actor/evaluator.h"
#include "common/hash.h"
#include "envs/grid_world.h"
#include "envs/registry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/actor/memory_writer.h"

namespace qfleet {
namespace {

constexpr int kEnvironments = 3;
constexpr int kN = 3;
constexpr double kGamma = 0.9;

class ActorTest : public testing::Test {
 protected:
  void SetUp() override { Use("CartPole-v1"); }

  void Use(const std::string& environment_id) {
    v1::EnvironmentConfig environment;
    environment.set_id(environment_id);
    Use(environment);
  }

  void Use(const v1::EnvironmentConfig& environment_config) {
    config_.Clear();
    *config_.mutable_environment() = environment_config;
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

  std::unique_ptr<Actor> MakeActor(Writer& writer, double epsilon,
                                   int groups = 1) {
    auto environments =
        MakeVectorEnvironments(config_.environment(),
                               {.count = kEnvironments, .seed = 3}, groups);
    EXPECT_TRUE(environments.ok());
    return std::make_unique<Actor>(
        config_.algorithm(), *std::move(environments),
        Explorer(std::vector<double>(kEnvironments, epsilon), /*seed=*/4),
        *policy_, writer);
  }

  std::vector<float> Q(const std::string& observation) {
    absl::Span<const float> q =
        policy_->QValues({observation.data(), observation.size()}, 1);
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

// An environment in a shared library whose third step is not finite.
TEST_F(ActorTest, NothingOfAFailedStepIsStored) {
  for (int groups : {1, 2}) {
    v1::EnvironmentConfig environment;
    environment.mutable_plugin()->set_path(QFLEET_PLUGIN_DIR "/faulty.so");
    environment.mutable_plugin()->set_options("observation");
    Use(environment);
    MemoryWriter writer;
    std::unique_ptr<Actor> actor = MakeActor(writer, /*epsilon=*/1, groups);
    absl::Status status;
    int rounds = 0;
    while (status.ok() && rounds < 10) {
      status = actor->Step();
      ++rounds;
    }
    // With two groups a step ends in the next round.
    EXPECT_EQ(rounds, groups == 1 ? 3 : 4);
    EXPECT_THAT(std::string(status.message()),
                testing::HasSubstr("observation[1] = inf"));
    for (const auto& [stream, steps] : writer.steps) {
      ASSERT_EQ(steps.size(), 3u) << "the first and two good ones";
      for (const WrittenStep& step : steps) {
        float numbers[2];
        ASSERT_EQ(step.observation.size(), sizeof(numbers));
        std::memcpy(numbers, step.observation.data(), sizeof(numbers));
        EXPECT_TRUE(std::isfinite(numbers[0]) && std::isfinite(numbers[1]));
      }
    }
  }
}

// Where the agent was.
int Cell(const std::string& observation) {
  std::array<float, GridWorld::kCells> cells;
  EXPECT_EQ(observation.size(), sizeof(cells));
  std::memcpy(cells.data(), observation.data(), sizeof(cells));
  return static_cast<int>(std::find(cells.begin(), cells.end(), 1) -
                          cells.begin());
}

bool Legal(const std::string& mask, int action) { return mask[action] == 1; }

// The largest value of a legal action.
float LegalMax(const std::vector<float>& q, const std::string& mask) {
  float best = -INFINITY;
  for (size_t a = 0; a < q.size(); ++a) {
    if (Legal(mask, static_cast<int>(a))) best = std::max(best, q[a]);
  }
  return best;
}

double RewardOfReaching(int cell) {
  return -0.04 + (cell == 3 ? 1 : 0) + (cell == 7 ? -1 : 0);
}

class MaskedActorTest : public ActorTest {
 protected:
  void SetUp() override { Use("GridWorld-v0"); }
};

TEST_F(MaskedActorTest, EveryStepHasTheMaskOfItsObservation) {
  MemoryWriter writer;
  std::unique_ptr<Actor> actor = MakeActor(writer, /*epsilon=*/0.5);
  for (int step = 0; step < 300; ++step) ASSERT_TRUE(actor->Step().ok());
  for (const auto& [stream, steps] : writer.steps) {
    for (const WrittenStep& step : steps) {
      ASSERT_EQ(step.mask.size(), 4u);
      for (int action = 0; action < 4; ++action) {
        EXPECT_EQ(Legal(step.mask, action),
                  GridWorld::IsLegal(Cell(step.observation), action));
      }
    }
  }
}

TEST_F(MaskedActorTest, ActsAndBootstrapsWithLegalActionsOnly) {
  MemoryWriter writer;
  std::unique_ptr<Actor> actor = MakeActor(writer, /*epsilon=*/0.5);
  for (int step = 0; step < 1000; ++step) ASSERT_TRUE(actor->Step().ok());
  int illegal_larger = 0;  // Where the mask made a difference ...
  int truncated = 0;       // ... there too.
  for (const WrittenItem& item : writer.items) {
    const std::vector<WrittenStep>& steps = writer.steps[item.stream];
    const WrittenStep& first = steps[item.first];
    const WrittenStep& last = steps[item.last];
    ASSERT_TRUE(Legal(first.mask, item.action));
    double expected = 0;
    const uint64_t k = item.last - item.first;
    for (uint64_t i = 0; i < k; ++i) {
      expected += std::pow(kGamma, i) *
                  RewardOfReaching(Cell(steps[item.first + i + 1].observation));
    }
    EXPECT_NEAR(item.return_, expected, 1e-6);
    const bool terminated = GridWorld::IsTerminal(Cell(last.observation));
    EXPECT_NEAR(item.discount, terminated ? 0 : std::pow(kGamma, k), 1e-6);
    const std::vector<float> q_last = Q(last.observation);
    const float best = LegalMax(q_last, last.mask);
    const float q = Q(first.observation)[item.action];
    EXPECT_NEAR(item.priority,
                std::abs(item.return_ + item.discount * best - q), 1e-5);
    const bool differs =
        !terminated && best < *std::max_element(q_last.begin(), q_last.end());
    illegal_larger += differs;
    truncated +=
        differs && item.last + 1 < steps.size() && steps[item.last + 1].starts;
  }
  EXPECT_GT(illegal_larger, 100);
  EXPECT_GT(truncated, 5);
}

TEST_F(MaskedActorTest, EvaluationActsWithLegalActionsOnly) {
  constexpr int kEpisodes = 10;
  config_.mutable_evaluation()->set_episodes(kEpisodes);
  double sum = 0;
  int illegal_larger = 0;
  for (int i = 0; i < kEpisodes; ++i) {
    GridWorld environment;
    environment.Seed(MixSeed(config_.evaluation().seed(), i));
    std::string row(GridWorld::kCells * sizeof(float), '\0');
    environment.Reset(absl::MakeSpan(row));
    StepResult result;
    while (!result.terminated && !result.truncated) {
      std::string mask(4, '\0');
      environment.ActionMask(
          absl::MakeSpan(reinterpret_cast<uint8_t*>(mask.data()), mask.size()));
      const std::vector<float> q = Q(row);
      const float best = LegalMax(q, mask);
      illegal_larger += best < *std::max_element(q.begin(), q.end());
      const auto action = std::find(q.begin(), q.end(), best) - q.begin();
      result = environment.Step(static_cast<int>(action), absl::MakeSpan(row));
      sum += result.reward;
    }
  }
  absl::StatusOr<v1::Evaluation> evaluation = Evaluate(config_, *policy_);
  ASSERT_TRUE(evaluation.ok());
  EXPECT_NEAR(evaluation->mean_return(), sum / kEpisodes, 1e-6);
  EXPECT_GT(illegal_larger, 10);
}

TEST_F(MaskedActorTest, ReportsReturnsOfUnclippedRewards) {
  config_.mutable_algorithm()->set_n_step(1);
  config_.mutable_algorithm()->set_reward_clip(0.5);
  MemoryWriter writer;
  std::unique_ptr<Actor> actor = MakeActor(writer, /*epsilon=*/0.5);
  for (int step = 0; step < 300; ++step) ASSERT_TRUE(actor->Step().ok());
  std::vector<float> returns;
  for (const WrittenItem& item : writer.items) returns.push_back(item.return_);
  EXPECT_EQ(*std::max_element(returns.begin(), returns.end()), 0.5f);
  EXPECT_EQ(*std::min_element(returns.begin(), returns.end()), -0.5f);
  double sum = 0;
  for (const auto& [stream, steps] : writer.steps) {
    double episode = 0;
    for (const WrittenStep& step : steps) {
      if (step.starts) {
        sum += episode;
        episode = 0;
      } else {
        episode += RewardOfReaching(Cell(step.observation));
      }
    }
  }
  EXPECT_GT(actor->stats().episodes, 20u);
  EXPECT_NEAR(actor->stats().return_sum, sum, 1e-4);
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
