// What a process tells over HTTP:
//
//   /             a page for people, which polls
//   /status.json  the process, what it adds, and all its metrics
//   /metrics      for Prometheus
//   /healthz      200: it answers
//   /readyz       200 or 503: whether it should be sent work
//
//   Metrics metrics;
//   StatusServer web("replay-0", metrics);
//   QFLEET_ASSIGN_OR_RETURN(auto address, web.Start("127.0.0.1:0"));
//   web.SetReady(server.serving());
//
// Nothing that it serves changes the process. Who can connect may read it all.

#ifndef QFLEET_COMMON_STATUS_SERVER_H_
#define QFLEET_COMMON_STATUS_SERVER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/http_server.h"
#include "common/metrics.h"
#include "nlohmann/json.hpp"

namespace qfleet {

// Thread-safe once it was started.
class StatusServer {
 public:
  // Called in the server's threads; adds members to the object.
  using Status = std::function<void(nlohmann::ordered_json&)>;

  // `metrics` must outlive it.
  StatusServer(std::string role, const Metrics& metrics);

  // As HttpServer::Start.
  absl::StatusOr<std::string> Start(const std::string& address);

  // Until then the process is not ready.
  void SetReady(std::shared_ptr<const std::atomic<bool>> ready);
  void SetStatus(Status status);

 private:
  HttpResponse Page() const;
  HttpResponse StatusJson() const;
  bool ready() const;

  const std::string role_;
  const Metrics& metrics_;
  const absl::Time started_;

  mutable absl::Mutex mutex_;
  std::shared_ptr<const std::atomic<bool>> ready_ ABSL_GUARDED_BY(mutex_);
  Status status_ ABSL_GUARDED_BY(mutex_);

  HttpServer server_;  // Last: its threads end first.
};

// The metrics as a list of {name, type, help, samples: [{labels, value}]}; of a
// histogram count and sum. A number that is not finite is null.
nlohmann::ordered_json MetricsJson(
    const std::vector<prometheus::MetricFamily>& families);

}  // namespace qfleet

#endif  // QFLEET_COMMON_STATUS_SERVER_H_
