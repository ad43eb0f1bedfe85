#include "common/metrics.h"

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/process_metrics.h"
#include "prometheus/text_serializer.h"

namespace qfleet {

struct Metrics::Collectors {
  absl::Mutex mutex;
  std::vector<std::function<void()>> functions ABSL_GUARDED_BY(mutex);
};

Metrics::Metrics()
    : registry_(std::make_unique<prometheus::Registry>()),
      collectors_(std::make_unique<Collectors>()) {
  Gauge("qfleet_build_info", "Always 1; the labels say what is running.",
        {{"version", QFLEET_VERSION}})
      .Set(1);
  AddProcessMetrics(*this);
}

Metrics::~Metrics() = default;

prometheus::Counter& Metrics::Counter(const std::string& name,
                                      const std::string& help,
                                      const Labels& labels) {
  return prometheus::BuildCounter()
      .Name(name)
      .Help(help)
      .Register(*registry_)
      .Add(labels);
}

prometheus::Gauge& Metrics::Gauge(const std::string& name,
                                  const std::string& help,
                                  const Labels& labels) {
  return prometheus::BuildGauge()
      .Name(name)
      .Help(help)
      .Register(*registry_)
      .Add(labels);
}

prometheus::Histogram& Metrics::Histogram(const std::string& name,
                                          const std::string& help,
                                          const std::vector<double>& buckets,
                                          const Labels& labels) {
  return prometheus::BuildHistogram()
      .Name(name)
      .Help(help)
      .Register(*registry_)
      .Add(labels, buckets);
}

std::vector<prometheus::MetricFamily> Metrics::Collect() const {
  absl::MutexLock lock(&collectors_->mutex);
  for (const auto& collector : collectors_->functions) collector();
  return registry_->Collect();
}

std::string Metrics::Text() const {
  return prometheus::TextSerializer().Serialize(Collect());
}

void Metrics::OnScrape(std::function<void()> collector) {
  absl::MutexLock lock(&collectors_->mutex);
  collectors_->functions.push_back(std::move(collector));
}

void RaiseTo(double total, prometheus::Counter& counter) {
  const double rise = total - counter.Value();
  if (rise > 0) counter.Increment(rise);
}

}  // namespace qfleet
