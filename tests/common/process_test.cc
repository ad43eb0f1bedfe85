// Servers, metrics, signals: what each process has.
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/grpc.h"
#include "common/json_log.h"
#include "common/metrics.h"
#include "common/proto_json.h"
#include "common/resources.h"
#include "common/shutdown.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qfleet/v1/weights.grpc.pb.h"
#include "spdlog/logger.h"
#include "spdlog/sinks/ostream_sink.h"

namespace qfleet {
namespace {

using testing::HasSubstr;

class Service : public v1::Weights::Service {};

class GrpcServerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "qfleet_grpc_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  Service service_;
  std::string directory_;
};

TEST_F(GrpcServerTest, APortOrASocketInUseIsAnError) {
  for (const std::string& address :
       {std::string("127.0.0.1:0"), "unix:" + directory_ + "/s"}) {
    GrpcServer first;
    ASSERT_TRUE(first.Start(address, {&service_}).ok());
    EXPECT_FALSE(first.address().empty());
    Service other;
    GrpcServer second;
    absl::Status status = second.Start(first.address(), {&other});
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), HasSubstr(first.address()));
  }
}

TEST_F(GrpcServerTest, TheSocketOfAKilledProcessIsReplaced) {
  const std::string path = directory_ + "/s";
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
            0);
  close(fd);  // The file stays.
  GrpcServer server;
  EXPECT_TRUE(server.Start("unix:" + path, {&service_}).ok());
  server.Shutdown(absl::ZeroDuration());
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(GrpcServerTest, APathTooLongForASocketIsNamed) {
  GrpcServer server;
  absl::Status status =
      server.Start("unix:/" + std::string(200, 'a'), {&service_});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("107 characters"));
}

TEST(MetricsTest, GivesTheTextWithHelpAndCollectsAtEachScrape) {
  Metrics metrics;
  metrics.Counter("qfleet_test_things_total", "Things.").Increment(3);
  auto& gauge = metrics.Gauge("qfleet_test_level_ratio", "Level.");
  int scrapes = 0;
  metrics.OnScrape([&] { gauge.Set(++scrapes); });
  EXPECT_THAT(metrics.Text(),
              testing::AllOf(HasSubstr("# HELP qfleet_test_things_total "
                                       "Things.\n"),
                             HasSubstr("qfleet_test_things_total 3\n"),
                             HasSubstr("qfleet_test_level_ratio 1\n"),
                             HasSubstr("qfleet_build_info")));
  EXPECT_THAT(metrics.Text(), HasSubstr("qfleet_test_level_ratio 2\n"));
}

TEST(MetricsTest, ACounterThatFollowsATotalNeverFalls) {
  Metrics metrics;
  auto& counter = metrics.Counter("qfleet_test_things_total", "Things.");
  RaiseTo(5, counter);
  RaiseTo(3, counter);  // What is counted elsewhere began anew.
  EXPECT_EQ(counter.Value(), 5);
  RaiseTo(7, counter);
  EXPECT_EQ(counter.Value(), 7);
}

double ValueOf(const Metrics& metrics, const std::string& name) {
  const std::string text = metrics.Text();
  const size_t at = text.find("\n" + name + " ");
  return at == std::string::npos
             ? std::numeric_limits<double>::quiet_NaN()
             : std::stod(text.substr(at + name.size() + 2));
}

TEST(MetricsTest, HasTheProcessUnderItsConventionalNames) {
  Metrics metrics;
  EXPECT_GT(ValueOf(metrics, "process_resident_memory_bytes"), 1 << 20);
  EXPECT_GT(ValueOf(metrics, "process_virtual_memory_bytes"), 1 << 20);
  EXPECT_GT(ValueOf(metrics, "process_max_fds"), 10);
  EXPECT_GE(ValueOf(metrics, "process_cpu_seconds_total"), 0);
  EXPECT_NEAR(ValueOf(metrics, "process_start_time_seconds"),
              absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()), 600);
  EXPECT_GT(ValueOf(metrics, "qfleet_process_memory_available_bytes"), 0);
  const double before = ValueOf(metrics, "process_open_fds");
  const int fd = dup(0);
  EXPECT_EQ(ValueOf(metrics, "process_open_fds"), before + 1);
  close(fd);
}

TEST(JsonLogTest, AnObjectALineWithTheRoleWhateverTheMessageHolds) {
  std::ostringstream stream;
  auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(stream);
  spdlog::logger logger("test", sink);
  logger.set_formatter(std::make_unique<JsonLogFormatter>("replay-3"));
  const std::string message = "a \"quote\", a \\ and\na line; \xff\x01";
  const absl::Time before = absl::Now() - absl::Milliseconds(1);
  logger.warn("{}", message);
  logger.info("plain");
  std::vector<std::string> lines = absl::StrSplit(stream.str(), '\n');
  ASSERT_EQ(lines.size(), 3u);  // And nothing after the second.
  const auto first = nlohmann::json::parse(lines[0]);
  EXPECT_EQ(first["level"], "warning");
  EXPECT_EQ(first["role"], "replay-3");
  EXPECT_EQ(first["message"],
            "a \"quote\", a \\ and\na line; \xef\xbf\xbd\x01");
  EXPECT_EQ(first.size(), 4u);
  const std::string time = first["time"];
  EXPECT_THAT(time, testing::MatchesRegex(
                        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
                        "\\.[0-9]{3}Z"));
  absl::Time parsed;
  std::string error;
  ASSERT_TRUE(absl::ParseTime(absl::RFC3339_full, time, &parsed, &error));
  EXPECT_GE(parsed, before - absl::Milliseconds(1));
  EXPECT_EQ(nlohmann::json::parse(lines[1])["message"], "plain");
}

TEST(ResourcesTest, OpenFilesAreAllowedUpToTheHardLimitOrRefusedInWords) {
  rlimit old = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  rlimit low = old;
  low.rlim_cur = 100;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_TRUE(AllowOpenFiles(120, "a test").ok());
  rlimit now = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &now), 0);
  EXPECT_GE(now.rlim_cur, 120u);
  const absl::Status status =
      AllowOpenFiles(uint64_t{1} << 60, "1,000 actors");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("for 1,000 actors"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("ulimit -n"));
}

TEST(ResourcesTest, MoreMemoryThanThereIsIsRefusedUnlessItIsOnDisk) {
  const MemoryView memory = ReadMemory();
  ASSERT_GT(memory.available, 0u);
  EXPECT_LE(memory.available, memory.total);
  EXPECT_TRUE(CheckMemory(1 << 20, "replay.max_bytes", false).ok());
  const absl::Status status =
      CheckMemory(memory.total + 1, "replay.max_bytes", false);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(absl::StrCat(memory.total)));
  EXPECT_TRUE(CheckMemory(memory.total + 1, "replay.max_bytes", true).ok());
}

TEST(ResourcesTest, SaysWhatIsNearlyFullAndAgainOnlyAfterTenMinutes) {
  ResourceWatch watch;
  const absl::Time begin = absl::FromUnixSeconds(1000000);
  const MemoryView plenty = {.total = 1000 << 20, .available = 900 << 20};
  const DiskView full = {.total = 1000 << 20, .available = 40 << 20};
  EXPECT_THAT(watch.Warnings(plenty, {}, begin), testing::IsEmpty());
  EXPECT_THAT(
      watch.Warnings(plenty, full, begin),
      testing::ElementsAre("the disk of --data_dir is nearly full: 40 MiB of "
                           "1000 MiB are left"));
  EXPECT_THAT(watch.Warnings(plenty, full, begin + absl::Minutes(9)),
              testing::IsEmpty());
  EXPECT_THAT(watch.Warnings({.total = 100 << 20, .available = 1 << 20}, full,
                             begin + absl::Minutes(11)),
              testing::ElementsAre(HasSubstr("memory is nearly full"),
                                   HasSubstr("disk")));
}

TEST(ShutdownSignalTest, ASignalIsARequestAndASecondTermIsTheSame) {
  ShutdownSignal shutdown;
  EXPECT_FALSE(shutdown.requested());
  EXPECT_FALSE(shutdown.WaitFor(absl::Milliseconds(1)));
  kill(getpid(), SIGTERM);
  shutdown.Wait();
  EXPECT_TRUE(shutdown.requested());
  // The kernel sends one for each thread of a parent that was killed.
  kill(getpid(), SIGTERM);
  EXPECT_TRUE(shutdown.WaitFor(absl::Milliseconds(1)));
}

// OpenBLAS starts threads when it is loaded; a SIGTERM that reached one of them
// ended the process at once.
TEST(ShutdownSignalTest, AThreadThatWasThereBeforePassesTheSignalOn) {
  absl::Notification ready, done;
  std::thread before([&] {
    sigset_t term;  // Not blocked, as where there was no ShutdownSignal yet.
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_UNBLOCK, &term, nullptr);
    ready.Notify();
    done.WaitForNotification();
  });
  ready.WaitForNotification();
  {
    ShutdownSignal shutdown;
    pthread_kill(before.native_handle(), SIGTERM);
    EXPECT_TRUE(shutdown.WaitFor(absl::Seconds(20)));
  }
  done.Notify();
  before.join();
}

TEST(ProtoJsonTest, HasPlainNumbersAndOnlyThePartsThatAreSet) {
  v1::RunReport report;
  report.set_env_steps(uint64_t{1} << 53);
  report.set_loss(std::numeric_limits<double>::quiet_NaN());
  report.set_state("training");
  nlohmann::ordered_json json = ToJson(report);
  EXPECT_EQ(json["env_steps"], uint64_t{1} << 53);
  EXPECT_EQ(json["state"], "training");
  EXPECT_EQ(json["updates"], 0);
  EXPECT_FALSE(json.contains("evaluation"));
  EXPECT_THAT(json.dump(), HasSubstr("\"loss\":null"));
  report.mutable_evaluation()->set_mean_return(2.5);
  EXPECT_EQ(ToJson(report)["evaluation"]["mean_return"], 2.5);
}

}  // namespace
}  // namespace qfleet
