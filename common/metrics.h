// Prometheus metrics of a process. StatusServer serves them.
//
//   Metrics metrics;
//   auto& steps = metrics.Counter("qfleet_actor_env_steps_total",
//                                 "Environment steps taken.");
//   steps.Increment();
//
// Names: qfleet_<process>_<noun>_<unit>, base units, counters end in _total;
// what Prometheus has a conventional name for (process_*, grpc_server_*) has
// that one. Whoever adds a metric runs tests/integration/metrics_doc_test.py
// --update, which writes docs/metrics.md.

#ifndef QFLEET_COMMON_METRICS_H_
#define QFLEET_COMMON_METRICS_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/metric_family.h"
#include "prometheus/registry.h"

namespace qfleet {

// Thread-safe, and so is what it returns, which lives as long as it.
class Metrics {
 public:
  using Labels = std::map<std::string, std::string>;

  // Has the process's own already (process_metrics.h).
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

  // All of them as they are now, after the collectors have run.
  std::vector<prometheus::MetricFamily> Collect() const;

  // The same in Prometheus' text format.
  std::string Text() const;

  // `collector` runs before each scrape, in the scraping thread, and may set
  // gauges; it must stay valid as long as this object.
  void OnScrape(std::function<void()> collector);

 private:
  struct Collectors;

  const std::unique_ptr<prometheus::Registry> registry_;
  const std::unique_ptr<Collectors> collectors_;
};

// Brings a counter up to a total that is kept elsewhere; never down.
void RaiseTo(double total, prometheus::Counter& counter);

}  // namespace qfleet

#endif  // QFLEET_COMMON_METRICS_H_
