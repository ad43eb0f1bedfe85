// An actor whose environments are stacked, in groups, or lost.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "actor/actor.h"
#include "common/hash.h"
#include "envs/registry.h"
#include "gtest/gtest.h"
#include "tests/actor/memory_writer.h"
#include "tests/envs/fake_simulator.h"

namespace qfleet {
namespace {

constexpr int kEnvironments = 4;
constexpr int kN = 3;
constexpr double kGamma = 0.9;

class ActorGroupsTest : public testing::Test {
 protected:
  void Use(const EnvironmentSpec& spec) {
    config_.mutable_network()->add_hidden(16);
    config_.mutable_algorithm()->set_n_step(kN);
    config_.mutable_algorithm()->set_gamma(kGamma);
    auto network = Network::Make(config_, spec);
    ASSERT_TRUE(network.ok());
    policy_ = std::make_unique<Policy>(*network, StackedObservation(spec));
    FlatParameters parameters(**network);
    Random random(1);
    parameters.Initialize(**network, random);
    v1::Publication publication;
    publication.set_version(1);
    publication.set_network((*network)->signature());
    publication.set_parameters(parameters.values().data(),
                               parameters.values().size() * sizeof(float));
    publication.set_hash(Hash64(publication.parameters()));
    ASSERT_TRUE(policy_->SetWeights(publication).ok());
  }

  void UseCartPole(int frame_stack) {
    config_.mutable_environment()->set_id("CartPole-v1");
    config_.mutable_environment()->set_frame_stack(frame_stack);
    auto spec = SpecOf(config_.environment());
    ASSERT_TRUE(spec.ok());
    Use(*spec);
  }

  std::unique_ptr<Actor> MakeActor(Writer& writer, double epsilon, int groups) {
    auto environments = MakeVectorEnvironments(
        config_.environment(), {.count = kEnvironments, .seed = 3}, groups);
    EXPECT_TRUE(environments.ok());
    return std::make_unique<Actor>(
        config_.algorithm(), *std::move(environments),
        Explorer(std::vector<double>(kEnvironments, epsilon), /*seed=*/4),
        *policy_, writer);
  }

  std::vector<float> Q(const std::string& stack) {
    absl::Span<const float> q =
        policy_->QValues({stack.data(), stack.size()}, 1);
    return std::vector<float>(q.begin(), q.end());
  }

  v1::Config config_;
  std::unique_ptr<Policy> policy_;
};

// The last `k` observations up to step `last`; before the episode's start its
// first one.
std::string Stack(const std::vector<WrittenStep>& steps, uint64_t last, int k) {
  std::string stack;
  for (int back = 0; back < k; ++back) {
    stack = steps[last].observation + stack;
    if (!steps[last].starts) --last;
  }
  return stack;
}

TEST_F(ActorGroupsTest, SeesTheLastObservationsOfTheEpisode) {
  constexpr int kStack = 3;
  UseCartPole(kStack);
  MemoryWriter writer;
  std::unique_ptr<Actor> actor = MakeActor(writer, /*epsilon=*/1, /*groups=*/2);
  for (int step = 0; step < 300; ++step) ASSERT_TRUE(actor->Step().ok());
  EXPECT_GT(writer.items.size(), 1000u);
  for (const WrittenItem& item : writer.items) {
    const std::vector<WrittenStep>& steps = writer.steps[item.stream];
    EXPECT_EQ(steps[item.first].observation.size(), 4 * sizeof(float));
    const std::vector<float> first = Q(Stack(steps, item.first, kStack));
    const std::vector<float> last = Q(Stack(steps, item.last, kStack));
    const double target =
        item.return_ + item.discount * std::max(last[0], last[1]);
    EXPECT_NEAR(item.priority, std::abs(target - first[item.action]), 1e-4);
  }
}

TEST_F(ActorGroupsTest, GroupsPlayTheSameEpisodes) {
  UseCartPole(/*frame_stack=*/1);
  MemoryWriter one;
  MemoryWriter four;
  std::unique_ptr<Actor> actor = MakeActor(one, /*epsilon=*/0, /*groups=*/1);
  std::unique_ptr<Actor> grouped = MakeActor(four, /*epsilon=*/0, /*groups=*/4);
  for (int step = 0; step < 200; ++step) {
    ASSERT_TRUE(actor->Step().ok());
    ASSERT_TRUE(grouped->Step().ok());
  }
  // The last steps of groups are still on their way.
  EXPECT_EQ(grouped->stats().env_steps, 199u * kEnvironments);
  for (auto& [stream, steps] : one.steps) {
    const std::vector<WrittenStep>& others = four.steps[stream];
    ASSERT_GE(others.size(), 200u);
    for (size_t i = 0; i < 200; ++i) {
      ASSERT_EQ(steps[i].starts, others[i].starts);
      ASSERT_EQ(steps[i].observation, others[i].observation);
    }
  }
}

// Step s gives the observation s and the reward s; every seventh step is lost,
// and an episode begins at 1000 times its number.
class Brittle : public VectorEnvironment {
 public:
  static EnvironmentSpec Spec() {
    EnvironmentSpec spec;
    spec.observation.set_name("observation");
    spec.observation.set_dtype(v1::FLOAT32);
    spec.observation.add_shape(1);
    spec.num_actions = 2;
    return spec;
  }
  Brittle() : VectorEnvironment(Spec(), 1) { Write(); }
  void StartStep(absl::Span<const int> /*actions*/) override {}
  absl::Status FinishStep() override {
    Advance();
    StepResult& result = mutable_results()[0];
    result = StepResult();
    if (++steps_ % 7 == 0) {
      result.lost = true;
      observation_ = 1000 * static_cast<float>(++episodes_);
      Write();
      BeginEpisode(0);
    } else {
      ++observation_;
      result.reward = observation_;
      Write();
    }
    return absl::OkStatus();
  }

 private:
  void Write() {
    std::memcpy(newest(0).data(), &observation_, sizeof(observation_));
  }
  int steps_ = 0;
  int episodes_ = 0;
  float observation_ = 0;
};

TEST_F(ActorGroupsTest, ALostEpisodeIsTruncatedAtItsLastObservation) {
  Use(Brittle::Spec());
  MemoryWriter writer;
  std::vector<std::unique_ptr<VectorEnvironment>> groups;
  groups.push_back(std::make_unique<Brittle>());
  Actor actor(config_.algorithm(), std::move(groups),
              Explorer({0.5}, /*seed=*/4), *policy_, writer);
  for (int step = 0; step < 70; ++step) ASSERT_TRUE(actor.Step().ok());
  EXPECT_EQ(actor.stats().episodes_lost, 10u);
  EXPECT_EQ(actor.stats().episodes, 0u);
  const std::vector<WrittenStep>& steps = writer.steps[0];
  // Six transitions an episode, an item each; nothing of the lost step.
  EXPECT_EQ(steps.size(), 10u * 7 + 1);
  EXPECT_EQ(writer.items.size(), 60u);
  for (const WrittenItem& item : writer.items) {
    const uint64_t k = item.last - item.first;
    EXPECT_EQ(item.first / 7, item.last / 7) << "an item crosses a loss";
    EXPECT_EQ(k, std::min<uint64_t>(kN, 6 - item.first % 7));
    EXPECT_NEAR(item.discount, std::pow(kGamma, k), 1e-6);
    double sum = 0;
    for (uint64_t i = 0; i < k; ++i) {
      float reward;
      std::memcpy(&reward, steps[item.first + i + 1].observation.data(),
                  sizeof(reward));
      sum += std::pow(kGamma, i) * reward;
    }
    EXPECT_NEAR(item.return_, sum, 1e-3 * sum);
    const std::vector<float> last = Q(steps[item.last].observation);
    const double target =
        item.return_ + item.discount * std::max(last[0], last[1]);
    EXPECT_NEAR(
        item.priority,
        std::abs(target - Q(steps[item.first].observation)[item.action]),
        1e-3 * target);
  }
}

// A simulator's observation {session, environment, step of the episode}.
std::vector<float> Told(const WrittenStep& step) {
  std::vector<float> row(step.observation.size() / sizeof(float));
  std::memcpy(row.data(), step.observation.data(), step.observation.size());
  return row;
}

// The simulator dies in each fifth step, and at last tells a NaN.
TEST_F(ActorGroupsTest, NothingOfALostOrABadStepOfASimulatorIsStored) {
  constexpr int kLastSession = 2;
  FakeSimulator simulator(
      [](int session, int step, v1::EnvironmentReply& reply) {
        if (step != 5) return FakeSimulator::Answer::kReply;
        if (session < kLastSession) return FakeSimulator::Answer::kClose;
        reply.set_rewards(1, NAN);
        return FakeSimulator::Answer::kReply;
      });
  *config_.mutable_environment() = simulator.Config();
  auto made = MakeVectorEnvironments(config_.environment(),
                                     {.count = 2, .seed = 3}, /*groups=*/1);
  ASSERT_TRUE(made.ok()) << made.status();
  Use((*made)[0]->spec());
  MemoryWriter writer;
  Actor actor(config_.algorithm(), *std::move(made),
              Explorer({0.5, 0.5}, /*seed=*/4), *policy_, writer);
  for (int step = 0; step < 14; ++step) ASSERT_TRUE(actor.Step().ok());
  EXPECT_TRUE(absl::IsInvalidArgument(actor.Step()));
  EXPECT_EQ(actor.stats().episodes_lost, 2u * 2);
  for (const auto& [stream, steps] : writer.steps) {
    // Four steps of each session, which end an episode of three or four.
    EXPECT_EQ(steps.size(), 3u * (1 + 4 + 1));
    for (size_t i = 0; i < steps.size(); ++i) {
      const std::vector<float> told = Told(steps[i]);
      EXPECT_EQ(told[0], static_cast<float>(i / 6)) << "session";
      EXPECT_EQ(told[1], static_cast<float>(stream));
      EXPECT_EQ(steps[i].starts, told[2] == 0);
      EXPECT_EQ(steps[i].starts, i == 0 || Told(steps[i - 1])[2] >= told[2]);
    }
  }
  for (const WrittenItem& item : writer.items) {
    const std::vector<WrittenStep>& steps = writer.steps[item.stream];
    EXPECT_EQ(Told(steps[item.first])[0], Told(steps[item.last])[0])
        << "an item crosses a loss";
    EXPECT_TRUE(std::isfinite(item.return_));
    const bool terminated = item.stream == 0 && Told(steps[item.last])[2] == 3;
    EXPECT_NEAR(item.discount,
                terminated ? 0 : std::pow(kGamma, item.last - item.first),
                1e-6);
  }
}

TEST_F(ActorGroupsTest, SeveralGroupsCannotBeSaved) {
  UseCartPole(/*frame_stack=*/1);
  MemoryWriter writer;
  std::unique_ptr<Actor> actor = MakeActor(writer, /*epsilon=*/1, /*groups=*/2);
  EXPECT_EQ(actor->Save().status().code(), absl::StatusCode::kUnimplemented);
  std::unique_ptr<Actor> one = MakeActor(writer, /*epsilon=*/1, /*groups=*/1);
  absl::StatusOr<v1::ActorState> state = one->Save();
  ASSERT_TRUE(state.ok());
  EXPECT_EQ(actor->Load(*state).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace qfleet
