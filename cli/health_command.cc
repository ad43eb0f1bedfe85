// qfleet health: whether a process says over HTTP that it is ready, for health
// checks where there is no curl.

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cli/commands.h"
#include "common/process.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(5);
constexpr size_t kStatusLine = 64;  // Bytes that hold "HTTP/1.1 200".

struct HealthFlags {
  std::string address;
  std::string path = "/readyz";
};

// Waits for `events` of the socket.
absl::Status Await(int fd, int16_t events, absl::Time deadline) {
  pollfd poll_fd = {.fd = fd, .events = events, .revents = 0};
  int ready = 0;
  do {
    const absl::Duration left = deadline - absl::Now();
    ready = poll(&poll_fd, 1,
                 static_cast<int>(std::max<int64_t>(
                     0, absl::ToInt64Milliseconds(left))));
  } while (ready < 0 && errno == EINTR);
  if (ready > 0) return absl::OkStatus();
  return absl::DeadlineExceededError(
      absl::StrCat("no answer within ", absl::FormatDuration(kPatience)));
}

// A connected socket that does not block.
absl::StatusOr<int> Connect(const std::string& address, absl::Time deadline) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size()) {
    return absl::InvalidArgumentError("allowed is HOST:PORT");
  }
  std::string host = address.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), address.c_str() + colon + 1,
                                &hints, &found);
  if (error != 0) return absl::UnavailableError(gai_strerror(error));
  auto free_found = absl::MakeCleanup([found] { freeaddrinfo(found); });
  absl::Status status = absl::UnavailableError("no address");
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    const int fd = socket(a->ai_family,
                          a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                          a->ai_protocol);
    if (fd < 0) {
      status = absl::ErrnoToStatus(errno, "socket");
      continue;
    }
    status = absl::OkStatus();
    if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
      int failure = errno;
      if (failure == EINPROGRESS) {
        status = Await(fd, POLLOUT, deadline);
        socklen_t size = sizeof(failure);
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size);
      }
      if (status.ok() && failure != 0) {
        status = absl::ErrnoToStatus(failure, "connect");
      }
    }
    if (status.ok()) return fd;
    close(fd);
  }
  return status;
}

// OK if the answer to a GET is "200".
absl::Status Ask(const HealthFlags& flags) {
  const absl::Time deadline = absl::Now() + kPatience;
  QFLEET_ASSIGN_OR_RETURN(const int fd, Connect(flags.address, deadline));
  auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  const std::string request =
      absl::StrCat("GET ", flags.path, " HTTP/1.1\r\nHost: ", flags.address,
                   "\r\nConnection: close\r\n\r\n");
  if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return absl::ErrnoToStatus(errno, "send");
  }
  std::string line;
  while (line.size() < kStatusLine && !absl::StrContains(line, "\r\n")) {
    QFLEET_RETURN_IF_ERROR(Await(fd, POLLIN, deadline));
    char buffer[kStatusLine];
    const ssize_t size = recv(fd, buffer, sizeof(buffer), 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (size < 0) return absl::ErrnoToStatus(errno, "receive");
    if (size == 0) break;
    line.append(buffer, size);
  }
  line = line.substr(0, line.find("\r\n"));
  if (absl::StartsWith(line, "HTTP/1.") &&
      absl::StrContains(line, " 200")) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      absl::StrCat("answered \"", line, "\": allowed is 200"));
}

int RunHealth(const HealthFlags& flags) {
  const absl::Status status = Ask(flags);
  if (status.ok()) return kExitReached;
  std::cerr << "qfleet: " << flags.address << flags.path << ": "
            << status.message() << std::endl;
  return status.code() == absl::StatusCode::kInvalidArgument ? kExitUsage
                                                             : kExitFailed;
}

}  // namespace

void AddHealthCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "health", "Exit with 0 if a process is ready (/readyz at its metrics "
                "address)");
  auto flags = std::make_shared<HealthFlags>();
  command
      ->add_option("ADDRESS", flags->address,
                   "Where it serves its metrics: host:port")
      ->required();
  command->add_option("--path", flags->path, "What is asked for")
      ->capture_default_str();
  command->callback([flags, &exit_code] { exit_code = RunHealth(*flags); });
}

}  // namespace qfleet
