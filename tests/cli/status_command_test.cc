// `qfleet status` against servers in this process.

#include <stdlib.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/grpc.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "qfleet/v1/replay.grpc.pb.h"
#include "qfleet/v1/weights.grpc.pb.h"

namespace qfleet {
namespace {

using ::testing::HasSubstr;

class FakeReplay final : public v1::Replay::Service {
  grpc::Status Describe(grpc::ServerContext*, const v1::DescribeRequest*,
                        v1::DescribeResponse* response) override {
    response->set_shard(3);
    v1::TableInfo* table = response->add_tables();
    table->mutable_spec()->set_name("replay");
    table->mutable_stats()->set_size(10660);
    return grpc::Status::OK;
  }
};

class FakeWeights final : public v1::Weights::Service {
  grpc::Status Describe(grpc::ServerContext*, const v1::DescribeRunRequest*,
                        v1::RunReport* report) override {
    report->set_state("training");
    report->set_env_steps(21504);
    return grpc::Status::OK;
  }
};

struct Result {
  int exit_code = -1;
  std::string output;
};

Result RunStatus(const std::string& arguments) {
  FILE* pipe = popen(
      absl::StrCat(QFLEET_BIN_DIR "/qfleet status ", arguments).c_str(), "r");
  Result result;
  for (int c; (c = fgetc(pipe)) != EOF;) {
    result.output += static_cast<char>(c);
  }
  result.exit_code = WEXITSTATUS(pclose(pipe));
  return result;
}

class StatusCommandTest : public ::testing::Test {
 protected:
  StatusCommandTest() {
    std::string name = "/tmp/qfleet_status_XXXXXX";
    root_ = mkdtemp(name.data());
    shard_ = absl::StrCat("unix:", root_, "/r.sock");
    learner_ = absl::StrCat("unix:", root_, "/l.sock");
    EXPECT_EQ(shard_server_.Start(shard_, {&replay_}), absl::OkStatus());
    EXPECT_EQ(learner_server_.Start(learner_, {&weights_}), absl::OkStatus());
  }
  ~StatusCommandTest() override {
    shard_server_.Shutdown(absl::ZeroDuration());
    learner_server_.Shutdown(absl::ZeroDuration());
    std::filesystem::remove_all(root_);
  }

  std::string root_;
  std::string shard_;
  std::string learner_;
  FakeReplay replay_;
  FakeWeights weights_;
  GrpcServer shard_server_;
  GrpcServer learner_server_;
};

TEST_F(StatusCommandTest, FindsOutWhatListens) {
  Result result = RunStatus(absl::StrCat(shard_, " ", learner_));
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.output, HasSubstr("10,660"));
  EXPECT_THAT(result.output, HasSubstr("21,504"));
}

TEST_F(StatusCommandTest, AnAddressWithoutAnswerIsARowAndFails) {
  Result result =
      RunStatus(absl::StrCat(shard_, " unix:", root_, "/none.sock --json"));
  EXPECT_EQ(result.exit_code, 1);
  nlohmann::json list = nlohmann::json::parse(result.output);
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0]["replay"]["shard"], 3);
  EXPECT_THAT(list[1]["error"].get<std::string>(), HasSubstr("none.sock"));
}

}  // namespace
}  // namespace qfleet
