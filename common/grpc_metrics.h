// Counts the calls that a gRPC server takes, in the names that the gRPC
// middlewares of other languages have given them, so that dashboards fit:
//
//   grpc_server_started_total        calls begun
//   grpc_server_handled_total        calls ended, by grpc_code
//   grpc_server_handling_seconds     how long those took (a stream: its life)
//   grpc_server_msg_received_total   messages in and out, which of a stream
//   grpc_server_msg_sent_total       that lasts for days are what counts
//
// with grpc_type ("unary", "bidi_stream", ...), grpc_service and grpc_method.
// The values of these labels are bounded: whatever is no method of a service
// that the server has is one method, "unknown" of "unknown". A call that its
// client or its deadline cancelled, and that its handler took for ended, is
// CANCELLED. started = handled + running, always.
//
// Of most services an interceptor counts, and handlers know nothing of it:
//
//   server.Intercept(CountCalls(
//       std::make_shared<const GrpcServerMetrics>(metrics, services)));
//
// It costs each message a way through a completion queue, 2 to 4 us of CPU.
// Methods of which that is a good part count in their handlers instead, with a
// CountedCall, at one addition a message (bench/grpc_metrics_benchmark.cc
// measures it), and are named to the interceptor:
//
//   server.Intercept(CountCalls(calls, ReplayService::CountedMethods()));
//   ReplayService service(shard, calls);
//
// What never gets to such a handler, as a unary call whose message does not
// parse, is not counted.

#ifndef QFLEET_COMMON_GRPC_METRICS_H_
#define QFLEET_COMMON_GRPC_METRICS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "common/metrics.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_interceptor.h"
#include "grpcpp/support/status.h"

namespace qfleet {

// The metrics of one method. Thread-safe.
class GrpcMethodMetrics {
 public:
  GrpcMethodMetrics(Metrics& metrics, const Metrics::Labels& labels);

  // Made when it is first needed: few methods have more than three codes.
  prometheus::Counter& Handled(int code);

  prometheus::Counter& started;
  prometheus::Counter& received;
  prometheus::Counter& sent;
  prometheus::Histogram& seconds;

 private:
  static constexpr int kCodes = 17;  // grpc/status.h

  Metrics& metrics_;
  const Metrics::Labels labels_;
  std::array<std::atomic<prometheus::Counter*>, kCodes> handled_ = {};
};

// "/qfleet.v1.Replay/Append" -> its metrics. Constant but for the metrics.
class GrpcServerMetrics {
 public:
  // `services`: full names of those that the server will have; health and
  // reflection are there by themselves. `metrics` must outlive it.
  GrpcServerMetrics(Metrics& metrics, const std::vector<std::string>& services);

  GrpcMethodMetrics& Find(absl::string_view method) const;

 private:
  void Add(Metrics& metrics, const std::string& service,
           const std::string& method, const std::string& type);
  void AddService(Metrics& metrics, const std::string& name);

  const std::unique_ptr<GrpcMethodMetrics> unknown_;
  absl::flat_hash_map<std::string, std::unique_ptr<GrpcMethodMetrics>> methods_;
};

// A call, from now on. Thread-safe.
class CountedCall {
 public:
  // `method`: "/SERVICE/METHOD". With `calls` null nothing is counted. Both
  // `calls` and `context` must outlive it.
  CountedCall(const GrpcServerMetrics* calls, absl::string_view method,
              const grpc::ServerContextBase& context);
  // One that was cut before its handler had answered.
  ~CountedCall() { End(grpc::Status::CANCELLED); }

  void Received() {
    if (method_ != nullptr) method_->received.Increment();
  }
  void Sent() {
    if (method_ != nullptr) method_->sent.Increment();
  }
  // The first time counts. Returns the status.
  grpc::Status End(const grpc::Status& status);

 private:
  GrpcMethodMetrics* const method_;
  const grpc::ServerContextBase& context_;
  const int64_t begun_;  // Nanoseconds.
  std::atomic<bool> ended_{false};
};

// Counts the calls of all methods but these ("/SERVICE/METHOD"), which count
// their own.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
CountCalls(std::shared_ptr<const GrpcServerMetrics> calls,
           const std::vector<std::string>& but = {});

}  // namespace qfleet

#endif  // QFLEET_COMMON_GRPC_METRICS_H_
