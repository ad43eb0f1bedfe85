// What was written, wherever and in whatever pieces, is what is read.

#include "replay_server/core/direct_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/files.h"
#include "common/random.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

// Of a disk, and of memory, where older kernels have no direct writes.
class DirectFileTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::error_code error;
    if (!std::filesystem::is_directory(GetParam(), error)) {
      GTEST_SKIP() << "no " << GetParam() << " here";
    }
    std::string name = absl::StrCat(GetParam(), "/direct_file_test.XXXXXX");
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    path_ = directory_ + "/file";
  }
  void TearDown() override {
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }

  std::string directory_;
  std::string path_;
};

TEST_P(DirectFileTest, HoldsWhatWasWritten) {
  Random random(1);
  for (int i = 0; i < 40; ++i) {
    const uint64_t size = 1 + random.Below(i % 2 == 0 ? 20000 : 2 << 20);
    std::string wanted(size, '\0');
    DirectFile file;
    ASSERT_TRUE(file.Create(path_, size).ok());
    // As a ring is written: on from the middle, then from the beginning; with
    // gaps and repetitions here and there.
    uint64_t at = random.Below(size);
    for (uint64_t written = 0; written < size;) {
      const uint64_t bytes = std::min(
          1 + random.Below(300000) / (1 + random.Below(300)), size - at);
      const std::string data(bytes, static_cast<char>('a' + random.Below(26)));
      ASSERT_TRUE(file.Write(at, data.data(), bytes).ok());
      wanted.replace(at, bytes, data);
      written += bytes;
      at = random.Below(10) == 0 ? random.Below(size) : (at + bytes) % size;
    }
    ASSERT_TRUE(file.Sync().ok());
    for (bool direct : {true, false}) {
      std::string read;
      ASSERT_TRUE(
          ReadPieces(path_, direct, [&read](const char* data, size_t bytes) {
            read.append(data, bytes);
            return absl::OkStatus();
          }).ok());
      ASSERT_TRUE(read == wanted) << "size " << size << " direct " << direct;
    }
    std::filesystem::remove(path_);
  }
}

TEST_P(DirectFileTest, WhatIsNotWrittenIsZeroAndTakesNoRoom) {
  constexpr uint64_t kBytes = 64 << 20;
  DirectFile file;
  ASSERT_TRUE(file.Create(path_, kBytes).ok());
  ASSERT_TRUE(file.Write(kBytes - 3, "end", 3).ok());
  ASSERT_TRUE(file.Sync().ok());
  const absl::StatusOr<std::string> read = ReadFile(path_);
  ASSERT_TRUE(read.ok());
  EXPECT_TRUE(*read == std::string(kBytes - 3, '\0') + "end");
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_LT(status.st_blocks * 512, 1 << 20);
}

// How many pages of the file the page cache holds.
int CachedPages(const std::string& path, uint64_t bytes) {
  const int fd = open(path.c_str(), O_RDONLY);
  void* address = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  std::vector<unsigned char> pages((bytes + 4095) / 4096);
  EXPECT_EQ(mincore(address, bytes, pages.data()), 0);
  munmap(address, bytes);
  return static_cast<int>(std::count_if(
      pages.begin(), pages.end(), [](unsigned char page) { return page & 1; }));
}

TEST_P(DirectFileTest, GoesPastThePageCache) {
  constexpr uint64_t kBytes = 8 << 20;
  DirectFile file;
  ASSERT_TRUE(file.Create(path_, kBytes).ok());
  const std::string data(kBytes - 1000, 'x');
  ASSERT_TRUE(file.Write(1000, data.data(), data.size()).ok());
  ASSERT_TRUE(file.Sync().ok());
  struct statfs system;
  ASSERT_EQ(statfs(path_.c_str(), &system), 0);
  if (!file.direct() || system.f_type == TMPFS_MAGIC) {
    GTEST_SKIP() << "no direct writes here, or nothing but a cache";
  }
  const auto look = [](const char*, size_t) { return absl::OkStatus(); };
  ASSERT_TRUE(ReadPieces(path_, /*direct=*/true, look).ok());
  // The first block has a gap, and may be there with what is read ahead of it.
  EXPECT_LE(CachedPages(path_, kBytes), 64);
  ASSERT_TRUE(ReadPieces(path_, /*direct=*/false, look).ok());
  EXPECT_EQ(CachedPages(path_, kBytes), 2048);
}

TEST_P(DirectFileTest, ErrorsNameTheFile) {
  DirectFile file;
  ASSERT_TRUE(file.Create(path_, 10).ok());
  EXPECT_EQ(DirectFile().Create(path_, 10).message(),
            absl::StrCat("cannot make ", path_, ": File exists"));
  EXPECT_EQ(
      ReadPieces(path_ + "2", true, {}).message(),
      absl::StrCat("cannot open ", path_, "2: No such file or directory"));
}

INSTANTIATE_TEST_SUITE_P(, DirectFileTest,
                         testing::Values("/var/tmp", "/dev/shm"),
                         [](const auto& info) {
                           return info.param == "/dev/shm" ? "Memory" : "Disk";
                         });

}  // namespace
}  // namespace qfleet
