#include "common/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

// Of the process's descriptors, for everything that is no connection.
constexpr rlim_t kOtherFiles = 512;
// A host that is gone: as long as gRPC's keepalive takes to see it.
constexpr int kUserTimeoutMs = 20000;
// How often the connections are counted when there is no room, how often it is
// said, and how long nothing is accepted when the system has no room.
constexpr absl::Duration kCountPeriod = absl::Milliseconds(10);
constexpr absl::Duration kWarnPeriod = absl::Seconds(10);
constexpr int kPauseMs = 100;

absl::Status CannotListen(absl::string_view address, int error) {
  return absl::UnavailableError(absl::StrCat(
      "listen address ", address, ": cannot listen there (",
      error == EADDRINUSE ? "it is in use" : strerror(error),
      "); allowed is a free \"host:port\" or \"unix:PATH\" in a folder that "
      "can be written to"));
}

// Whether nobody listens on the socket file any more. When in doubt (it is
// another user's, its server is stopped) somebody does.
bool SocketIsDead(const sockaddr_un& address) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return false;
  const int result =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const bool dead = result != 0 && errno == ECONNREFUSED;
  close(fd);
  return dead;
}

// Lets the process open `wanted` files, if it may; how many it may.
rlim_t RaiseFileLimit(rlim_t wanted) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  if (limit.rlim_cur >= wanted) return limit.rlim_cur;
  rlimit raised = limit;
  raised.rlim_cur = std::min(wanted, limit.rlim_max);
  if (setrlimit(RLIMIT_NOFILE, &raised) != 0) return limit.rlim_cur;
  return raised.rlim_cur;
}

}  // namespace

std::string UnixPathOf(absl::string_view address) {
  if (!absl::ConsumePrefix(&address, "unix:")) return "";
  absl::ConsumePrefix(&address, "//");
  return std::string(address);
}

absl::StatusOr<HostPort> ParseHostPort(absl::string_view address) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon != absl::string_view::npos) {
    absl::string_view host = address.substr(0, colon);
    const absl::string_view digits = address.substr(colon + 1);
    const bool brackets =
        absl::ConsumePrefix(&host, "[") && absl::ConsumeSuffix(&host, "]");
    if (!host.empty() && (brackets || !absl::StrContains(host, ':')) &&
        absl::SimpleAtoi(digits, &port) && port >= 0 && port <= 65535) {
      return HostPort{std::string(host), std::string(digits)};
    }
  }
  return absl::InvalidArgumentError(
      "allowed is \"host:port\" or \"unix:PATH\"");
}

absl::StatusOr<std::unique_ptr<Listener>> Listener::Open(
    const std::string& address) {
  std::unique_ptr<Listener> listener(new Listener(address));
  if (absl::StartsWith(address, "unix:")) {
    QFLEET_RETURN_IF_ERROR(listener->OpenUnix(UnixPathOf(address)));
    return listener;
  }
  const absl::StatusOr<HostPort> where = ParseHostPort(address);
  if (!where.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "listen address ", address, ": ", where.status().message()));
  }
  QFLEET_RETURN_IF_ERROR(listener->OpenTcp(*where));
  return listener;
}

absl::Status Listener::OpenUnix(const std::string& path) {
  sockaddr_un address = {};
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "listen address unix:", path, ": allowed is a path of 1 to ",
        sizeof(address.sun_path) - 1, " characters"));
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  // A killed process leaves its socket file behind, and bind() refuses it.
  struct stat info = {};
  if (lstat(path.c_str(), &info) == 0) {
    if (!S_ISSOCK(info.st_mode)) {
      return absl::UnavailableError(
          absl::StrCat("listen address unix:", path,
                       ": there is a file that is no socket; allowed is a "
                       "path where nothing is, or a socket that nobody listens "
                       "on any more"));
    }
    if (!SocketIsDead(address)) {
      return absl::UnavailableError(absl::StrCat(
          "listen address unix:", path, ": another process listens there"));
    }
    if (unlink(path.c_str()) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot remove ", path));
    }
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return CannotListen(address_, errno);
  sockets_.push_back(fd);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
      0) {
    return CannotListen(address_, errno);
  }
  path_ = path;
  if (lstat(path.c_str(), &info) == 0) path_inode_ = info.st_ino;
  // Nobody can connect before listen().
  if (chmod(path.c_str(), S_IRWXU) != 0 || listen(fd, SOMAXCONN) != 0) {
    return CannotListen(address_, errno);
  }
  return absl::OkStatus();
}

absl::Status Listener::OpenTcp(const HostPort& where) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error =
      getaddrinfo(where.host.c_str(), where.port.c_str(), &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("listen address ", address_, ": ", gai_strerror(error),
                     "; allowed is an address of this machine"));
  }
  absl::Cleanup free_found = [found] { freeaddrinfo(found); };
  std::string port = where.port;
  std::vector<std::string> bound_already;  // A hosts file may say it twice.
  int failure = 0;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    const int fd = socket(at->ai_family,
                          at->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {  // No IPv6 here, say.
      failure = errno;
      continue;
    }
    const int on = 1;
    const int off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    sockaddr_storage bound = {};
    std::memcpy(&bound, at->ai_addr, at->ai_addrlen);
    const bool v6 = at->ai_family == AF_INET6;
    // "[::]" is every address of the machine, as gRPC has it.
    if (v6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    in_port_t& number = v6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                           : reinterpret_cast<sockaddr_in*>(&bound)->sin_port;
    int chosen = 0;  // All addresses of a name have one port.
    if (number == 0 && absl::SimpleAtoi(port, &chosen)) {
      number = htons(static_cast<uint16_t>(chosen));
    }
    socklen_t size = at->ai_addrlen;
    const std::string wanted(reinterpret_cast<const char*>(at->ai_addr), size);
    if (std::count(bound_already.begin(), bound_already.end(), wanted) > 0) {
      close(fd);
      continue;
    }
    if (bind(fd, reinterpret_cast<sockaddr*>(&bound), size) != 0 ||
        listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
      failure = errno;
      close(fd);
      // Another process's port must be an error, whatever else the name is.
      if (failure == EADDRINUSE) return CannotListen(address_, failure);
      continue;
    }
    sockets_.push_back(fd);
    bound_already.push_back(wanted);
    port = absl::StrCat(ntohs(number));
  }
  if (sockets_.empty()) return CannotListen(address_, failure);
  address_ = absl::StrCat(address_.substr(0, address_.rfind(':')), ":", port);
  return absl::OkStatus();
}

Listener::~Listener() { Stop(); }

void Listener::Serve(std::unique_ptr<Acceptor> acceptor, int max_connections) {
  acceptor_ = std::move(acceptor);
  max_connections_ = static_cast<size_t>(max_connections);
  const rlim_t files = RaiseFileLimit(max_connections_ + kOtherFiles);
  if (files < max_connections_ + kOtherFiles) {
    max_connections_ = files > 2 * kOtherFiles ? files - kOtherFiles
                                               : std::max<rlim_t>(files / 2, 1);
    spdlog::info("at most {} connections, as the process may open {} files",
                 max_connections_, files);
  }
  stop_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  thread_ = std::thread([this] { Run(); });
}

void Listener::Stop() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    [[maybe_unused]] ssize_t written = write(stop_fd_, &one, sizeof(one));
    thread_.join();
    close(stop_fd_);
  }
  // While it still listens: who comes after it shall find no dead file, nor
  // lose its own.
  struct stat info = {};
  if (!path_.empty() && lstat(path_.c_str(), &info) == 0 &&
      info.st_ino == path_inode_) {
    unlink(path_.c_str());
  }
  path_.clear();
  for (int fd : sockets_) close(fd);
  sockets_.clear();
}

void Listener::Run() {
  std::vector<pollfd> waiting = {{stop_fd_, POLLIN, 0}};
  for (int fd : sockets_) waiting.push_back({fd, POLLIN, 0});
  while (true) {
    if (poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) return;
    if (waiting.front().revents != 0) return;
    for (size_t i = 1; i < waiting.size(); ++i) {
      if (waiting[i].revents != 0) AcceptAll(waiting[i].fd);
    }
  }
}

void Listener::AcceptAll(int socket) {
  // In bites, so that a flood does not keep Stop from being seen.
  for (int i = 0; i < 64; ++i) {
    const int fd =
        accept4(socket, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
          errno == ENOMEM) {
        Warn(absl::StrCat("no connections are accepted: ", strerror(errno)));
        pollfd stop = {stop_fd_, POLLIN, 0};
        poll(&stop, 1, kPauseMs);
      }
      return;
    }
    if (!HasRoom()) {
      close(fd);
      Warn(absl::StrCat("a connection is refused: ", max_connections_,
                        " are open (cluster.limits.max_connections)"));
      continue;
    }
    if (path_.empty()) {
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUserTimeoutMs,
                 sizeof(kUserTimeoutMs));
    }
    struct stat info = {};
    fstat(fd, &info);
    connections_.push_back({fd, info.st_ino});
    Acceptor::NewConnectionParameters parameters;
    parameters.listener_fd = socket;
    parameters.fd = fd;
    acceptor_->HandleNewConnection(&parameters);
  }
}

bool Listener::HasRoom() {
  if (connections_.size() < max_connections_) return true;
  const absl::Time now = absl::Now();
  if (now - counted_ < kCountPeriod) return false;
  counted_ = now;
  const auto closed = [](const Connection& connection) {
    struct stat info = {};
    return fstat(connection.fd, &info) != 0 || !S_ISSOCK(info.st_mode) ||
           info.st_ino != connection.inode;
  };
  connections_.erase(
      std::remove_if(connections_.begin(), connections_.end(), closed),
      connections_.end());
  return connections_.size() < max_connections_;
}

void Listener::Warn(const std::string& text) {
  const absl::Time now = absl::Now();
  if (now - warned_ < kWarnPeriod) return;
  warned_ = now;
  spdlog::warn("{}", text);
}

}  // namespace qfleet
