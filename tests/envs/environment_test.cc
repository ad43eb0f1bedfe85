#include "envs/environment.h"

#include <cstring>
#include <memory>
#include <vector>

#include "envs/registry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

// Counts: the observation is 100 * seed + step; terminates after `length`
// steps if the seed is even, else is truncated.
class Counter : public Environment {
 public:
  explicit Counter(int length) : length_(length) {
    spec_.observation.set_dtype(v1::INT32);
    spec_.num_actions = 2;
  }
  const EnvironmentSpec& spec() const override { return spec_; }
  void Seed(uint64_t seed) override { seed_ = static_cast<int>(seed); }
  void Reset(absl::Span<char> row) override {
    step_ = 0;
    Write(row);
  }
  StepResult Step(int action, absl::Span<char> row) override {
    ++step_;
    Write(row);
    const bool end = step_ == length_;
    return {.reward = static_cast<float>(action),
            .terminated = end && seed_ % 2 == 0,
            .truncated = end && seed_ % 2 == 1};
  }
  std::unique_ptr<Environment> Clone() const override {
    return std::make_unique<Counter>(*this);
  }

 private:
  void Write(absl::Span<char> row) {
    const int32_t value = 100 * seed_ + step_;
    std::memcpy(row.data(), &value, sizeof(value));
  }
  EnvironmentSpec spec_;
  int length_;
  int seed_ = 0;
  int step_ = 0;
};

int32_t Number(absl::Span<const char> row) {
  int32_t value;
  std::memcpy(&value, row.data(), sizeof(value));
  return value;
}

TEST(VectorEnvironmentTest, KeepsTheFinalObservationAndGoesOnWithAReset) {
  std::vector<std::unique_ptr<Environment>> environments;
  environments.push_back(std::make_unique<Counter>(2));
  environments.push_back(std::make_unique<Counter>(3));
  VectorEnvironment vector(std::move(environments), {2, 3});
  EXPECT_EQ(Number(vector.observation(0)), 200);
  EXPECT_EQ(Number(vector.observation(1)), 300);
  vector.Step({0, 1});
  EXPECT_EQ(vector.results()[1].reward, 1);
  EXPECT_EQ(Number(vector.observation(0)), 201);
  vector.Step({0, 0});
  EXPECT_TRUE(vector.results()[0].terminated);
  EXPECT_EQ(Number(vector.final_observation(0)), 202);
  EXPECT_EQ(Number(vector.observation(0)), 200);
  EXPECT_EQ(Number(vector.observation(1)), 302);
  vector.Step({0, 0});
  EXPECT_FALSE(vector.results()[0].terminated);
  EXPECT_TRUE(vector.results()[1].truncated);
  EXPECT_EQ(Number(vector.final_observation(1)), 303);
  EXPECT_EQ(Number(vector.observations()), 201);
}

TEST(RegistryTest, AnUnknownEnvironmentIsNamedWithTheKnownOnes) {
  v1::EnvironmentConfig config;
  config.set_id("CartPole-v9");
  absl::StatusOr<std::unique_ptr<Environment>> made = MakeEnvironment(config);
  EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(made.status().message()),
              testing::AllOf(testing::HasSubstr("environment.id"),
                             testing::HasSubstr("\"CartPole-v9\""),
                             testing::HasSubstr("CartPole-v1")));
}

TEST(RegistryTest, EveryListedEnvironmentCanBeMadeAndStepped) {
  for (const std::string& id : EnvironmentIds()) {
    v1::EnvironmentConfig config;
    config.set_id(id);
    auto vector = MakeVectorEnvironment(config, 3, /*seed=*/1);
    ASSERT_TRUE(vector.ok()) << vector.status();
    for (int step = 0; step < 300; ++step) (*vector)->Step({0, 1, 0});
  }
}

}  // namespace
}  // namespace qfleet
