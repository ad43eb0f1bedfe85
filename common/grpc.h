// How qfleet opens gRPC channels and servers.
//
//   GrpcServer server;
//   QFLEET_RETURN_IF_ERROR(server.Start("unix:/tmp/a.sock", {&service}));
//   ...
//   server.Shutdown(absl::Seconds(5));
//
// TLS, tokens and limits are the process's (common/security.h).

#ifndef QFLEET_COMMON_GRPC_H_
#define QFLEET_COMMON_GRPC_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/channel.h"
#include "grpcpp/server.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_interceptor.h"
#include "grpcpp/support/status.h"

namespace qfleet {

class HealthService;
class Listener;
class ServerCallQueue;

// Of one message; larger ones end their call with RESOURCE_EXHAUSTED.
inline constexpr int kMaxMessageBytes = 256 << 20;

// "host:port" or "unix:PATH". Does not connect yet; reconnects by itself
// within about a second for as long as the channel lives.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address);

// Waits before a failed call is tried again: `backoff`, or less once the
// channel is connected or `stopped` (asked about every 50 ms) says so. It polls
// the channel meanwhile: gRPC goes on with connecting only while some call
// polls, and one that fails at once, because there is no connection yet, does
// not.
void AwaitReconnect(grpc::Channel& channel, absl::Duration backoff,
                    const std::function<bool()>& stopped);

// The message that these bytes are; INVALID_ARGUMENT if they are none. A
// handler that is given messages cannot tell one that does not parse from the
// end of the stream; one that is given bytes can.
absl::Status ParseMessage(grpc::ByteBuffer& bytes,
                          google::protobuf::MessageLite& message);
// And back; for small ones, as it copies.
grpc::ByteBuffer SerializeMessage(const google::protobuf::MessageLite& message);

absl::Status FromGrpc(const grpc::Status& status);
grpc::Status ToGrpc(const absl::Status& status);

// A service with asynchronous methods: what happens to their calls comes to
// queues (call_queue.h), each of which has one thread.
class QueuedService {
 public:
  virtual ~QueuedService() = default;
  virtual int queues() const = 0;
  // Takes calls there while the server runs.
  virtual void TakeCalls(ServerCallQueue* queue) = 0;
};

// A server with the standard health service (health_service.h) and reflection.
// Thread-compatible.
class GrpcServer {
 public:
  GrpcServer();
  ~GrpcServer();

  // Sees all calls (grpc_metrics.h). Before Start.
  void Intercept(
      std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
          factory) {
    interceptors_.push_back(std::move(factory));
  }

  // UNAVAILABLE if the address is in use, INVALID_ARGUMENT if it is malformed,
  // a path too long for a socket, or reaches beyond this machine without TLS
  // (CheckListenAddress). A socket file that no process listens on any more is
  // replaced.
  // A service that is a QueuedService is given its queues.
  absl::Status Start(const std::string& address,
                     const std::vector<grpc::Service*>& services);

  // The address with the port that was chosen for "host:0".
  const std::string& address() const { return address_; }

  // What the health service answers.
  void SetServing(bool serving);

  // What it answers, for those who ask otherwise; may outlive the server.
  std::shared_ptr<const std::atomic<bool>> serving() const { return serving_; }

  // Takes no new calls, gives those running `grace` to end, then cuts them.
  void Shutdown(absl::Duration grace);

 private:
  std::string address_;
  const std::shared_ptr<std::atomic<bool>> serving_ =
      std::make_shared<std::atomic<bool>>(false);
  std::vector<
      std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
      interceptors_;
  const std::unique_ptr<HealthService> health_;
  std::vector<std::unique_ptr<ServerCallQueue>> queues_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_GRPC_H_
