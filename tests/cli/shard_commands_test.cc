// qfleet limiter, checkpoint and inspect against a shard with files.

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "common/grpc.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "replay_server/core/checkpoint.h"
#include "tests/process.h"
#include "tests/replay_server/service/test_shard.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using ::testing::HasSubstr;

class ShardCommandsTest : public ::testing::Test {
 protected:
  ShardCommandsTest() {
    Shard::Options options;
    options.tables = {TestTable()};
    options.data_dir = DataDir();
    auto shard = Shard::Create(options, metrics_);
    EXPECT_TRUE(shard.ok()) << shard.status();
    shard_ = *std::move(shard);
    const v1::AppendBatch batch = OneItemBatch(1);
    shard_->Append(0, {1, nullptr}, batch,
                   [](const absl::StatusOr<v1::AppendResponse>& result) {
                     EXPECT_TRUE(result.ok()) << result.status();
                   });
    service_ = std::make_unique<ReplayService>(shard_.get(), nullptr);
    EXPECT_TRUE(server_.Start(address_, {service_.get()}).ok());
  }
  ~ShardCommandsTest() override { Stop(); }

  void Stop() {
    server_.Shutdown(absl::ZeroDuration());
    service_.reset();
    shard_.reset();
  }
  std::string DataDir() const { return directory_.path() + "/data"; }
  int Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), QFLEET_BIN_DIR "/qfleet");
    return RunToEnd(arguments, directory_.path() + "/log", 30, &output_);
  }

  const TempDirectory directory_;
  const std::string address_ = "unix:" + directory_.path() + "/s.sock";
  Metrics metrics_;
  std::unique_ptr<Shard> shard_;
  std::unique_ptr<ReplayService> service_;
  GrpcServer server_;
  std::string output_;
};

TEST_F(ShardCommandsTest, LimiterChangesWhatItIsToldAndKeepsTheRest) {
  ASSERT_EQ(Run({"limiter", address_, "--table=experience",
                 "--samples_per_insert=4"}),
            0)
      << output_;
  EXPECT_THAT(output_,
              HasSubstr("samples_per_insert 4, tolerance 1, min_size 1"));
  EXPECT_EQ(
      shard_->Describe().tables(0).spec().rate_limiter().samples_per_insert(),
      4);
  EXPECT_NE(Run({"limiter", address_, "--table=nothing"}), 0);
  EXPECT_THAT(output_, HasSubstr("no table \"nothing\""));
}

TEST_F(ShardCommandsTest, InspectVerifiesFilesAndCheckpoints) {
  EXPECT_EQ(Run({"inspect", DataDir()}), 1);
  EXPECT_THAT(output_, HasSubstr("in use by another process"));
  const std::string saved = directory_.path() + "/saved";
  ASSERT_EQ(Run({"checkpoint", address_, "--directory=" + saved}), 0)
      << output_;
  Stop();
  EXPECT_EQ(Run({"inspect", DataDir()}), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("intact: 2 steps and 1 items verified"));
  const std::vector<std::string> paths = ListShardCheckpoints(saved, 0);
  ASSERT_EQ(paths.size(), 1u);
  EXPECT_EQ(Run({"inspect", paths[0], "--json"}), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("\"intact\": true"));
  EXPECT_EQ(Run({"inspect", directory_.path() + "/nothing"}), 1);
  EXPECT_THAT(output_, HasSubstr("no folder"));
}

TEST_F(ShardCommandsTest, InspectSaysWhatIsDamaged) {
  Stop();
  {
    std::fstream payload(DataDir() + "/experience/payload",
                         std::ios::in | std::ios::out | std::ios::binary);
    payload.seekp(1);
    payload.put('?');
  }
  EXPECT_EQ(Run({"inspect", DataDir()}), 1) << output_;
  EXPECT_THAT(output_, HasSubstr("DAMAGED: 1 steps and 1 items are lost"));
  EXPECT_EQ(Run({"inspect", DataDir(), "--json"}), 1) << output_;
  EXPECT_THAT(output_, HasSubstr("\"intact\": false"));
}

}  // namespace
}  // namespace qfleet
