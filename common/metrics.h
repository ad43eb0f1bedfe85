// Prometheus metrics of a process and the endpoint that serves them.
//
//   Metrics metrics;
//   auto& steps = metrics.Counter("qfleet_actor_env_steps_total",
//                                 "Environment steps taken.");
//   QFLEET_ASSIGN_OR_RETURN(auto address, metrics.Serve("127.0.0.1:0"));
//   steps.Increment();
//
// Names: qfleet_<process>_<noun>_<unit>, base units, counters end in _total.

#ifndef QFLEET_COMMON_METRICS_H_
#define QFLEET_COMMON_METRICS_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "prometheus/counter.h"
#include "prometheus/exposer.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace qfleet {

// Thread-safe, and so is what it returns, which lives as long as it.
class Metrics {
 public:
  using Labels = std::map<std::string, std::string>;

  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  prometheus::Counter& Counter(const std::string& name, const std::string& help,
                               const Labels& labels = {});
  prometheus::Gauge& Gauge(const std::string& name, const std::string& help,
                           const Labels& labels = {});
  // `buckets`: upper bounds, ascending.
  prometheus::Histogram& Histogram(const std::string& name,
                                   const std::string& help,
                                   const std::vector<double>& buckets,
                                   const Labels& labels = {});

  // Serves /metrics at "host:port" (port 0: a free one) and returns where it
  // listens. At most once. UNAVAILABLE if the port is in use.
  absl::StatusOr<std::string> Serve(const std::string& address);

  // The text that /metrics serves.
  std::string Text() const;

  // `collector` runs before each scrape, in the scraping thread, and may set
  // gauges; it must stay valid as long as this object.
  void OnScrape(std::function<void()> collector);

 private:
  class Hook;  // Runs the collectors, then gives the registry's metrics.

  const std::shared_ptr<prometheus::Registry> registry_;
  const std::shared_ptr<Hook> hook_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_METRICS_H_
