// `qfleet health` against a server in this process.

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "../process.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/temp_directory.h"

namespace qfleet {
namespace {

using ::testing::HasSubstr;

// Takes one connection, reads what comes, answers and closes.
class OneAnswer {
 public:
  explicit OneAnswer(const std::string& answer)
      : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(fd_, 1), 0);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, answer] {
      const int client = accept(fd_, nullptr, nullptr);
      char buffer[1024];
      const ssize_t got = recv(client, buffer, sizeof(buffer), 0);
      request_.assign(buffer, got > 0 ? got : 0);
      send(client, answer.data(), answer.size(), MSG_NOSIGNAL);
      close(client);
    });
  }
  ~OneAnswer() {
    shutdown(fd_, SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
    close(fd_);
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  std::string Request() {
    thread_.join();
    return request_;
  }

 private:
  const int fd_;
  int port_ = 0;
  std::string request_;
  std::thread thread_;
};

int Health(const std::string& address, std::string* output,
           const std::string& path = "/metrics") {
  const TempDirectory folder;  // Tests run at the same time.
  return RunToEnd(
      {QFLEET_BIN_DIR "/qfleet", "health", address, "--path=" + path},
      folder.path() + "/log", 30, output);
}

TEST(HealthCommandTest, AnAnswerOf200IsHealth) {
  OneAnswer server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  std::string output;
  EXPECT_EQ(Health(server.address(), &output, "/readyz"), 0) << output;
  EXPECT_EQ(output, "");
  EXPECT_THAT(server.Request(), HasSubstr("GET /readyz HTTP/1.1\r\n"));
}

TEST(HealthCommandTest, AnyOtherAnswerIsNone) {
  OneAnswer server("HTTP/1.1 503 Service Unavailable\r\n\r\n");
  std::string output;
  EXPECT_EQ(Health(server.address(), &output), 1);
  EXPECT_THAT(output, HasSubstr("503 Service Unavailable"));
  EXPECT_THAT(output, HasSubstr(server.address()));
}

TEST(HealthCommandTest, AConnectionThatIsClosedIsNone) {
  OneAnswer server("");
  std::string output;
  EXPECT_EQ(Health(server.address(), &output), 1);
  EXPECT_THAT(output, HasSubstr("answered \"\""));
}

TEST(HealthCommandTest, NobodyThereIsNone) {
  std::string address;
  {
    OneAnswer server("");
    address = server.address();
  }
  std::string output;
  EXPECT_EQ(Health(address, &output), 1);
  EXPECT_THAT(output, HasSubstr(address));
}

TEST(HealthCommandTest, AnAddressWithoutAPortIsRefused) {
  std::string output;
  EXPECT_EQ(Health("localhost", &output), 2);
  EXPECT_THAT(output, HasSubstr("allowed is HOST:PORT"));
}

}  // namespace
}  // namespace qfleet
