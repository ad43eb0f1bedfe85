// A connection to a server on loopback that is no gRPC client's.

#ifndef QFLEET_TESTS_FAULT_SILENT_CONNECTION_H_
#define QFLEET_TESTS_FAULT_SILENT_CONNECTION_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include "common/listener.h"
#include "gtest/gtest.h"

namespace qfleet {

// Says nothing by itself.
class SilentConnection {
 public:
  explicit SilentConnection(const std::string& address)
      : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<uint16_t>(
        std::atoi(ParseHostPort(address)->port.c_str())));
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  }
  ~SilentConnection() { close(fd_); }
  SilentConnection(const SilentConnection&) = delete;
  SilentConnection& operator=(const SilentConnection&) = delete;

  // It does say something.
  void Send(const std::string& bytes) {
    EXPECT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // Whether the server has closed it.
  bool IsClosed() const {
    char bytes[4096];
    ssize_t size = 0;
    do {
      size = recv(fd_, bytes, sizeof(bytes), MSG_DONTWAIT);
    } while (size > 0);
    return size == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
  }

 private:
  const int fd_;
};

}  // namespace qfleet

#endif  // QFLEET_TESTS_FAULT_SILENT_CONNECTION_H_
