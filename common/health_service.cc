#include "common/health_service.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace qfleet {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// How often a watch looks whether its client is gone.
constexpr absl::Duration kLook = absl::Seconds(1);

}  // namespace

void HealthService::SetServing(bool serving) {
  absl::MutexLock lock(&mutex_);
  serving_ = serving;
}

void HealthService::Shutdown() {
  absl::MutexLock lock(&mutex_);
  shut_down_ = true;
}

HealthCheckResponse::ServingStatus HealthService::StatusOf(
    const std::string& service) const {
  if (!service.empty()) return HealthCheckResponse::SERVICE_UNKNOWN;
  return serving_ ? HealthCheckResponse::SERVING
                  : HealthCheckResponse::NOT_SERVING;
}

grpc::Status HealthService::Check(grpc::ServerContext*,
                                  const HealthCheckRequest* request,
                                  HealthCheckResponse* response) {
  absl::MutexLock lock(&mutex_);
  const auto status = StatusOf(request->service());
  if (status == HealthCheckResponse::SERVICE_UNKNOWN) {
    return grpc::Status(
        grpc::StatusCode::NOT_FOUND,
        absl::StrCat("service = \"", request->service(),
                     "\": allowed is \"\", the server as a whole"));
  }
  response->set_status(status);
  return grpc::Status::OK;
}

grpc::Status HealthService::Watch(
    grpc::ServerContext* context, const HealthCheckRequest* request,
    grpc::ServerWriter<HealthCheckResponse>* writer) {
  {
    absl::MutexLock lock(&mutex_);
    if (watches_ >= kMaxWatches) {
      return grpc::Status(
          grpc::StatusCode::UNAVAILABLE,
          absl::StrCat("watches: allowed are ", kMaxWatches, " at a time"));
    }
    ++watches_;
  }
  const grpc::Status status =
      WatchUntilShutdown(request->service(), *context, *writer);
  absl::MutexLock lock(&mutex_);
  --watches_;
  return status;
}

grpc::Status HealthService::WatchUntilShutdown(
    const std::string& service, grpc::ServerContext& context,
    grpc::ServerWriter<HealthCheckResponse>& writer) {
  HealthCheckResponse told;  // UNKNOWN: nothing yet.
  auto changed = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return shut_down_ || StatusOf(service) != told.status();
  };
  while (!context.IsCancelled()) {
    {
      absl::MutexLock lock(&mutex_);
      if (!mutex_.AwaitWithTimeout(absl::Condition(&changed), kLook)) continue;
      if (shut_down_) {
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "shutting down");
      }
      told.set_status(StatusOf(service));
    }
    if (!writer.Write(told)) break;
  }
  return grpc::Status::CANCELLED;
}

}  // namespace qfleet
