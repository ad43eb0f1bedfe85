#include "weights/weights_service.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/grpc.h"
#include "common/status_macros.h"
#include "weights/codec.h"

namespace qfleet {
namespace {

constexpr char kRelay[] = "relay";

// Whether one with this network may have the publication, in the form it wants.
absl::Status CheckWish(const v1::SubscribeRequest& hello,
                       const PublicationForms& forms) {
  const v1::Publication& publication = forms.publication();
  if (hello.network() == publication.network() ||
      (hello.network().empty() && hello.role() == kRelay)) {
    return forms.CheckForm(hello.codec());
  }
  return absl::FailedPreconditionError(
      absl::StrCat("network = \"", hello.network(), "\": allowed is \"",
                   publication.network(), "\""));
}

}  // namespace

// One subscription. gRPC calls the On... methods from its threads, OnDone after
// every operation has ended.
class WeightsService::Subscriber
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit Subscriber(WeightsService& service) : service_(service) {}

  // It is gRPC's until OnDone.
  void Start(std::shared_ptr<Subscriber> self) {
    self_ = std::move(self);
    StartRead(&bytes_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return End(grpc::Status::OK);
    v1::SubscribeRequest request;
    absl::Status status = ParseMessage(bytes_, request);
    if (status.ok()) status = Take(request);
    if (!status.ok()) return End(ToGrpc(status));
    SendNewest();
    StartRead(&bytes_);
  }

  void OnWriteDone(bool ok) override {
    uint64_t sent = 0;
    {
      absl::MutexLock lock(&mutex_);
      if (ok) sent = writing_->Wire(hello_.codec()).Length();
      writing_ = nullptr;
      if (!ok && !ending_) {
        ending_ = true;
        end_status_ = grpc::Status::CANCELLED;
      }
    }
    if (sent > 0) service_.CountSent(sent);
    FinishIfIdle();
    SendNewest();
  }

  void OnDone() override {
    const std::shared_ptr<Subscriber> self = std::move(self_);
    service_.Remove(self);
  }

  // Starts to send the newest publication, unless a send is under way (then
  // the next one starts when it is done) or it was sent already.
  void SendNewest() {
    const std::shared_ptr<const PublicationForms> newest = service_.newest();
    if (newest == nullptr) return;
    v1::WeightCodec codec = v1::FP32;
    absl::Status refused;
    {
      absl::MutexLock lock(&mutex_);
      if (!greeted_ || ending_ || writing_ != nullptr ||
          newest->sequence() <= sent_) {
        return;
      }
      refused = CheckWish(hello_, *newest);
      if (refused.ok()) {
        sent_ = newest->sequence();
        writing_ = newest;  // Nobody else writes, or finishes the call.
        codec = hello_.codec();
      }
    }
    if (!refused.ok()) return End(ToGrpc(refused));
    service_.NoteWeightsFor(*this);
    StartWrite(&newest->Wire(codec));
  }

  void End(grpc::Status status) {
    {
      absl::MutexLock lock(&mutex_);
      if (ending_) return;
      ending_ = true;
      end_status_ = std::move(status);
    }
    FinishIfIdle();
  }

  // Guarded by the service's mutex.
  bool is_actor = false;
  bool is_relay = false;
  bool has_progress = false;
  v1::SubscribeRequest progress;
  // Until there is progress: when its first weights were sent.
  absl::Time progress_time = absl::InfinitePast();

 private:
  absl::Status Take(const v1::SubscribeRequest& request) {
    bool greets = false;
    {
      absl::MutexLock lock(&mutex_);
      greets = !greeted_;
    }
    if (greets) {
      QFLEET_RETURN_IF_ERROR(CheckCodec(request.codec()));
      const auto newest = service_.newest();
      if (newest != nullptr) {
        QFLEET_RETURN_IF_ERROR(CheckWish(request, *newest));
      }
      absl::MutexLock lock(&mutex_);
      hello_ = request;
      greeted_ = true;
    }
    service_.CountProgress(*this, request);
    return absl::OkStatus();
  }

  // Finish is called once, and not while a write is under way.
  void FinishIfIdle() {
    grpc::Status status;
    {
      absl::MutexLock lock(&mutex_);
      if (!ending_ || finished_ || writing_ != nullptr) return;
      finished_ = true;
      status = end_status_;
    }
    Finish(status);
  }

  WeightsService& service_;
  std::shared_ptr<Subscriber> self_;  // From Start to OnDone.
  grpc::ByteBuffer bytes_;            // The read under way.

  absl::Mutex mutex_;
  bool greeted_ ABSL_GUARDED_BY(mutex_) = false;
  v1::SubscribeRequest hello_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status end_status_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const PublicationForms> writing_ ABSL_GUARDED_BY(mutex_);
  uint64_t sent_ ABSL_GUARDED_BY(mutex_) = 0;  // Sequence.
};

WeightsService::WeightsService(const std::string& name, WeightsBackend& backend)
    : name_(name), backend_(backend), sender_([this] { SendAll(); }) {}

WeightsService::~WeightsService() {
  CloseSubscriptions();
  sender_.join();
}

absl::Status WeightsService::Publish(
    std::shared_ptr<const v1::Publication> publication,
    std::function<Calibration()> calibrate) {
  absl::MutexLock lock(&mutex_);
  QFLEET_ASSIGN_OR_RETURN(
      newest_, PublicationForms::Make(std::move(publication), sequence_ + 1,
                                      std::move(calibrate)));
  ++sequence_;
  return absl::OkStatus();
}

bool WeightsService::MustSend(uint64_t sent) const {
  mutex_.AssertReaderHeld();
  return closed_ || sequence_ != sent;
}

void WeightsService::SendAll() {
  uint64_t sent = 0;
  for (;;) {
    std::vector<std::shared_ptr<Subscriber>> subscribers;
    {
      const auto must_send = [this, &sent] { return MustSend(sent); };
      absl::MutexLock lock(&mutex_, absl::Condition(&must_send));
      if (closed_) return;
      sent = sequence_;
      subscribers.assign(subscribers_.begin(), subscribers_.end());
    }
    for (const auto& subscriber : subscribers) subscriber->SendNewest();
  }
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
WeightsService::Subscribe(grpc::CallbackServerContext*) {
  auto subscriber = std::make_shared<Subscriber>(*this);
  // Nothing happens with it before this returns.
  subscriber->Start(subscriber);
  Add(subscriber);
  return subscriber.get();
}

grpc::ServerUnaryReactor* WeightsService::ReportEvaluation(
    grpc::CallbackServerContext* context, const v1::EvaluationReport* request,
    v1::ReportEvaluationResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (!request->has_evaluation() || !request->has_policy() ||
      request->evaluation().episodes() == 0) {
    reactor->Finish(grpc::Status(
        grpc::StatusCode::INVALID_ARGUMENT,
        "evaluation: allowed is one of at least 1 episode, with its policy"));
    return reactor;
  }
  backend_.RecordEvaluation(*request, *context, [reactor](absl::Status status) {
    reactor->Finish(ToGrpc(status));
  });
  return reactor;
}

grpc::ServerUnaryReactor* WeightsService::Describe(
    grpc::CallbackServerContext* context, const v1::DescribeRunRequest*,
    v1::RunReport* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  backend_.Describe(*response, *context, [reactor](absl::Status status) {
    reactor->Finish(ToGrpc(status));
  });
  return reactor;
}

ActorsView WeightsService::Actors() const {
  const absl::Time now = absl::Now();
  absl::MutexLock lock(&mutex_);
  ActorsView view = totals_;
  for (const auto& subscriber : subscribers_) {
    const v1::SubscribeRequest& progress = subscriber->progress;
    if (subscriber->is_actor) ++view.connected;
    if (subscriber->is_relay) view.connected += progress.actors();
    if (!subscriber->is_actor && !subscriber->is_relay) continue;
    // An actor that says nothing, though it has weights: it was stopped then.
    const bool silent = subscriber->is_actor && !subscriber->has_progress &&
                        subscriber->progress_time != absl::InfinitePast();
    if (progress.policy_version() == 0 && !silent) continue;
    if (!silent && (view.oldest_policy_version == 0 ||
                    progress.policy_version() < view.oldest_policy_version)) {
      view.oldest_policy_version = progress.policy_version();
    }
    view.oldest_policy_seconds =
        std::max(view.oldest_policy_seconds,
                 progress.policy_age_seconds() +
                     absl::ToDoubleSeconds(now - subscriber->progress_time));
  }
  return view;
}

void WeightsService::Resume(uint64_t episodes, double return_sum) {
  absl::MutexLock lock(&mutex_);
  totals_.episodes = episodes;
  totals_.return_sum = return_sum;
}

void WeightsService::CloseSubscriptions() {
  std::vector<std::shared_ptr<Subscriber>> subscribers;
  {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
    subscribers.assign(subscribers_.begin(), subscribers_.end());
  }
  for (const auto& subscriber : subscribers) {
    subscriber->End(
        grpc::Status(grpc::StatusCode::UNAVAILABLE,
                     absl::StrCat("the ", name_, " is shutting down")));
  }
}

WeightsService::Stats WeightsService::stats() const {
  absl::MutexLock lock(&mutex_);
  Stats stats = stats_;
  stats.subscribers = static_cast<uint32_t>(subscribers_.size());
  return stats;
}

std::shared_ptr<const PublicationForms> WeightsService::newest() const {
  absl::MutexLock lock(&mutex_);
  return newest_;
}

void WeightsService::Add(const std::shared_ptr<Subscriber>& subscriber) {
  {
    absl::MutexLock lock(&mutex_);
    subscribers_.insert(subscriber);
    if (!closed_) return;
  }
  subscriber->End(
      grpc::Status(grpc::StatusCode::UNAVAILABLE,
                   absl::StrCat("the ", name_, " is shutting down")));
}

void WeightsService::Remove(const std::shared_ptr<Subscriber>& subscriber) {
  absl::MutexLock lock(&mutex_);
  subscribers_.erase(subscriber);
}

void WeightsService::CountProgress(Subscriber& subscriber,
                                   const v1::SubscribeRequest& progress) {
  absl::MutexLock lock(&mutex_);
  if (!progress.role().empty()) {  // The first message.
    subscriber.is_actor = progress.role() == "actor";
    subscriber.is_relay = progress.role() == kRelay;
    return;
  }
  // Totals of one connection's process; a new connection begins from what it
  // says first, so that nothing is counted twice.
  v1::SubscribeRequest& last = subscriber.progress;
  if (subscriber.has_progress) {
    const auto grown = [](uint64_t now, uint64_t before) {
      return now - std::min(now, before);
    };
    totals_.env_steps += grown(progress.env_steps(), last.env_steps());
    totals_.episodes += grown(progress.episodes(), last.episodes());
    totals_.return_sum += progress.return_sum() - last.return_sum();
  }
  subscriber.has_progress = true;
  last = progress;
  subscriber.progress_time = absl::Now();
}

void WeightsService::NoteWeightsFor(Subscriber& subscriber) {
  absl::MutexLock lock(&mutex_);
  if (subscriber.progress_time == absl::InfinitePast()) {
    subscriber.progress_time = absl::Now();
  }
}

void WeightsService::CountSent(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  ++stats_.sent;
  stats_.sent_bytes += bytes;
}

}  // namespace qfleet
