// Where a server listens, and how many connections it has at most.
//
//   QFLEET_ASSIGN_OR_RETURN(auto listener, Listener::Open("unix:/tmp/a.sock"));
//   listener->Serve(builder_acceptor, max_connections);
//   ...
//   listener->Stop();
//
// gRPC's own listener has no bound (1.51), and when the process has no
// descriptor left it stops listening for good. This one accepts in a thread of
// its own and hands the connections over.

#ifndef QFLEET_COMMON_LISTENER_H_
#define QFLEET_COMMON_LISTENER_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/server_builder.h"

namespace qfleet {

// "host:port", "[IPv6]:port"; INVALID_ARGUMENT otherwise.
struct HostPort {
  std::string host;  // Without brackets.
  std::string port;
};
absl::StatusOr<HostPort> ParseHostPort(absl::string_view address);

// PATH of "unix:PATH" or "unix://PATH"; empty if it is no such address.
std::string UnixPathOf(absl::string_view address);

// Thread-compatible.
class Listener {
 public:
  using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

  // UNAVAILABLE if the address is in use or cannot be listened at,
  // INVALID_ARGUMENT if it is malformed or a path too long for a socket. The
  // file of a unix socket has mode 0700; one that no process listens on any
  // more is replaced; a file that is no socket is left alone.
  static absl::StatusOr<std::unique_ptr<Listener>> Open(
      const std::string& address);
  ~Listener();

  // With the port that was chosen for "host:0".
  const std::string& address() const { return address_; }

  // Accepts connections from now on. `max_connections` are open at a time (less
  // if the process may not open so many files); another one is closed at once.
  void Serve(std::unique_ptr<Acceptor> acceptor, int max_connections);

  // No new connections; those that are there stay. Idempotent.
  void Stop();

 private:
  // An open connection belongs to gRPC: whether it still is, shows in whether
  // the descriptor is still this socket.
  struct Connection {
    int fd;
    ino_t inode;
  };

  explicit Listener(std::string address) : address_(std::move(address)) {}

  absl::Status OpenUnix(const std::string& path);
  absl::Status OpenTcp(const HostPort& where);
  void Run();
  void AcceptAll(int socket);
  bool HasRoom();
  void Warn(const std::string& text);

  std::string address_;
  std::string path_;  // Of a unix socket, while its file is there.
  ino_t path_inode_ = 0;
  std::vector<int> sockets_;
  int stop_fd_ = -1;
  std::thread thread_;

  // The thread's.
  std::unique_ptr<Acceptor> acceptor_;
  size_t max_connections_ = 0;
  std::vector<Connection> connections_;
  absl::Time counted_ = absl::InfinitePast();
  absl::Time warned_ = absl::InfinitePast();
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_LISTENER_H_
