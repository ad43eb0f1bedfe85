// The standard health service of a server: whether it serves, for probes.
//
// gRPC's own is not used. Its methods are callback methods, for which gRPC
// starts threads that poll beside a server's queues (call_queue.h), and take
// their events.

#ifndef QFLEET_COMMON_HEALTH_SERVICE_H_
#define QFLEET_COMMON_HEALTH_SERVICE_H_

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace qfleet {

// Knows the server as a whole (the empty name), which does not serve at first.
// Thread-safe.
class HealthService final : public grpc::health::v1::Health::Service {
 public:
  // At a time: each has a thread. More are UNAVAILABLE.
  static constexpr int kMaxWatches = 64;

  void SetServing(bool serving);

  // Ends all watches, now and later, with UNAVAILABLE.
  void Shutdown();

  grpc::Status Check(grpc::ServerContext* context,
                     const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override;

  grpc::Status Watch(grpc::ServerContext* context,
                     const grpc::health::v1::HealthCheckRequest* request,
                     grpc::ServerWriter<grpc::health::v1::HealthCheckResponse>*
                         writer) override;

 private:
  using Response = grpc::health::v1::HealthCheckResponse;

  Response::ServingStatus StatusOf(const std::string& service) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  grpc::Status WatchUntilShutdown(const std::string& service,
                                  grpc::ServerContext& context,
                                  grpc::ServerWriter<Response>& writer);

  absl::Mutex mutex_;
  bool serving_ ABSL_GUARDED_BY(mutex_) = false;
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
  int watches_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_HEALTH_SERVICE_H_
