#include "learner/trainer.h"

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

// Gives the results that the test sets.
class ScriptedAlgorithm : public Algorithm {
 public:
  explicit ScriptedAlgorithm(UpdateResult& next) : next_(next) {}
  UpdateResult Update(const Batch&) override {
    ++updates_;
    return next_;
  }
  int64_t updates() const override { return updates_; }
  std::string Publish() const override { return ""; }
  const Network& network() const override { return *network_; }
  std::vector<v1::NamedTensor> Save() override { return {}; }
  absl::Status Load(int64_t, const std::vector<v1::NamedTensor>&) override {
    return absl::OkStatus();
  }

 private:
  UpdateResult& next_;
  int64_t updates_ = 0;
  std::shared_ptr<const Network> network_;
};

// Batches of one row without columns; remembers the priorities.
class ScriptedSampler : public Sampler {
 public:
  absl::StatusOr<std::unique_ptr<SampleBatch>> Next() override {
    auto batch = std::make_unique<SampleBatch>();
    batch->keys.emplace_back();
    batch->scaled_probability.push_back(1);
    return batch;
  }
  absl::Status UpdatePriorities(absl::Span<const SampleKey>,
                                absl::Span<const float> values) override {
    priorities.insert(priorities.end(), values.begin(), values.end());
    return absl::OkStatus();
  }
  ReplayView View() const override { return {}; }

  std::vector<float> priorities;
};

// It was reported as a usage error, and the broken values went to the replay.
TEST(TrainerTest, DivergenceIsAnErrorOfItsOwnAndReachesNoShard) {
  UpdateResult next;
  ScriptedSampler sampler;
  Trainer trainer({}, std::make_unique<ScriptedAlgorithm>(next), sampler);
  next = {.loss = 1, .priorities = {2}};
  EXPECT_TRUE(trainer.Step().ok());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const UpdateResult& broken :
       {UpdateResult{.loss = nan, .priorities = {2}},
        UpdateResult{.loss = 1, .priorities = {infinity}}}) {
    next = broken;
    absl::Status status = trainer.Step();
    EXPECT_TRUE(absl::IsInternal(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                testing::HasSubstr(absl::StrCat("update ", trainer.updates())));
  }
  EXPECT_THAT(sampler.priorities, testing::ElementsAre(2));
  EXPECT_EQ(trainer.TakeAccount().updates, 1);
}

}  // namespace
}  // namespace qfleet
