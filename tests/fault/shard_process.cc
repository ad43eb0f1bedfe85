#include "tests/fault/shard_process.h"

#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/grpc.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {
namespace {

// A start reads every row's header.
constexpr double kPatience = 30;
// A stop syncs. It once waited for a poller of gRPC, for up to 10 s.
constexpr double kStopPatience = 8;

}  // namespace

uint64_t TestSeed() {
  uint64_t seed = 20240607;
  const char* text = std::getenv("QFLEET_TEST_SEED");
  if (text != nullptr && !absl::SimpleAtoi(text, &seed)) {
    ADD_FAILURE() << "QFLEET_TEST_SEED = " << text << ": allowed is a number";
  }
  std::cout << "QFLEET_TEST_SEED=" << seed << std::endl;
  return seed;
}

bool Eventually(const std::function<bool()>& condition,
                absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return true;
}

ShardProcess::ShardProcess(const std::string& folder, const Options& options)
    : options_(options),
      config_(absl::StrCat(folder, "/config-", options.number, ".txtpb")),
      log_(absl::StrCat(folder, "/log-", options.number)),
      ready_(absl::StrCat(folder, "/ready-", options.number)),
      address_(options.listen.empty()
                   ? absl::StrCat("unix:", folder, "/shard-", options.number,
                                  ".sock")
                   : options.listen) {
  v1::Config config;
  config.mutable_environment()->set_id("CartPole-v1");  // It must be named.
  config.mutable_replay()->set_sync_interval(options.sync_interval);
  *config.mutable_replay()->mutable_table() = options.table;
  std::string text;
  EXPECT_TRUE(google::protobuf::TextFormat::PrintToString(config, &text));
  std::ofstream(config_) << text;
}

std::vector<std::string> ShardProcess::Command() const {
  std::vector<std::string> command = options_.prefix;
  for (const std::string& argument :
       {absl::StrCat(QFLEET_BIN_DIR, "/qfleet-replay"),
        absl::StrCat("--config=", config_),
        absl::StrCat("--shard=", options_.number),
        absl::StrCat("--listen=", address_),
        std::string("--metrics=127.0.0.1:0"),
        absl::StrCat("--ready_file=", ready_)}) {
    command.push_back(argument);
  }
  if (!options_.data_dir.empty()) {
    command.push_back(absl::StrCat("--data_dir=", options_.data_dir));
  }
  command.insert(command.end(), options_.flags.begin(), options_.flags.end());
  return command;
}

void ShardProcess::Launch() {
  std::filesystem::remove(ready_);
  process_ = std::make_unique<Process>(Command(), log_);
}

void ShardProcess::Start() {
  Launch();
  ASSERT_TRUE(process_->WaitUntil(
      [this] { return std::filesystem::exists(ready_); }, kPatience))
      << process_->Output();
  std::ifstream ready(ready_);
  std::string word;
  ready >> word >> address_;  // The port that was chosen.
}

int ShardProcess::StartRefused(std::string* output) {
  std::filesystem::remove(ready_);
  return RunToEnd(Command(), log_, kPatience, output);
}

void ShardProcess::Kill() {
  process_->Signal(SIGKILL);
  ASSERT_TRUE(process_->WaitFor(kPatience));
  ASSERT_EQ(process_->exit_code(), 128 + SIGKILL) << process_->Output();
}

int ShardProcess::Stop() {
  process_->Signal(SIGTERM);
  return process_->WaitFor(kStopPatience) ? process_->exit_code() : -1;
}

void ShardProcess::Freeze() {
  process_->Signal(SIGSTOP);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(process_->pid()), &info,
                   WSTOPPED | WEXITED | WNOWAIT),
            0);
  ASSERT_EQ(info.si_code, CLD_STOPPED);
}

std::unique_ptr<v1::Replay::Stub> ShardProcess::NewStub() const {
  return v1::Replay::NewStub(MakeChannel(address_));
}

v1::TableInfo ShardProcess::Describe() const {
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
  v1::DescribeResponse response;
  const grpc::Status status = NewStub()->Describe(&context, {}, &response);
  if (!status.ok() || response.tables_size() != 1) {
    ADD_FAILURE() << "Describe: " << status.error_message();
    return {};
  }
  return response.tables(0);
}

uint64_t ShardProcess::ProcStatus(absl::string_view name) const {
  std::ifstream file(absl::StrCat("/proc/", process_->pid(), "/status"));
  std::string line;
  while (std::getline(file, line)) {
    absl::string_view rest = line;
    if (!absl::ConsumePrefix(&rest, name) || !absl::ConsumePrefix(&rest, ":")) {
      continue;
    }
    absl::ConsumeSuffix(&rest, " kB");
    uint64_t value = 0;
    if (absl::SimpleAtoi(rest, &value)) return value;
  }
  ADD_FAILURE() << name << " is not in the status of the process";
  return 0;
}

}  // namespace qfleet
