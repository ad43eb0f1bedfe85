// Messages on a unix stream socket, each preceded by its size in bytes: 4
// bytes, little-endian (proto/qfleet/v1/environment.proto).

#ifndef QFLEET_ENVS_FRAMED_SOCKET_H_
#define QFLEET_ENVS_FRAMED_SOCKET_H_

#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace qfleet {

// The longest path of a unix socket.
inline constexpr size_t kMaxSocketPath = 107;

// Thread-compatible. After an error the stream is at no message's beginning,
// and the socket is not to be used any more.
class FramedSocket {
 public:
  // A connected socket, which it closes.
  explicit FramedSocket(int descriptor);
  FramedSocket(FramedSocket&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FramedSocket& operator=(FramedSocket&&) = delete;
  ~FramedSocket();

  // UNAVAILABLE if nobody listens there.
  static absl::StatusOr<FramedSocket> Connect(const std::string& path);
  // Two sockets that are connected with one another; the second is a descriptor
  // for another process.
  static absl::StatusOr<std::pair<FramedSocket, int>> Pair();

  // DEADLINE_EXCEEDED if it takes longer than `patience`, UNAVAILABLE if the
  // other side has closed its end. Receive gives INVALID_ARGUMENT for a message
  // of more than `max_bytes`, before it reads it.
  absl::Status Send(absl::string_view message, absl::Duration patience);
  absl::Status Receive(size_t max_bytes, absl::Duration patience,
                       std::string& message);

 private:
  absl::Status ReadAll(char* data, size_t size, absl::Time deadline);
  absl::Status WriteAll(absl::string_view data, absl::Time deadline);
  absl::Status Wait(short events, absl::Time deadline);

  int descriptor_;
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_FRAMED_SOCKET_H_
