#include "common/grpc_metrics.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "google/protobuf/descriptor.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace qfleet {
namespace {

using grpc::experimental::InterceptionHookPoints;

constexpr char kUnknown[] = "unknown";

// By their number (grpc/status.h).
constexpr std::array<const char*, 17> kCodeNames = {"OK",
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

Metrics::Labels LabelsOf(const std::string& service, const std::string& method,
                         const std::string& type) {
  return {
      {"grpc_service", service}, {"grpc_method", method}, {"grpc_type", type}};
}

}  // namespace

GrpcMethodMetrics::GrpcMethodMetrics(Metrics& metrics,
                                     const Metrics::Labels& labels)
    : started(metrics.Counter("grpc_server_started_total",
                              "Calls that the server began.", labels)),
      received(metrics.Counter("grpc_server_msg_received_total",
                               "Messages that came in calls.", labels)),
      sent(metrics.Counter("grpc_server_msg_sent_total",
                           "Messages that the server sent in calls.", labels)),
      seconds(metrics.Histogram("grpc_server_handling_seconds",
                                "How long ended calls took; of a stream, its "
                                "whole life.",
                                HandlingBuckets(), labels)),
      metrics_(metrics),
      labels_(labels) {
  Handled(grpc::StatusCode::OK);  // There from the start.
}

prometheus::Counter& GrpcMethodMetrics::Handled(int code) {
  static_assert(kCodeNames.size() == kCodes);
  if (code < 0 || code >= kCodes) code = grpc::StatusCode::UNKNOWN;
  std::atomic<prometheus::Counter*>& handled = handled_[code];
  prometheus::Counter* counter = handled.load(std::memory_order_acquire);
  if (counter != nullptr) return *counter;
  Metrics::Labels labels = labels_;
  labels["grpc_code"] = kCodeNames[code];
  // The same one for two threads that come at once.
  counter = &metrics_.Counter("grpc_server_handled_total",
                              "Calls that ended, by their code.", labels);
  handled.store(counter, std::memory_order_release);
  return *counter;
}

GrpcServerMetrics::GrpcServerMetrics(Metrics& metrics,
                                     const std::vector<std::string>& services)
    : unknown_(std::make_unique<GrpcMethodMetrics>(
          metrics, LabelsOf(kUnknown, kUnknown, kUnknown))) {
  AddService(metrics, grpc::health::v1::Health::service_full_name());
  AddService(metrics, "grpc.reflection.v1alpha.ServerReflection");
  for (const std::string& service : services) AddService(metrics, service);
}

GrpcMethodMetrics& GrpcServerMetrics::Find(absl::string_view method) const {
  const auto found = methods_.find(method);
  return found == methods_.end() ? *unknown_ : *found->second;
}

void GrpcServerMetrics::Add(Metrics& metrics, const std::string& service,
                            const std::string& method,
                            const std::string& type) {
  methods_.emplace(absl::StrCat("/", service, "/", method),
                   std::make_unique<GrpcMethodMetrics>(
                       metrics, LabelsOf(service, method, type)));
}

void GrpcServerMetrics::AddService(Metrics& metrics, const std::string& name) {
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

CountedCall::CountedCall(const GrpcServerMetrics* calls,
                         absl::string_view method,
                         const grpc::ServerContextBase& context)
    : method_(calls == nullptr ? nullptr : &calls->Find(method)),
      context_(context),
      begun_(absl::GetCurrentTimeNanos()) {
  if (method_ != nullptr) method_->started.Increment();
}

grpc::Status CountedCall::End(const grpc::Status& status) {
  if (method_ == nullptr || ended_.exchange(true)) return status;
  const bool cancelled = status.ok() && context_.IsCancelled();
  method_
      ->Handled(cancelled ? grpc::StatusCode::CANCELLED : status.error_code())
      .Increment();
  method_->seconds.Observe(
      1e-9 * static_cast<double>(absl::GetCurrentTimeNanos() - begun_));
  return status;
}

namespace {

// Of one call, as long as it lasts; gRPC runs one hook of it at a time, but for
// those of messages in and out.
class CallInterceptor final : public grpc::experimental::Interceptor {
 public:
  CallInterceptor(std::shared_ptr<const GrpcServerMetrics> calls,
                  grpc::experimental::ServerRpcInfo& info)
      : calls_(std::move(calls)),
        call_(calls_.get(), info.method(), *info.server_context()) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* batch) override {
    if (batch->QueryInterceptionHookPoint(
            InterceptionHookPoints::POST_RECV_MESSAGE) &&
        batch->GetRecvMessage() != nullptr) {
      call_.Received();
    }
    if (batch->QueryInterceptionHookPoint(
            InterceptionHookPoints::PRE_SEND_MESSAGE)) {
      call_.Sent();
    }
    if (batch->QueryInterceptionHookPoint(
            InterceptionHookPoints::PRE_SEND_STATUS)) {
      call_.End(batch->GetSendStatus());
    }
    batch->Proceed();
  }

 private:
  const std::shared_ptr<const GrpcServerMetrics> calls_;
  CountedCall call_;
};

class CallInterceptors final
    : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  CallInterceptors(std::shared_ptr<const GrpcServerMetrics> calls,
                   const std::vector<std::string>& but)
      : calls_(std::move(calls)), but_(but.begin(), but.end()) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    if (but_.contains(info->method())) return nullptr;  // None.
    return new CallInterceptor(calls_, *info);
  }

 private:
  const std::shared_ptr<const GrpcServerMetrics> calls_;
  const absl::flat_hash_set<std::string> but_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
CountCalls(std::shared_ptr<const GrpcServerMetrics> calls,
           const std::vector<std::string>& but) {
  return std::make_unique<CallInterceptors>(std::move(calls), but);
}

}  // namespace qfleet
