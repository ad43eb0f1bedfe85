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

class TrainerTest : public testing::Test {
 protected:
  TrainerTest() {
    config_.mutable_learner()->set_max_skipped_updates(3);
    trainer_ = std::make_unique<Trainer>(
        config_, std::make_unique<ScriptedAlgorithm>(next_), sampler_);
  }

  absl::Status StepWith(const UpdateResult& result) {
    next_ = result;
    return trainer_->Step();
  }

  const UpdateResult good_{.loss = 1, .priorities = {2}};
  const UpdateResult bad_{.loss = std::numeric_limits<double>::quiet_NaN(),
                          .skipped = true};
  v1::Config config_;
  UpdateResult next_;
  ScriptedSampler sampler_;
  std::unique_ptr<Trainer> trainer_;
};

TEST_F(TrainerTest, ASkippedUpdateIsCountedAndReachesNoShard) {
  EXPECT_TRUE(StepWith(good_).ok());
  EXPECT_TRUE(StepWith(bad_).ok());
  EXPECT_TRUE(StepWith(bad_).ok());
  EXPECT_TRUE(StepWith(good_).ok());
  EXPECT_THAT(sampler_.priorities, testing::ElementsAre(2, 2));
  const TrainerAccount account = trainer_->TakeAccount();
  EXPECT_EQ(account.updates, 2);
  EXPECT_EQ(account.skipped, 2);
  EXPECT_EQ(account.loss, 2);  // Not poisoned.
}

TEST_F(TrainerTest, TooManySkippedInARowAreDivergence) {
  EXPECT_TRUE(StepWith(bad_).ok());
  EXPECT_TRUE(StepWith(bad_).ok());
  EXPECT_TRUE(StepWith(good_).ok());
  EXPECT_TRUE(StepWith(bad_).ok());
  EXPECT_TRUE(StepWith(bad_).ok());
  absl::Status status = StepWith(bad_);
  EXPECT_TRUE(absl::IsInternal(status)) << status;
  EXPECT_EQ(status.message(),
            absl::StrCat("update ", trainer_->updates() + 1,
                         ": loss = nan, gradient norm = 0: allowed is finite; "
                         "training diverged (3 updates in a row were skipped, "
                         "learner.max_skipped_updates)"));
}

}  // namespace
}  // namespace qfleet
