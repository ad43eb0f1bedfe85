#include "common/grpc.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "absl/base/const_init.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/call_queue.h"
#include "common/health_service.h"
#include "common/listener.h"
#include "common/security.h"
#include "common/status_macros.h"
#include "grpc/grpc.h"
#include "grpc/support/log.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

constexpr int kKeepaliveMs = 20000;
// A connection that has not said what it is by then is closed ...
constexpr int kHandshakeMs = 20000;
// ... and so is one that has no call for so long. A call may last for days.
constexpr int kIdleMs = 600000;

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

// gRPC has a line for each handshake that fails, of which a stranger can make
// as many as it likes: so many in a period, in the process's log.
void LogSome(gpr_log_func_args* line) {
  constexpr int kLines = 20;
  constexpr absl::Duration kPeriod = absl::Seconds(10);
  static absl::Mutex mutex(absl::kConstInit);
  static absl::Time begun = absl::InfinitePast();
  static int lines = 0;
  int left_out = 0;
  {
    absl::MutexLock lock(&mutex);
    if (absl::Now() - begun >= kPeriod) {
      left_out = std::max(0, lines - kLines);
      begun = absl::Now();
      lines = 0;
    }
    if (++lines > kLines) return;
  }
  if (left_out > 0) spdlog::warn("gRPC: {} lines were left out", left_out);
  spdlog::warn("gRPC: {}", line->message);
}

void LimitGrpcLog() {
  // Somebody who asks gRPC for more gets all of it, as gRPC writes it.
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function(LogSome);
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
  // http_proxy is for the web: a proxy would be told the token.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return MakeSecureChannel(address, arguments);
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
  // It travels in a header, for all of which gRPC allows 8 KiB, and each
  // character that is not plain takes three.
  constexpr size_t kMostBytes = 2048;
  if (status.ok()) return grpc::Status::OK;
  std::string message(status.message());
  if (message.size() > kMostBytes) {
    size_t end = kMostBytes;  // Not in the midst of a character.
    while (end > 0 && (message[end] & 0xc0) == 0x80) --end;
    message.resize(end);
    message += " ...";
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.raw_code()),
                      message);
}

GrpcServer::GrpcServer() : health_(std::make_unique<HealthService>()) {}

GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

absl::Status GrpcServer::Start(const std::string& address,
                               const std::vector<grpc::Service*>& services) {
  QFLEET_RETURN_IF_ERROR(CheckListenAddress("listen address", address));
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Listener> listener,
                          Listener::Open(address));
  KeepGrpcUp();
  LimitGrpcLog();
  static const bool reflection = [] {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  (void)reflection;
  const v1::LimitsConfig limits = ServerLimits();
  grpc::ServerBuilder builder;
  // Allows the clients' keepalive, and has one of its own.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kKeepaliveMs / 4);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             kHandshakeMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             limits.max_calls_per_connection());
  grpc::ResourceQuota quota("server");
  quota.Resize(static_cast<size_t>(limits.max_receive_bytes()));
  quota.SetMaxThreads(limits.max_call_threads());
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  builder.RegisterService(health_.get());
  std::vector<std::pair<QueuedService*, ServerCallQueue*>> takers;
  for (grpc::Service* service : services) {
    builder.RegisterService(service);
    auto* queued = dynamic_cast<QueuedService*>(service);
    for (int i = 0; queued != nullptr && i < queued->queues(); ++i) {
      queues_.push_back(
          std::make_unique<ServerCallQueue>(builder.AddCompletionQueue()));
      takers.emplace_back(queued, queues_.back().get());
    }
  }
  builder.experimental().SetInterceptorCreators(std::move(interceptors_));
  std::unique_ptr<Listener::Acceptor> acceptor =
      builder.experimental().AddExternalConnectionAcceptor(
          grpc::ServerBuilder::experimental_type::ExternalConnectionType::
              FROM_FD,
          ServerCredentialsFor(address));
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    return absl::InternalError(
        absl::StrCat("listen address ", address, ": gRPC refuses to serve"));
  }
  for (const auto& [service, queue] : takers) service->TakeCalls(queue);
  address_ = listener->address();
  listener_ = std::move(listener);
  listener_->Serve(std::move(acceptor), limits.max_connections());
  return absl::OkStatus();
}

void GrpcServer::SetServing(bool serving) {
  if (server_ == nullptr) return;
  serving_->store(serving);
  health_->SetServing(serving);
}

void GrpcServer::Shutdown(absl::Duration grace) {
  if (server_ == nullptr) return;
  SetServing(false);
  health_->Shutdown();
  listener_->Stop();
  server_->Shutdown(std::chrono::system_clock::now() +
                    absl::ToChronoMilliseconds(grace));
  server_->Wait();
  queues_.clear();  // After the server's last call, as gRPC wants it.
  server_.reset();
  listener_.reset();
}

}  // namespace qfleet
