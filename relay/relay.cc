#include "relay/relay.h"

#include <atomic>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/grpc_metrics.h"
#include "common/status_macros.h"
#include "grpcpp/client_context.h"
#include "spdlog/spdlog.h"
#include "weights/publication.h"

namespace qfleet {
namespace {

// Whoever still reads when the relay ends has been told so.
constexpr absl::Duration kGrace = absl::Milliseconds(500);

// A relay knows no network: it takes the layout's word for it.
absl::Status CheckForRelay(const v1::Publication& publication,
                           v1::WeightCodec codec) {
  QFLEET_RETURN_IF_ERROR(CheckCodec(publication.codec()));
  if (publication.codec() != codec) {
    return absl::InvalidArgumentError(
        absl::StrCat("codec = ", v1::WeightCodec_Name(publication.codec()),
                     " from the learner: allowed is ",
                     v1::WeightCodec_Name(codec), ", as was asked for"));
  }
  return CheckWhole(publication, publication.layout());
}

}  // namespace

struct Relay::Exported {
  explicit Exported(Metrics& metrics)
      : subscribers(
            metrics.Gauge("qfleet_relay_subscribers",
                          "Actors, evaluators and relays that follow it.")),
        actors(metrics.Gauge("qfleet_relay_actors",
                             "Actors that follow it, themselves or by way of "
                             "further relays.")),
        connected(metrics.Gauge("qfleet_relay_learner_connected",
                                "1 while publications come from the learner, "
                                "else 0.")),
        version(metrics.Gauge("qfleet_relay_policy_version",
                              "Policy version that it serves; 0: none yet.")),
        age(metrics.Gauge("qfleet_relay_policy_age_seconds",
                          "Since that version came.")),
        actor_age(metrics.Gauge(
            "qfleet_relay_actor_policy_age_seconds",
            "Age of the oldest policy that one of its actors acts with.")),
        received(metrics.Counter("qfleet_relay_publications_received_total",
                                 "Publications that came from the learner.")),
        rejected(metrics.Counter(
            "qfleet_relay_publications_rejected_total",
            "Publications from the learner that were not whole.")),
        sent(metrics.Counter("qfleet_relay_publications_sent_total",
                             "Publications sent, over all subscribers.")),
        sent_bytes(metrics.Counter("qfleet_relay_sent_bytes_total",
                                   "Bytes of the publications sent.")) {}

  prometheus::Gauge& subscribers;
  prometheus::Gauge& actors;
  prometheus::Gauge& connected;
  prometheus::Gauge& version;
  prometheus::Gauge& age;
  prometheus::Gauge& actor_age;
  prometheus::Counter& received;
  prometheus::Counter& rejected;
  prometheus::Counter& sent;
  prometheus::Counter& sent_bytes;
  // When the newest came, in Unix nanoseconds; 0: none did.
  std::atomic<int64_t> received_at{0};
};

// Asks the learner. A caller's deadline and its end are the question's, too; a
// learner that is away is said at once.
class Relay::Backend final : public WeightsBackend {
 public:
  explicit Backend(const std::string& learner)
      : learner_(learner), stub_(v1::Weights::NewStub(MakeChannel(learner))) {}

  void RecordEvaluation(const v1::EvaluationReport& evaluation,
                        grpc::CallbackServerContext& context,
                        std::function<void(absl::Status)> done) override {
    auto call = std::make_shared<Call>(context);
    stub_->async()->ReportEvaluation(
        call->context.get(), &evaluation, &call->response,
        [this, call, done = std::move(done)](const grpc::Status& status) {
          done(WithAddress(status));
        });
  }

  void Describe(v1::RunReport& run, grpc::CallbackServerContext& context,
                std::function<void(absl::Status)> done) override {
    auto call = std::make_shared<Call>(context);
    stub_->async()->Describe(
        call->context.get(), &call->question, &run,
        [this, call, done = std::move(done)](const grpc::Status& status) {
          done(WithAddress(status));
        });
  }

 private:
  struct Call {
    explicit Call(const grpc::CallbackServerContext& caller)
        : context(grpc::ClientContext::FromCallbackServerContext(caller)) {}
    const std::unique_ptr<grpc::ClientContext> context;
    v1::DescribeRunRequest question;
    v1::ReportEvaluationResponse response;
  };

  absl::Status WithAddress(const grpc::Status& status) const {
    if (status.ok()) return absl::OkStatus();
    return absl::Status(
        static_cast<absl::StatusCode>(status.error_code()),
        absl::StrCat("learner ", learner_, ": ", status.error_message()));
  }

  const std::string learner_;
  const std::unique_ptr<v1::Weights::Stub> stub_;
};

absl::StatusOr<std::unique_ptr<Relay>> Relay::Start(const Options& options,
                                                    Metrics& metrics) {
  auto relay = std::unique_ptr<Relay>(new Relay(options, metrics));
  relay->server_.Intercept(CountCalls(std::make_shared<const GrpcServerMetrics>(
      metrics, std::vector<std::string>{v1::Weights::service_full_name()})));
  QFLEET_RETURN_IF_ERROR(
      relay->server_.Start(options.listen, {relay->service_.get()}));
  Relay* const self = relay.get();
  relay->subscriber_ = std::make_unique<WeightSubscriber>(
      WeightSubscriberOptions{.address = options.learner,
                              .network = "",
                              .role = "relay",
                              .codec = options.codec,
                              .check =
                                  [codec = options.codec](const auto& message) {
                                    return CheckForRelay(message, codec);
                                  },
                              .on_publication =
                                  [self](auto publication) {
                                    self->Take(std::move(publication));
                                  }});
  return relay;
}

Relay::Relay(const Options& options, Metrics& metrics)
    : exported_(std::make_unique<Exported>(metrics)),
      backend_(std::make_unique<Backend>(options.learner)),
      service_(std::make_unique<WeightsService>("relay", *backend_)) {}

Relay::~Relay() {
  subscriber_.reset();
  service_->CloseSubscriptions();
  server_.Shutdown(kGrace);
}

void Relay::Take(std::shared_ptr<const v1::Publication> publication) {
  // A new connection begins with what it may have already.
  if (taken_ != nullptr && taken_->version() == publication->version() &&
      taken_->hash() == publication->hash() &&
      taken_->network() == publication->network()) {
    return;
  }
  taken_ = publication;
  // Before anybody can have it.
  exported_->received.Increment();
  exported_->version.Set(static_cast<double>(taken_->version()));
  absl::Status status = service_->Publish(std::move(publication));
  if (!status.ok()) {
    spdlog::error("{}", std::string(status.message()));
    return;
  }
  if (exported_->received_at.exchange(absl::GetCurrentTimeNanos()) == 0) {
    spdlog::info("serving from policy version {}", taken_->version());
    server_.SetServing(true);
  }
}

absl::Status Relay::Report() {
  const ActorsView actors = service_->Actors();
  v1::SubscribeRequest progress;
  progress.set_env_steps(actors.env_steps);
  progress.set_episodes(actors.episodes);
  progress.set_return_sum(actors.return_sum);
  progress.set_policy_version(actors.oldest_policy_version);
  progress.set_policy_age_seconds(actors.oldest_policy_seconds);
  progress.set_actors(actors.connected);
  subscriber_->Report(progress);

  const WeightsService::Stats stats = service_->stats();
  exported_->subscribers.Set(stats.subscribers);
  exported_->actors.Set(actors.connected);
  exported_->actor_age.Set(actors.oldest_policy_seconds);
  exported_->connected.Set(subscriber_->connected() ? 1 : 0);
  RaiseTo(static_cast<double>(subscriber_->rejected()), exported_->rejected);
  RaiseTo(static_cast<double>(stats.sent), exported_->sent);
  RaiseTo(static_cast<double>(stats.sent_bytes), exported_->sent_bytes);
  const int64_t received_at = exported_->received_at.load();
  if (received_at > 0) {
    exported_->age.Set(
        absl::ToDoubleSeconds(absl::Now() - absl::FromUnixNanos(received_at)));
  }
  return subscriber_->Newest(0).status();
}

}  // namespace qfleet
