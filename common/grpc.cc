#include "common/grpc.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "grpc/grpc.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/support/proto_buffer_reader.h"

namespace qfleet {
namespace {

constexpr int kKeepaliveMs = 20000;

// Else the last one to use gRPC would shut it down, and wait for a poller of
// its own that may sleep for 10 s (grpc 1.51, tcp_posix.cc, "backup poller"):
// a process that has done everything would not end.
void KeepGrpcUp() {
  static const bool kept = [] {
    grpc_init();
    return true;
  }();
  (void)kept;
}

// Whether some process listens on the socket file.
bool SocketIsLive(const sockaddr_un& address) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;
  int result =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  close(fd);
  return result == 0;
}

// A killed process leaves its socket file behind, and bind() refuses it.
absl::Status RemoveStaleSocket(const std::string& path) {
  sockaddr_un address = {};
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "listen address unix:", path, ": allowed is a path of 1 to ",
        sizeof(address.sun_path) - 1, " characters"));
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (access(path.c_str(), F_OK) != 0) return absl::OkStatus();
  if (SocketIsLive(address)) {
    return absl::UnavailableError(absl::StrCat(
        "listen address unix:", path, ": another process listens there"));
  }
  if (unlink(path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot remove ", path));
  }
  return absl::OkStatus();
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  KeepGrpcUp();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // This one is how long an attempt to connect may take.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // A peer that is silent (its host is gone, it is stopped) ends its calls.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Channels to one address do not share a connection: a bulk stream of one
  // must not queue behind another's.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   arguments);
}

void AwaitReconnect(grpc::Channel& channel, absl::Duration backoff,
                    const std::function<bool()>& stopped) {
  constexpr absl::Duration kLook = absl::Milliseconds(50);
  const absl::Time end = absl::Now() + backoff;
  // Also where the connection is there and the call was refused.
  absl::SleepFor(std::min(kLook, backoff));
  while (!stopped() && absl::Now() < end) {
    const absl::Time until = std::min(end, absl::Now() + kLook);
    if (channel.WaitForConnected(absl::ToChronoTime(until))) return;
  }
}

absl::Status ParseMessage(grpc::ByteBuffer& bytes,
                          google::protobuf::MessageLite& message) {
  const size_t size = bytes.Length();
  bool parsed = false;
  {
    grpc::ProtoBufferReader reader(&bytes);
    parsed = reader.status().ok() && message.ParseFromZeroCopyStream(&reader);
  }
  bytes.Clear();
  if (parsed) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "a message of ", size, " bytes does not parse: allowed is a ",
      message.GetTypeName()));
}

grpc::ByteBuffer SerializeMessage(
    const google::protobuf::MessageLite& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.raw_code()),
                      std::string(status.message()));
}

GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

absl::Status GrpcServer::Start(const std::string& address,
                               const std::vector<grpc::Service*>& services) {
  absl::string_view path = address;
  if (absl::ConsumePrefix(&path, "unix:")) {
    absl::ConsumePrefix(&path, "//");
    socket_path_ = std::string(path);
    absl::Status status = RemoveStaleSocket(socket_path_);
    if (!status.ok()) {
      socket_path_.clear();
      return status;
    }
  }
  KeepGrpcUp();
  grpc::EnableDefaultHealthCheckService(true);
  static const bool reflection = [] {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  (void)reflection;
  grpc::ServerBuilder builder;
  int port = 0;
  // gRPC shares a port between processes (SO_REUSEPORT) unless told not to; a
  // port in use must be an error.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Allows the clients' keepalive, and has one of its own.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kKeepaliveMs / 4);
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  for (grpc::Service* service : services) builder.RegisterService(service);
  builder.experimental().SetInterceptorCreators(std::move(interceptors_));
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port == 0) {
    server_.reset();
    return absl::UnavailableError(
        absl::StrCat("listen address ", address,
                     ": cannot listen there; allowed is a free \"host:port\" "
                     "or \"unix:PATH\" in a folder that can be written to"));
  }
  address_ = address;
  if (socket_path_.empty() && absl::EndsWith(address, ":0")) {
    address_ = absl::StrCat(absl::StripSuffix(address, "0"), port);
  }
  return absl::OkStatus();
}

void GrpcServer::SetServing(bool serving) {
  if (server_ == nullptr) return;
  serving_->store(serving);
  if (auto* health = server_->GetHealthCheckService(); health != nullptr) {
    health->SetServingStatus(serving);
  }
}

void GrpcServer::Shutdown(absl::Duration grace) {
  if (server_ == nullptr) return;
  SetServing(false);
  server_->Shutdown(std::chrono::system_clock::now() +
                    absl::ToChronoMilliseconds(grace));
  server_->Wait();
  server_.reset();
  if (!socket_path_.empty()) unlink(socket_path_.c_str());
}

}  // namespace qfleet
