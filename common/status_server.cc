#include "common/status_server.h"

#include <unistd.h>

#include <cmath>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "common/status_page.h"
#include "prometheus/text_serializer.h"

namespace qfleet {
namespace {

using Json = nlohmann::ordered_json;

Json Number(double value) {
  if (!std::isfinite(value)) return nullptr;
  if (value == std::floor(value) && std::abs(value) < 9e15) {
    return static_cast<int64_t>(value);
  }
  return value;
}

const char* TypeName(prometheus::MetricType type) {
  switch (type) {
    case prometheus::MetricType::Counter:
      return "counter";
    case prometheus::MetricType::Histogram:
      return "histogram";
    default:
      return "gauge";
  }
}

Json SampleJson(prometheus::MetricType type,
                const prometheus::ClientMetric& metric) {
  Json sample = Json::object();
  if (!metric.label.empty()) {
    Json labels = Json::object();
    for (const auto& label : metric.label) labels[label.name] = label.value;
    sample["labels"] = std::move(labels);
  }
  switch (type) {
    case prometheus::MetricType::Counter:
      sample["value"] = Number(metric.counter.value);
      break;
    case prometheus::MetricType::Histogram:
      sample["count"] = metric.histogram.sample_count;
      sample["sum"] = Number(metric.histogram.sample_sum);
      break;
    default:
      sample["value"] = Number(metric.gauge.value);
  }
  return sample;
}

// New for each answer: only the page's own script and style may run.
std::string Nonce() {
  std::random_device random;
  return absl::StrFormat("%08x%08x%08x%08x", random(), random(), random(),
                         random());
}

HttpResponse JsonResponse(const Json& json) {
  return {.type = "application/json",
          .body = json.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

}  // namespace

Json MetricsJson(const std::vector<prometheus::MetricFamily>& families) {
  Json list = Json::array();
  for (const prometheus::MetricFamily& family : families) {
    Json samples = Json::array();
    for (const prometheus::ClientMetric& metric : family.metric) {
      samples.push_back(SampleJson(family.type, metric));
    }
    list.push_back({{"name", family.name},
                    {"type", TypeName(family.type)},
                    {"help", family.help},
                    {"samples", std::move(samples)}});
  }
  return list;
}

StatusServer::StatusServer(std::string role, const Metrics& metrics)
    : role_(std::move(role)), metrics_(metrics), started_(absl::Now()) {
  server_.Handle("/", [this] { return Page(); });
  server_.Handle("/status.json", [this] { return StatusJson(); });
  server_.Handle("/metrics", [this] {
    return HttpResponse{.type = "text/plain; version=0.0.4; charset=utf-8",
                        .body = metrics_.Text()};
  });
  server_.Handle("/healthz", [] { return HttpResponse{.body = "alive\n"}; });
  server_.Handle("/readyz", [this] {
    return ready() ? HttpResponse{.body = "ready\n"}
                   : HttpResponse{.status = 503, .body = "not ready\n"};
  });
}

absl::StatusOr<std::string> StatusServer::Start(const std::string& address) {
  return server_.Start(address);
}

void StatusServer::SetReady(std::shared_ptr<const std::atomic<bool>> ready) {
  absl::MutexLock lock(&mutex_);
  ready_ = std::move(ready);
}

void StatusServer::SetStatus(Status status) {
  absl::MutexLock lock(&mutex_);
  status_ = std::move(status);
}

bool StatusServer::ready() const {
  absl::MutexLock lock(&mutex_);
  return ready_ != nullptr && ready_->load();
}

HttpResponse StatusServer::Page() const {
  const std::string nonce = Nonce();
  return {.type = "text/html; charset=utf-8",
          .body = absl::StrReplaceAll(
              StatusPage(), {{"{{nonce}}", nonce}, {"{{role}}", role_}}),
          .content_security_policy = absl::StrCat(
              "default-src 'none'; connect-src 'self'; img-src data:; "
              "script-src 'nonce-",
              nonce, "'; style-src 'nonce-", nonce,
              "'; base-uri 'none'; form-action 'none'; frame-ancestors "
              "'none'")};
}

HttpResponse StatusServer::StatusJson() const {
  const absl::Time now = absl::Now();
  Json json = {{"role", role_},
               {"version", QFLEET_VERSION},
               {"pid", getpid()},
               {"time", 1e-3 * static_cast<double>(absl::ToUnixMillis(now))},
               {"uptime_seconds", absl::ToDoubleSeconds(now - started_)},
               {"ready", ready()}};
  Status status;
  {
    absl::MutexLock lock(&mutex_);
    status = status_;
  }
  if (status) status(json);
  json["metrics"] = MetricsJson(metrics_.Collect());
  return JsonResponse(json);
}

}  // namespace qfleet
