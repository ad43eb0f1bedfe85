// Servers, metrics, signals: what each process has.
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/grpc.h"
#include "common/metrics.h"
#include "common/proto_json.h"
#include "common/shutdown.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qfleet/v1/weights.grpc.pb.h"

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

TEST(MetricsTest, APortInUseIsAnError) {
  Metrics first, second;
  auto address = first.Serve("127.0.0.1:0");
  ASSERT_TRUE(address.ok()) << address.status();
  auto again = second.Serve(*address);
  EXPECT_EQ(again.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(again.status().message()), HasSubstr(*address));
}

// Its HTTP server took 2 s to notice that it should stop.
TEST(MetricsTest, StopsAtOnce) {
  auto metrics = std::make_unique<Metrics>();
  ASSERT_TRUE(metrics->Serve("127.0.0.1:0").ok());
  const absl::Time begun = absl::Now();
  metrics.reset();
  EXPECT_LT(absl::Now() - begun, absl::Seconds(1));
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
