#include "common/checkpoint_file.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/files.h"
#include "common/framed_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

class CheckpointFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "qfleet_checkpoint_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string Write(uint64_t updates, int keep = 10) {
    v1::Checkpoint checkpoint;
    checkpoint.set_updates(updates);
    checkpoint.set_network("a network");
    checkpoint.add_algorithm()->set_data(std::string(1000, 'x'));
    auto path = WriteCheckpoint(directory_, checkpoint, keep);
    EXPECT_TRUE(path.ok()) << path.status();
    return *path;
  }

  std::string directory_;
};

TEST_F(CheckpointFileTest, ReadsWhatWasWritten) {
  auto checkpoint = ReadCheckpoint(Write(7));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->updates(), 7u);
  EXPECT_EQ(checkpoint->algorithm(0).data(), std::string(1000, 'x'));
}

TEST_F(CheckpointFileTest, KeepsTheNewest) {
  // 9 and 10 would sort wrongly as plain text.
  for (uint64_t updates : {8, 9, 10, 11}) Write(updates, 3);
  const std::vector<std::string> paths = ListCheckpoints(directory_);
  ASSERT_THAT(paths, SizeIs(3));
  EXPECT_THAT(paths.front(), HasSubstr("000000000011"));
  EXPECT_THAT(paths.back(), HasSubstr("000000000009"));
}

TEST_F(CheckpointFileTest, EveryFlippedByteIsFound) {
  const std::string path = Write(1);
  const std::string whole = *ReadFile(path);
  for (size_t i = 0; i < whole.size(); i += 7) {
    std::string changed = whole;
    changed[i] ^= 0x10;
    ASSERT_TRUE(WriteFileAtomically(path, changed).ok());
    absl::Status status = ReadCheckpoint(path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << "byte " << i;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
  }
}

TEST_F(CheckpointFileTest, EveryCutIsFound) {
  const std::string path = Write(1);
  const std::string whole = *ReadFile(path);
  for (size_t size = 0; size < whole.size(); size += 11) {
    ASSERT_TRUE(WriteFileAtomically(path, whole.substr(0, size)).ok());
    EXPECT_EQ(ReadCheckpoint(path).status().code(), absl::StatusCode::kDataLoss)
        << size << " bytes";
  }
}

TEST_F(CheckpointFileTest, ADamagedNewestGivesWayToTheOneBefore) {
  Write(1);
  const std::string newest = Write(2);
  std::filesystem::resize_file(newest, 100);
  std::vector<std::string> skipped;
  auto checkpoint = ReadNewestCheckpoint(directory_, &skipped);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->updates(), 1u);
  ASSERT_THAT(skipped, SizeIs(1));
  EXPECT_THAT(skipped[0], HasSubstr(newest));
}

TEST_F(CheckpointFileTest, AnotherFormatIsRefusedInWords) {
  v1::Checkpoint old;
  old.set_format(1);
  const std::string path = directory_ + "/checkpoint-000000000003.qfckpt";
  ASSERT_TRUE(WriteFramedFile(path, "QFLTCKPT", old).ok());
  EXPECT_EQ(
      ReadCheckpoint(path).status().message(),
      "checkpoint " + path + ": format = 1: allowed is 2, this version's");
}

TEST_F(CheckpointFileTest, WhatTheCallerRefusesGivesWayToTheOneBefore) {
  Write(1);
  Write(2);
  std::vector<std::string> skipped;
  const auto accept = [](const v1::Checkpoint& checkpoint) {
    return checkpoint.updates() == 1 ? absl::OkStatus()
                                     : absl::DataLossError("too new");
  };
  auto checkpoint = ReadNewestCheckpoint(directory_, &skipped, accept);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->updates(), 1u);
  EXPECT_THAT(skipped, testing::ElementsAre(testing::AllOf(
                           HasSubstr("000000000002"), HasSubstr("too new"))));
  absl::Status none =
      ReadNewestCheckpoint(directory_, nullptr, [](const v1::Checkpoint&) {
        return absl::DataLossError("no");
      }).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(none.message()), HasSubstr("000000000002"));
}

// A run that went on from an older one lost what it wrote.
TEST_F(CheckpointFileTest, TheOneJustWrittenStaysAlsoIfItIsTheOldest) {
  for (uint64_t updates : {7, 8, 9}) Write(updates);
  EXPECT_TRUE(std::filesystem::exists(Write(5, 2)));
}

TEST_F(CheckpointFileTest, NewerOnesAreSetAside) {
  for (uint64_t updates : {7, 8, 9}) Write(updates);
  SetAsideNewerCheckpoints(directory_, 8);
  EXPECT_THAT(ListCheckpoints(directory_), SizeIs(2));
  EXPECT_TRUE(std::filesystem::exists(
      directory_ + "/checkpoint-000000000009.qfckpt.refused"));
}

TEST_F(CheckpointFileTest, FoldersBesideThatNoFileMeansAreRemoved) {
  const auto write = [&](uint64_t updates) {
    v1::Checkpoint checkpoint;
    checkpoint.set_updates(updates);
    const std::string name = NewCheckpointFolder(directory_, updates);
    checkpoint.mutable_solo()->set_replay(name);
    std::filesystem::create_directory(directory_ + "/" + name);
    EXPECT_TRUE(WriteCheckpoint(directory_, checkpoint, 2).ok());
  };
  std::filesystem::create_directory(directory_ +
                                    "/checkpoint-000000000009.replay-0.tmp");
  std::filesystem::create_directory(directory_ + "/mine");
  for (uint64_t updates : {1, 2, 3, 3}) write(updates);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    names.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(names, testing::UnorderedElementsAre(
                         "mine", "checkpoint-000000000002.qfckpt",
                         "checkpoint-000000000002.replay-0",
                         "checkpoint-000000000003.qfckpt",
                         "checkpoint-000000000003.replay-1"));
}

TEST_F(CheckpointFileTest, AnUnfinishedFileIsNoCheckpoint) {
  std::ofstream(directory_ + "/checkpoint-000000000005.qfckpt.tmp") << "half";
  EXPECT_THAT(ListCheckpoints(directory_), SizeIs(0));
  absl::Status status = ReadNewestCheckpoint(directory_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr(directory_));
}

TEST(FilesTest, ErrorsNameThePathAndTheReason) {
  EXPECT_THAT(
      std::string(ReadFile("/none/file").status().message()),
      testing::AllOf(HasSubstr("/none/file"), HasSubstr("No such file")));
  EXPECT_THAT(std::string(WriteFileAtomically("/none/file", "").message()),
              HasSubstr("/none/file"));
  EXPECT_THAT(std::string(MakeWritableDirectory("/proc/none").message()),
              HasSubstr("/proc/none"));
}

}  // namespace
}  // namespace qfleet
