#include "cli/run_directory.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class RunDirectoryTest : public ::testing::Test {
 protected:
  RunDirectoryTest() : before_(fs::current_path()) {
    std::string name = ::testing::TempDir() + "/run_XXXXXX";
    root_ = mkdtemp(name.data());
    fs::current_path(root_);
  }
  ~RunDirectoryTest() override {
    fs::current_path(before_);
    fs::remove_all(root_);
  }

  const fs::path before_;
  std::string root_;
};

TEST_F(RunDirectoryTest, MakesTheFolders) {
  ASSERT_EQ(MakeRunDirectory("a/b"), absl::OkStatus());
  EXPECT_TRUE(fs::is_directory("a/b/logs"));
  EXPECT_TRUE(fs::is_directory("a/b/checkpoints"));
  EXPECT_TRUE(fs::is_directory("a/b/ready"));
}

TEST_F(RunDirectoryTest, AFolderThatIsThereWillDo) {
  fs::create_directory("a");
  std::ofstream("a/notes.txt") << "mine";
  EXPECT_EQ(MakeRunDirectory("a"), absl::OkStatus());
}

TEST_F(RunDirectoryTest, RefusesOneThatHoldsARun) {
  fs::create_directory("a");
  std::ofstream("a/config.txtpb") << "";
  absl::Status status = MakeRunDirectory("a");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "run_dir = \"a\" already holds a run (config.txtpb): allowed is a "
            "folder without one");
}

TEST_F(RunDirectoryTest, SaysWhyItCannotBeMade) {
  std::ofstream("file") << "";
  EXPECT_THAT(std::string(MakeRunDirectory("file/a").message()),
              HasSubstr("Not a directory"));
}

TEST_F(RunDirectoryTest, DefaultNameIsTheConfigsAndTheTime) {
  const absl::Time now = absl::FromCivil(absl::CivilSecond(2025, 3, 4, 5, 6, 7),
                                         absl::LocalTimeZone());
  absl::StatusOr<std::string> first =
      MakeDefaultRunDirectory("configs/cartpole.txtpb", now);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(*first, "runs/cartpole-20250304-050607");
  absl::StatusOr<std::string> second =
      MakeDefaultRunDirectory("configs/cartpole.txtpb", now);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(*second, "runs/cartpole-20250304-050607-2");
}

TEST_F(RunDirectoryTest, SocketsAreInTheRunDirectoryIfTheirPathsAreShort) {
  absl::StatusOr<std::unique_ptr<SocketDirectory>> sockets =
      SocketDirectory::Make(".");
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  EXPECT_EQ((*sockets)->path(), fs::current_path().string() + "/sockets");
  struct stat info = {};
  ASSERT_EQ(stat("sockets", &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(RunDirectoryTest, SocketsOfALongPathAreBelowTmpAndGoAgain) {
  const std::string longer(80, 'x');
  fs::create_directory(longer);
  std::string path;
  {
    absl::StatusOr<std::unique_ptr<SocketDirectory>> sockets =
        SocketDirectory::Make(longer);
    ASSERT_TRUE(sockets.ok()) << sockets.status();
    path = (*sockets)->path();
    EXPECT_THAT(path, StartsWith("/tmp/qfleet-"));
    struct stat info = {};
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0700u);
    std::ofstream(path + "/a.sock") << "";
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(RunDirectoryTest, SocketsOfAnEarlierLifeAreUsedAgain) {
  ASSERT_TRUE(SocketDirectory::Make(".").ok());
  EXPECT_TRUE(SocketDirectory::Make(".").ok());
  // Only we can enter, however the folder came to be.
  fs::permissions("sockets", fs::perms::all);
  EXPECT_TRUE(SocketDirectory::Make(".").ok());
  EXPECT_EQ(fs::status("sockets").permissions(), fs::perms::owner_all);
  fs::remove("sockets");
  fs::create_directory("elsewhere");
  fs::create_directory_symlink("elsewhere", "sockets");
  EXPECT_FALSE(SocketDirectory::Make(".").ok());
}

TEST_F(RunDirectoryTest, SaysHowTheRunWasStarted) {
  for (const RunMode mode : {RunMode::kSolo, RunMode::kCluster}) {
    ASSERT_EQ(WriteRunMode(".", mode), absl::OkStatus());
    absl::StatusOr<RunMode> read = ReadRunMode(".");
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, mode);
  }
  std::ofstream("mode") << "chorus\n";
  EXPECT_THAT(std::string(ReadRunMode(".").status().message()),
              HasSubstr("./mode = \"chorus\": allowed is cluster, solo"));
  fs::remove("mode");
  EXPECT_EQ(ReadRunMode(".").status().code(),
            absl::StatusCode::kInvalidArgument);
}

// The lock goes with the open file, which children inherit.
TEST_F(RunDirectoryTest, ARunIsLockedAsLongAsOneOfItsProcessesLives) {
  absl::StatusOr<std::unique_ptr<RunLock>> lock = RunLock::Take(".");
  ASSERT_TRUE(lock.ok()) << lock.status();
  absl::Status again = RunLock::Take(".").status();
  EXPECT_EQ(again.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(again.message()), HasSubstr("still running"));
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[0], STDIN_FILENO);
    close(ends[0]);
    close(ends[1]);
    execl("/bin/cat", "cat", nullptr);
    _exit(1);
  }
  lock->reset();
  EXPECT_FALSE(RunLock::Take(".").ok());
  close(ends[0]);
  close(ends[1]);  // The child ends.
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(RunLock::Take(".").ok());
}

TEST_F(RunDirectoryTest, ShownPathIsRelativeBelowTheCurrentFolder) {
  EXPECT_EQ(ShownPath(fs::current_path().string() + "/runs/a"), "runs/a");
  EXPECT_EQ(ShownPath("/elsewhere/a"), "/elsewhere/a");
}

}  // namespace
}  // namespace qfleet
