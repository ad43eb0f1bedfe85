#include "learner/loop.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "common/checkpoint_file.h"
#include "common/metrics.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "learner/algorithms/dqn.h"
#include "learner/checkpoint_writer.h"
#include "model/weight_layout.h"
#include "nlohmann/json.hpp"
#include "tests/learner/golden.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

// The golden batches, and after `good` of them returns that are not finite.
class PoisonedSampler : public Sampler {
 public:
  explicit PoisonedSampler(int good) : good_(good) {}

  absl::StatusOr<std::unique_ptr<SampleBatch>> Next() override {
    auto batch =
        std::make_unique<SampleBatch>(GoldenSample(updates_[next_ % 30]));
    if (next_++ >= good_) {
      const float nan = std::numeric_limits<float>::quiet_NaN();
      std::memcpy(batch->columns[1].data(), &nan, sizeof(nan));  // return
    }
    return batch;
  }
  absl::Status UpdatePriorities(absl::Span<const SampleKey>,
                                absl::Span<const float>) override {
    ++priorities_;
    return absl::OkStatus();
  }
  ReplayView View() const override { return {}; }

  int priorities() const { return priorities_; }

 private:
  const nlohmann::json updates_ = ReadGolden("dqn.json")["updates"];
  const int good_;
  int next_ = 0;
  int priorities_ = 0;
};

TEST(LoopTest, DivergenceEndsWithTheWeightsBeforeIt) {
  TempDirectory directory;
  v1::Config config;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"pb(
        network { hidden: 8 hidden: 8 }
        algorithm { dqn {} }
        learner { max_skipped_updates: 4 publish_period: 1 report_seconds: 1e9 }
      )pb",
      &config));
  *config.mutable_replay()->mutable_table()->mutable_signature() =
      GoldenSignature(false);
  auto network = *Network::Make(config, GoldenEnvironment());
  PoisonedSampler sampler(/*good=*/5);
  Trainer trainer(config, std::make_unique<Dqn>(config, network), sampler);
  Metrics metrics;
  qfleet::Run run(config, directory.path(), metrics);
  ASSERT_EQ(run.Open(), absl::OkStatus());
  Publisher publisher(network->signature(), LayoutOf(*network));
  publisher.Publish(trainer.algorithm().Publish(), 0);
  CheckpointWriter writer(run.checkpoint_directory(), 3, metrics);

  absl::StatusOr<Outcome> outcome =
      TrainUntilDone(config, trainer, sampler, publisher, run, writer,
                     {.actors = [] { return ActorsView(); },
                      .interrupted = [] { return false; }});
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(outcome.status().message()),
              testing::HasSubstr("4 updates in a row were skipped"));
  EXPECT_EQ(sampler.priorities(), 5);

  absl::StatusOr<v1::Checkpoint> checkpoint =
      ReadNewestCheckpoint(run.checkpoint_directory());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->updates(), 5u);
  Dqn straight(config, network);
  PoisonedSampler good(5);
  for (int i = 0; i < 5; ++i) {
    const auto sample = *good.Next();
    straight.Update(
        Batch(config.replay().table().signature(), *sample, /*beta=*/0.4));
  }
  EXPECT_EQ(checkpoint->published().parameters(), straight.Publish());
  EXPECT_EQ(checkpoint->algorithm(0).data(), straight.Publish());

  std::ifstream file(directory.path() + "/metrics.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  const nlohmann::json report = nlohmann::json::parse(line);
  EXPECT_EQ(report["updates_skipped"], 4);
  EXPECT_TRUE(std::isfinite(report["loss"].get<double>()));
  EXPECT_THAT(metrics.Text(),
              testing::HasSubstr("qfleet_learner_updates_skipped_total 4"));
}

}  // namespace
}  // namespace qfleet
