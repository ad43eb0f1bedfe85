#include "common/grpc_metrics.h"

#include <array>
#include <atomic>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "google/protobuf/descriptor.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"

namespace qfleet {
namespace {

using grpc::experimental::InterceptionHookPoints;

constexpr char kUnknown[] = "unknown";

// By their number (grpc/status.h).
constexpr std::array<const char*, 17> kCodes = {"OK",
                                                "CANCELLED",
                                                "UNKNOWN",
                                                "INVALID_ARGUMENT",
                                                "DEADLINE_EXCEEDED",
                                                "NOT_FOUND",
                                                "ALREADY_EXISTS",
                                                "PERMISSION_DENIED",
                                                "RESOURCE_EXHAUSTED",
                                                "FAILED_PRECONDITION",
                                                "ABORTED",
                                                "OUT_OF_RANGE",
                                                "UNIMPLEMENTED",
                                                "INTERNAL",
                                                "UNAVAILABLE",
                                                "DATA_LOSS",
                                                "UNAUTHENTICATED"};

// A priority update takes 0.1 ms, a checkpoint minutes, a stream days.
const std::vector<double>& HandlingBuckets() {
  static const auto* const buckets = new std::vector<double>{
      1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10, 60, 600, 3600};
  return *buckets;
}

// The metrics of one method. Thread-safe.
class MethodMetrics {
 public:
  MethodMetrics(Metrics& metrics, const Metrics::Labels& labels)
      : started(metrics.Counter("grpc_server_started_total",
                                "Calls that the server began.", labels)),
        received(metrics.Counter("grpc_server_msg_received_total",
                                 "Messages that came in calls.", labels)),
        sent(metrics.Counter("grpc_server_msg_sent_total",
                             "Messages that the server sent in calls.",
                             labels)),
        seconds(metrics.Histogram("grpc_server_handling_seconds",
                                  "How long ended calls took; of a stream, its "
                                  "whole life.",
                                  HandlingBuckets(), labels)),
        metrics_(metrics),
        labels_(labels) {
    Handled(grpc::StatusCode::OK);  // There from the start.
  }

  // Made when it is first needed: few methods have more than three codes.
  prometheus::Counter& Handled(int code) {
    if (code < 0 || code >= static_cast<int>(kCodes.size())) {
      code = grpc::StatusCode::UNKNOWN;
    }
    std::atomic<prometheus::Counter*>& handled = handled_[code];
    prometheus::Counter* counter = handled.load(std::memory_order_acquire);
    if (counter != nullptr) return *counter;
    Metrics::Labels labels = labels_;
    labels["grpc_code"] = kCodes[code];
    // The same one for two threads that come at once.
    counter = &metrics_.Counter("grpc_server_handled_total",
                                "Calls that ended, by their code.", labels);
    handled.store(counter, std::memory_order_release);
    return *counter;
  }

  prometheus::Counter& started;
  prometheus::Counter& received;
  prometheus::Counter& sent;
  prometheus::Histogram& seconds;

 private:
  Metrics& metrics_;
  const Metrics::Labels labels_;
  std::array<std::atomic<prometheus::Counter*>, kCodes.size()> handled_ = {};
};

// "/qfleet.v1.Replay/Append" -> its metrics. Constant but for the metrics.
class Methods {
 public:
  Methods(Metrics& metrics, const std::vector<std::string>& services)
      : unknown_(std::make_unique<MethodMetrics>(
            metrics, Labels(kUnknown, kUnknown, kUnknown))) {
    Add(metrics, "grpc.health.v1.Health", "Check", "unary");
    Add(metrics, "grpc.health.v1.Health", "Watch", "server_stream");
    AddService(metrics, "grpc.reflection.v1alpha.ServerReflection");
    for (const std::string& service : services) AddService(metrics, service);
  }

  MethodMetrics& Find(absl::string_view method) const {
    const auto found = methods_.find(method);
    return found == methods_.end() ? *unknown_ : *found->second;
  }

 private:
  static Metrics::Labels Labels(const std::string& service,
                                const std::string& method,
                                const std::string& type) {
    return {{"grpc_service", service},
            {"grpc_method", method},
            {"grpc_type", type}};
  }

  void Add(Metrics& metrics, const std::string& service,
           const std::string& method, const std::string& type) {
    methods_.emplace(absl::StrCat("/", service, "/", method),
                     std::make_unique<MethodMetrics>(
                         metrics, Labels(service, method, type)));
  }

  void AddService(Metrics& metrics, const std::string& name) {
    const auto* service =
        google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
            name);
    if (service == nullptr) return;  // Its calls are "unknown".
    for (int m = 0; m < service->method_count(); ++m) {
      const auto& method = *service->method(m);
      Add(metrics, name, method.name(),
          method.client_streaming()
              ? (method.server_streaming() ? "bidi_stream" : "client_stream")
              : (method.server_streaming() ? "server_stream" : "unary"));
    }
  }

  const std::unique_ptr<MethodMetrics> unknown_;
  absl::flat_hash_map<std::string, std::unique_ptr<MethodMetrics>> methods_;
};

// Of one call, as long as it lasts; gRPC runs one hook of it at a time, but for
// those of messages in and out.
class CallInterceptor final : public grpc::experimental::Interceptor {
 public:
  CallInterceptor(std::shared_ptr<const Methods> methods,
                  grpc::experimental::ServerRpcInfo& info)
      : methods_(std::move(methods)),
        method_(methods_->Find(info.method())),
        context_(info.server_context()),
        begun_(absl::GetCurrentTimeNanos()) {
    method_.started.Increment();
  }

  // A call that was cut before its handler had answered.
  ~CallInterceptor() override { End(grpc::StatusCode::CANCELLED); }

  void Intercept(
      grpc::experimental::InterceptorBatchMethods* batch) override {
    if (batch->QueryInterceptionHookPoint(
            InterceptionHookPoints::POST_RECV_MESSAGE) &&
        batch->GetRecvMessage() != nullptr) {
      method_.received.Increment();
    }
    if (batch->QueryInterceptionHookPoint(
            InterceptionHookPoints::PRE_SEND_MESSAGE)) {
      method_.sent.Increment();
    }
    if (batch->QueryInterceptionHookPoint(
            InterceptionHookPoints::PRE_SEND_STATUS)) {
      const int code = batch->GetSendStatus().error_code();
      End(code == grpc::StatusCode::OK && context_->IsCancelled()
              ? grpc::StatusCode::CANCELLED
              : code);
    }
    batch->Proceed();
  }

 private:
  void End(int code) {
    if (ended_.exchange(true)) return;
    method_.Handled(code).Increment();
    method_.seconds.Observe(
        1e-9 * static_cast<double>(absl::GetCurrentTimeNanos() - begun_));
  }

  const std::shared_ptr<const Methods> methods_;
  MethodMetrics& method_;
  grpc::ServerContextBase* const context_;
  const int64_t begun_;  // Nanoseconds.
  std::atomic<bool> ended_{false};
};

class Factory final
    : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(std::shared_ptr<const Methods> methods)
      : methods_(std::move(methods)) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    return new CallInterceptor(methods_, *info);
  }

 private:
  const std::shared_ptr<const Methods> methods_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
MakeGrpcServerMetrics(Metrics& metrics,
                      const std::vector<std::string>& services) {
  return std::make_unique<Factory>(
      std::make_shared<const Methods>(metrics, services));
}

}  // namespace qfleet
