#include "common/metrics.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "prometheus/text_serializer.h"

namespace qfleet {
namespace {

void ConnectOnce(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  (void)!connect(fd, reinterpret_cast<const sockaddr*>(&address),
                 sizeof(address));
  close(fd);
}

}  // namespace

class Metrics::Hook : public prometheus::Collectable {
 public:
  explicit Hook(std::shared_ptr<prometheus::Registry> registry)
      : registry_(std::move(registry)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    absl::MutexLock lock(&mutex_);
    for (const auto& collector : collectors_) collector();
    return registry_->Collect();
  }

  void Add(std::function<void()> collector) {
    absl::MutexLock lock(&mutex_);
    collectors_.push_back(std::move(collector));
  }

 private:
  const std::shared_ptr<prometheus::Registry> registry_;
  mutable absl::Mutex mutex_;
  std::vector<std::function<void()>> collectors_ ABSL_GUARDED_BY(mutex_);
};

Metrics::Metrics()
    : registry_(std::make_shared<prometheus::Registry>()),
      hook_(std::make_shared<Hook>(registry_)) {
  Gauge("qfleet_build_info", "Always 1; the labels say what is running.",
        {{"version", QFLEET_VERSION}})
      .Set(1);
}

Metrics::~Metrics() {
  if (exposer_ == nullptr) return;
  // The HTTP server looks whether it shall stop only when its poll returns,
  // every 2 s or at a connection: give it connections until it has stopped.
  std::atomic<bool> stopped{false};
  std::thread nudge([&stopped, port = exposer_->GetListeningPorts().front()] {
    while (!stopped.load()) {
      ConnectOnce(port);
      absl::SleepFor(absl::Milliseconds(5));
    }
  });
  exposer_.reset();
  stopped.store(true);
  nudge.join();
}

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

absl::StatusOr<std::string> Metrics::Serve(const std::string& address) {
  try {
    exposer_ = std::make_unique<prometheus::Exposer>(address, 1);
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat(
        "metrics address ", address,
        ": cannot listen there; is the port in use? (", error.what(), ")"));
  }
  exposer_->RegisterCollectable(hook_);
  std::pair<std::string, std::string> parts =
      absl::StrSplit(address, absl::MaxSplits(':', 1));
  return absl::StrCat(parts.first, ":", exposer_->GetListeningPorts().front());
}

std::string Metrics::Text() const {
  return prometheus::TextSerializer().Serialize(hook_->Collect());
}

void Metrics::OnScrape(std::function<void()> collector) {
  hook_->Add(std::move(collector));
}

}  // namespace qfleet
