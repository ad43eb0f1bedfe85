// The status server as its clients have it: the friendly ones, the clumsy and
// the hostile.
#include "common/status_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// One connection. Deadlines, so that no test hangs.
class Client {
 public:
  explicit Client(const std::string& address, int receive_buffer = 0) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer > 0) {
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer,
                 sizeof(receive_buffer));
    }
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1),
                                 &port));
    to.sin_port = htons(static_cast<uint16_t>(port));
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  }
  ~Client() { close(fd_); }

  void Send(const std::string& text) {
    (void)!send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
  }

  // Up to its end, or to the deadline.
  std::string ReadAll(absl::Duration patience = absl::Seconds(20)) {
    const absl::Time end = absl::Now() + patience;
    std::string all;
    char piece[4096];
    for (;;) {
      pollfd wait = {.fd = fd_, .events = POLLIN, .revents = 0};
      const int left =
          static_cast<int>(absl::ToInt64Milliseconds(end - absl::Now()));
      if (left <= 0 || poll(&wait, 1, left) <= 0) return all + "(no end)";
      const ssize_t count = recv(fd_, piece, sizeof(piece), 0);
      if (count <= 0) return all;
      all.append(piece, count);
    }
  }

 private:
  int fd_ = -1;
};

class StatusServerTest : public testing::Test {
 protected:
  void SetUp() override {
    web_ = std::make_unique<StatusServer>("replay-0", metrics_);
    absl::StatusOr<std::string> address = web_->Start("127.0.0.1:0");
    ASSERT_TRUE(address.ok()) << address.status();
    address_ = *address;
  }

  std::string Ask(const std::string& request) {
    Client client(address_);
    client.Send(request);
    return client.ReadAll();
  }
  std::string Get(const std::string& path, const std::string& headers = "") {
    return Ask(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: localhost\r\n",
                            headers, "\r\n"));
  }
  static std::string Body(const std::string& answer) {
    return answer.substr(answer.find("\r\n\r\n") + 4);
  }

  Metrics metrics_;
  std::string address_;
  std::unique_ptr<StatusServer> web_;
};

TEST_F(StatusServerTest, EachPathHasItsAnswerAndSensibleHeaders) {
  metrics_.Counter("qfleet_test_things_total", "Things.").Increment(3);
  for (const std::string path :
       {"/", "/status.json", "/metrics", "/healthz"}) {
    EXPECT_THAT(Get(path),
                AllOf(StartsWith("HTTP/1.1 200 OK\r\n"),
                      HasSubstr("\r\nX-Content-Type-Options: nosniff\r\n"),
                      HasSubstr("\r\nCache-Control: no-store\r\n"),
                      HasSubstr("\r\nContent-Security-Policy: default-src "
                                "'none';"),
                      HasSubstr("\r\nConnection: close\r\n")))
        << path;
  }
  EXPECT_THAT(Get("/metrics"),
              AllOf(HasSubstr("Content-Type: text/plain; version=0.0.4"),
                    HasSubstr("\nqfleet_test_things_total 3\n")));
  EXPECT_EQ(Body(Get("/healthz")), "alive\n");
  EXPECT_THAT(Get("/no"), StartsWith("HTTP/1.1 404 Not Found\r\n"));
  EXPECT_THAT(Get("/../etc/passwd"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Get("/metrics?name=x"), StartsWith("HTTP/1.1 200"));
}

TEST_F(StatusServerTest, ReadyFollowsTheFlagThatItIsGiven) {
  EXPECT_THAT(Get("/readyz"), StartsWith("HTTP/1.1 503"));
  auto ready = std::make_shared<std::atomic<bool>>(true);
  web_->SetReady(ready);
  EXPECT_THAT(Get("/readyz"), StartsWith("HTTP/1.1 200"));
  ready->store(false);
  EXPECT_THAT(Get("/readyz"), StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.1 200"));
}

TEST_F(StatusServerTest, StatusHasTheProcessWhatItAddsAndAllMetrics) {
  metrics_.Gauge("qfleet_test_level_ratio", "Level.", {{"side", "left"}})
      .Set(0.25);
  metrics_.Histogram("qfleet_test_seconds", "Time.", {1, 2}).Observe(1.5);
  web_->SetStatus([](auto& json) { json["more"] = "\xff text"; });
  const auto json = nlohmann::json::parse(Body(Get("/status.json")));
  EXPECT_EQ(json["role"], "replay-0");
  EXPECT_EQ(json["pid"], getpid());
  EXPECT_EQ(json["ready"], false);
  EXPECT_EQ(json["more"], "\xef\xbf\xbd text");
  int found = 0;
  for (const auto& metric : json["metrics"]) {
    if (metric["name"] == "qfleet_test_level_ratio") {
      ++found;
      EXPECT_EQ(metric["samples"],
                nlohmann::json::parse(
                    R"([{"labels": {"side": "left"}, "value": 0.25}])"));
    } else if (metric["name"] == "qfleet_test_seconds") {
      ++found;
      EXPECT_EQ(metric["samples"],
                nlohmann::json::parse(R"([{"count": 1, "sum": 1.5}])"));
    }
  }
  EXPECT_EQ(found, 2);
}

TEST_F(StatusServerTest, ThePageLoadsNothingFromElsewhereAndOnlyItsOwnScript) {
  const std::string answer = Get("/");
  EXPECT_THAT(answer, Not(HasSubstr("{{")));
  EXPECT_THAT(Body(answer), Not(HasSubstr("src=\"http")));
  const size_t at = answer.find("script-src 'nonce-");
  ASSERT_NE(at, std::string::npos);
  const std::string nonce = answer.substr(at + 18, 32);
  EXPECT_THAT(Body(answer),
              HasSubstr(absl::StrCat("<script nonce=\"", nonce, "\">")));
  EXPECT_THAT(Get("/"), Not(HasSubstr(nonce)));
}

TEST_F(StatusServerTest, OtherMethodsAreRefusedAndHeadHasNoBody) {
  for (const std::string method : {"POST", "PUT", "DELETE", "OPTIONS"}) {
    EXPECT_THAT(
        Ask(method + " /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0"
                     "\r\n\r\n"),
        AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("\r\nAllow: GET, HEAD")))
        << method;
  }
  EXPECT_THAT(Ask("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 200 "), Not(HasSubstr("# HELP")),
                    Not(HasSubstr("Content-Length: 0\r\n"))));
}

TEST_F(StatusServerTest, CompressesForThoseWhoAcceptIt) {
  const std::string answer =
      Get("/metrics", "Accept-Encoding: br;q=1, gzip\r\n");
  ASSERT_THAT(answer, HasSubstr("\r\nContent-Encoding: gzip\r\n"));
  const std::string body = Body(answer);
  std::string text(1 << 20, '\0');
  z_stream stream = {};
  ASSERT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
  stream.avail_in = static_cast<uInt>(body.size());
  stream.next_out = reinterpret_cast<Bytef*>(text.data());
  stream.avail_out = static_cast<uInt>(text.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  text.resize(stream.total_out);
  inflateEnd(&stream);
  EXPECT_THAT(text, HasSubstr("# HELP qfleet_build_info"));
  EXPECT_THAT(Get("/metrics"), Not(HasSubstr("Content-Encoding")));
  EXPECT_THAT(Get("/metrics", "Accept-Encoding: gzip;q=0\r\n"),
              Not(HasSubstr("Content-Encoding")));
}

TEST_F(StatusServerTest, WhatDoesNotParseIsRefusedAndTheNextOneServed) {
  const std::vector<std::string> requests = {
      "\r\n\r\n",
      "GET\r\n\r\n",
      "NONSENSE\x01\x02 / HTTP/1.1\r\n\r\n",
      "GET / HTTP/9.9\r\n\r\n",
      "GET http://elsewhere/ HTTP/1.1\r\nHost: a\r\n\r\n",
      std::string("GET /\0x HTTP/1.1\r\nHost: a\r\n\r\n", 31),
      "GET /%zz%00 HTTP/1.1\r\nHost: a\r\n\r\n",
      // More than a request may have.
      "GET / HTTP/1.1\r\nX: " + std::string(100000, 'a') + "\r\n\r\n",
      "GET /" + std::string(20000, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n",
      // A body that is announced and never comes is not waited for.
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n",
  };
  for (const std::string& request : requests) {
    const std::string answer = Ask(request);
    EXPECT_THAT(answer, Not(HasSubstr("(no end)"))) << request.substr(0, 40);
    EXPECT_THAT(answer, Not(StartsWith("HTTP/1.1 200")))
        << request.substr(0, 40);
    ASSERT_EQ(Body(Get("/healthz")), "alive\n") << request.substr(0, 40);
  }
}

TEST_F(StatusServerTest, ASlowClientIsCutOff) {
  Client slow(address_);
  slow.Send("GET / HTT");
  const absl::Time begun = absl::Now();
  EXPECT_THAT(slow.ReadAll(), Not(HasSubstr("200 OK")));
  EXPECT_LT(absl::Now() - begun, absl::Seconds(10));
}

// A byte now and then does not prolong the time that a request has.
TEST_F(StatusServerTest, AClientThatDripsIsCutOffAsWell) {
  Client slow(address_);
  const std::string request(4000, 'a');
  slow.Send("GET /");
  const absl::Time begun = absl::Now();
  std::string end;
  for (char c : request) {
    slow.Send(std::string(1, c));
    end = slow.ReadAll(absl::Milliseconds(100));
    if (!absl::StrContains(end, "(no end)")) break;
    ASSERT_LT(absl::Now() - begun, absl::Seconds(20));
  }
  EXPECT_THAT(end, Not(HasSubstr("(no end)")));
}

TEST_F(StatusServerTest, ManyIdleConnectionsDoNotKeepOthersAwayForGood) {
  std::vector<std::unique_ptr<Client>> idle;
  for (int i = 0; i < 40; ++i) {
    idle.push_back(std::make_unique<Client>(address_));
  }
  EXPECT_EQ(Body(Get("/healthz")), "alive\n");
}

// Each of these kept a server that reads or writes without a bound alive.
TEST_F(StatusServerTest, StopsWithinABoundWhateverItsClientsDo) {
  metrics_.Gauge("qfleet_test_long", std::string(4 << 20, 'x'));
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<Client>(address_, 2048));
    clients.back()->Send(i % 2 == 0 ? "GET / HTT"
                                    : "GET /metrics HTTP/1.1\r\nHost: a\r\n"
                                      "\r\n");
  }
  const absl::Time begun = absl::Now();
  web_.reset();
  EXPECT_LT(absl::Now() - begun, absl::Seconds(4));
}

// The library looks every 2 s whether it shall stop.
TEST_F(StatusServerTest, StopsAtOnce) {
  EXPECT_EQ(Body(Get("/healthz")), "alive\n");
  const absl::Time begun = absl::Now();
  web_.reset();
  EXPECT_LT(absl::Now() - begun, absl::Seconds(1));
}

TEST_F(StatusServerTest, AddressesThatAreNoneAreNamed) {
  for (const std::string address :
       {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:80s",
        "127.0.0.1:1,127.0.0.1:2", ":0", "a b:0", "127.0.0.1:0x1"}) {
    StatusServer other("x", metrics_);
    const auto status = other.Start(address).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_THAT(std::string(status.message()), HasSubstr("host:port"));
  }
}

TEST_F(StatusServerTest, APortInUseIsAnError) {
  StatusServer other("x", metrics_);
  const auto status = other.Start(address_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(address_));
}

}  // namespace
}  // namespace qfleet
