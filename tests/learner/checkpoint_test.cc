// Checkpoints behind the loop, and back: which one a learner resumes from.
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/checkpoint_file.h"
#include "common/files.h"
#include "common/framed_file.h"
#include "common/metrics.h"
#include "config/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "learner/checkpoint_writer.h"
#include "learner/publisher.h"
#include "learner/resume.h"
#include "learner/run.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;

v1::Checkpoint OfUpdates(uint64_t updates) {
  v1::Checkpoint checkpoint;
  checkpoint.set_updates(updates);
  return checkpoint;
}

TEST(CheckpointWriterTest, TheLoopGoesOnWhileOneIsWritten) {
  TempDirectory directory;
  Metrics metrics;
  CheckpointWriter writer(directory.path(), 3, metrics);
  EXPECT_TRUE(writer.Idle());
  absl::Notification begun, go_on;
  writer.Start(OfUpdates(1),
               [&](const std::string& where, v1::Checkpoint& checkpoint) {
                 EXPECT_EQ(where, directory.path());
                 begun.Notify();
                 go_on.WaitForNotification();
                 checkpoint.set_network("completed");
                 return absl::OkStatus();
               });
  begun.WaitForNotification();
  EXPECT_FALSE(writer.Idle());
  writer.Skip();
  EXPECT_THAT(ListCheckpoints(directory.path()), SizeIs(0));
  go_on.Notify();
  absl::StatusOr<std::string> path = writer.Wait();
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_TRUE(writer.Idle());
  EXPECT_EQ(ReadCheckpoint(*path)->network(), "completed");
  EXPECT_THAT(metrics.Text(),
              AllOf(HasSubstr("qfleet_learner_checkpoints_total 1"),
                    HasSubstr("qfleet_learner_checkpoints_skipped_total 1")));
}

TEST(CheckpointWriterTest, WithoutTheRestThereIsNoCheckpoint) {
  TempDirectory directory;
  Metrics metrics;
  CheckpointWriter writer(directory.path(), 3, metrics);
  writer.Start(OfUpdates(1), [](const std::string&, v1::Checkpoint&) {
    return absl::ResourceExhaustedError("the disk is full");
  });
  EXPECT_EQ(writer.Wait().status().message(), "the disk is full");
  EXPECT_THAT(ListCheckpoints(directory.path()), SizeIs(0));
  // It stays an error, whatever comes later.
  writer.Start(OfUpdates(2), nullptr);
  EXPECT_FALSE(writer.Wait().ok());
  EXPECT_FALSE(writer.status().ok());
  EXPECT_THAT(ListCheckpoints(directory.path()), SizeIs(1));
}

class LoadTest : public testing::Test {
 protected:
  LoadTest() : config_(Config("")), run_(config_, directory_.path(), metrics_) {
    algorithm_ = *MakeAlgorithm(config_);
  }

  static v1::Config Config(const std::string& more) {
    v1::Config config = *ParseConfig(
        "environment { id: \"CartPole-v1\" } network { hidden: 4 }" + more,
        "test");
    EXPECT_EQ(ResolveConfig(config), absl::OkStatus());
    return config;
  }

  // Of so many updates, with all weights `value`.
  std::string Write(uint64_t updates, float value,
                    const std::string& network = "") {
    v1::Publication newest;
    newest.set_version(updates);
    v1::Checkpoint checkpoint =
        run_.MakeCheckpoint(*algorithm_, newest, {}, {});
    checkpoint.set_updates(updates);
    for (v1::NamedTensor& tensor : *checkpoint.mutable_algorithm()) {
      std::string& data = *tensor.mutable_data();
      for (size_t i = 0; i < data.size(); i += sizeof(value)) {
        std::memcpy(data.data() + i, &value, sizeof(value));
      }
    }
    if (!network.empty()) checkpoint.set_network(network);
    return *WriteCheckpoint(directory_.path(), checkpoint, 10);
  }

  absl::StatusOr<v1::Checkpoint> Load() {
    return LoadNewestCheckpoint(directory_.path(), config_, *algorithm_);
  }

  float FirstWeight() {
    const std::string weights = algorithm_->Publish();
    float value;
    std::memcpy(&value, weights.data(), sizeof(value));
    return value;
  }

  TempDirectory directory_;
  Metrics metrics_;
  v1::Config config_;
  qfleet::Run run_;
  std::unique_ptr<Algorithm> algorithm_;
};

TEST_F(LoadTest, TheNewestIsLoaded) {
  Write(10, 1);
  Write(20, 2);
  absl::StatusOr<v1::Checkpoint> checkpoint = Load();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->updates(), 20u);
  EXPECT_EQ(algorithm_->updates(), 20);
  EXPECT_EQ(FirstWeight(), 2);
}

TEST_F(LoadTest, NoneIsNotFound) {
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LoadTest, WhatCannotBeUsedGivesWayToTheOneBefore) {
  Write(10, 1);
  std::filesystem::resize_file(Write(20, 2), 200);
  Write(30, 3, "float32[4] mlp 5 dueling 2");
  const std::string changed = Write(40, 4);
  std::string bytes = *ReadFile(changed);
  bytes[bytes.size() / 2] ^= 4;
  ASSERT_TRUE(WriteFileAtomically(changed, bytes).ok());
  absl::StatusOr<v1::Checkpoint> checkpoint = Load();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->updates(), 10u);
  EXPECT_EQ(FirstWeight(), 1);
  // They do not count among those that are kept.
  EXPECT_THAT(ListCheckpoints(directory_.path()), SizeIs(1));
  EXPECT_TRUE(std::filesystem::exists(changed + ".refused"));
}

TEST_F(LoadTest, IfNoneCanBeUsedTheNewestOnesReasonIsSaid) {
  Write(10, 1, "another network");
  const std::string newest = Write(20, 2, "float32[4] mlp 5 dueling 2");
  const float before = FirstWeight();
  absl::Status status = Load().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(newest), HasSubstr("mlp 5"), HasSubstr("mlp 4")));
  EXPECT_EQ(FirstWeight(), before);
  EXPECT_EQ(algorithm_->updates(), 0);
}

TEST_F(LoadTest, AnotherAlgorithmIsRefused) {
  Write(10, 1);
  config_ = Config("algorithm { qr_dqn {} }");
  absl::Status status = Load().status();
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("algorithm = dqn: allowed is the config's, qr_dqn"));
}

TEST_F(LoadTest, ATensorThatIsMissingIsRefused) {
  v1::Checkpoint checkpoint = *ReadCheckpoint(Write(10, 1));
  checkpoint.mutable_algorithm()->RemoveLast();
  ASSERT_TRUE(WriteCheckpoint(directory_.path(), checkpoint, 10).ok());
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr("missing"));
}

// Also where a life ended before it wrote a checkpoint of its own: it wrote the
// one that it began with again.
TEST(VersionOfNextLifeTest, IsAboveAllThatWerePublished) {
  Publisher publisher("a network", {});
  publisher.Publish("", 0);
  for (int life = 1; life < 4; ++life) {
    const uint64_t published = publisher.version() + 12345;
    v1::Publication newest = *publisher.newest();
    newest.set_version(VersionOfNextLife(newest.version()));
    publisher.Resume(newest);
    publisher.Publish("", 0);
    EXPECT_GT(publisher.version(), published);
    EXPECT_EQ(publisher.version(), life * kVersionsOfALife + 1);
  }
}

}  // namespace
}  // namespace qfleet
