#include "envs/framed_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

// What is announced is not believed, and no memory taken for it, before so much
// of it has come.
constexpr size_t kChunk = 16 << 20;

absl::Status Closed() {
  return absl::UnavailableError("the connection was closed");
}

absl::Status SystemError() {
  if (errno == EPIPE || errno == ECONNRESET) return Closed();
  return absl::UnavailableError(std::strerror(errno));
}

}  // namespace

FramedSocket::FramedSocket(int descriptor) : descriptor_(descriptor) {
  fcntl(descriptor_, F_SETFL, fcntl(descriptor_, F_GETFL) | O_NONBLOCK);
}

FramedSocket::~FramedSocket() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::StatusOr<FramedSocket> FramedSocket::Connect(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() > kMaxSocketPath) {
    return absl::InvalidArgumentError(absl::StrCat(
        "path of ", path.size(), " bytes: allowed is 1 to ", kMaxSocketPath));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return SystemError();
  if (connect(descriptor, reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0) {
    absl::Status status = absl::UnavailableError(std::strerror(errno));
    close(descriptor);
    return status;
  }
  return FramedSocket(descriptor);
}

absl::StatusOr<std::pair<FramedSocket, int>> FramedSocket::Pair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return SystemError();
  }
  return std::pair(FramedSocket(ends[0]), ends[1]);
}

absl::Status FramedSocket::Send(absl::string_view message,
                                absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  const auto size = static_cast<uint32_t>(message.size());
  std::string frame;
  frame.reserve(sizeof(size) + message.size());
  for (int byte = 0; byte < 4; ++byte) {
    frame.push_back(static_cast<char>(size >> (8 * byte)));
  }
  frame.append(message.data(), message.size());
  return WriteAll(frame, deadline);
}

absl::Status FramedSocket::Receive(size_t max_bytes, absl::Duration patience,
                                   std::string& message) {
  const absl::Time deadline = absl::Now() + patience;
  unsigned char head[4];
  QFLEET_RETURN_IF_ERROR(
      ReadAll(reinterpret_cast<char*>(head), sizeof(head), deadline));
  const size_t size = head[0] | head[1] << 8 | head[2] << 16 |
                      static_cast<size_t>(head[3]) << 24;
  if (size > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "message of ", size, " bytes: allowed is at most ", max_bytes));
  }
  for (size_t done = 0; done < size;) {
    const size_t part = std::min(size - done, kChunk);
    message.resize(done + part);
    QFLEET_RETURN_IF_ERROR(ReadAll(&message[done], part, deadline));
    done += part;
  }
  message.resize(size);
  return absl::OkStatus();
}

absl::Status FramedSocket::ReadAll(char* data, size_t size,
                                   absl::Time deadline) {
  while (size > 0) {
    const ssize_t count = recv(descriptor_, data, size, 0);
    if (count > 0) {
      data += count;
      size -= count;
    } else if (count == 0) {
      return Closed();
    } else if (errno == EAGAIN) {
      QFLEET_RETURN_IF_ERROR(Wait(POLLIN, deadline));
    } else if (errno != EINTR) {
      return SystemError();
    }
  }
  return absl::OkStatus();
}

absl::Status FramedSocket::WriteAll(absl::string_view data,
                                    absl::Time deadline) {
  while (!data.empty()) {
    const ssize_t count =
        send(descriptor_, data.data(), data.size(), MSG_NOSIGNAL);
    if (count >= 0) {
      data.remove_prefix(count);
    } else if (errno == EAGAIN) {
      QFLEET_RETURN_IF_ERROR(Wait(POLLOUT, deadline));
    } else if (errno != EINTR) {
      return SystemError();
    }
  }
  return absl::OkStatus();
}

absl::Status FramedSocket::Wait(short events, absl::Time deadline) {
  pollfd ready = {.fd = descriptor_, .events = events, .revents = 0};
  // Rounded up: it does not spin through the last millisecond.
  const double left = absl::ToDoubleMilliseconds(deadline - absl::Now());
  const int timeout = static_cast<int>(std::clamp(std::ceil(left), 0.0, 1e9));
  const int count = poll(&ready, 1, timeout);
  if (count == 0) return absl::DeadlineExceededError("no answer in time");
  if (count < 0 && errno != EINTR) return SystemError();
  return absl::OkStatus();
}

}  // namespace qfleet
