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
//   server.Intercept(MakeGrpcServerMetrics(metrics, {"qfleet.v1.Replay"}));
//
// It costs a small allocation and two clock readings a call, one addition a
// message: bench/grpc_metrics_benchmark.cc measures it.

#ifndef QFLEET_COMMON_GRPC_METRICS_H_
#define QFLEET_COMMON_GRPC_METRICS_H_

#include <memory>
#include <string>
#include <vector>

#include "common/metrics.h"
#include "grpcpp/support/server_interceptor.h"

namespace qfleet {

// `services`: full names of those that the server will have. `metrics` must
// outlive the server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
MakeGrpcServerMetrics(Metrics& metrics,
                      const std::vector<std::string>& services);

}  // namespace qfleet

#endif  // QFLEET_COMMON_GRPC_METRICS_H_
