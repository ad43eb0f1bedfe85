#include "learner/weights_service.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/grpc.h"

namespace qfleet {

// One subscription. gRPC calls the On... methods from its threads, and deletes
// happen in OnDone, after every operation has ended.
class WeightsService::Subscriber
    : public grpc::ServerBidiReactor<v1::SubscribeRequest, v1::Publication> {
 public:
  explicit Subscriber(WeightsService& service) : service_(service) {
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return End(grpc::Status::OK);
    if (!greeted()) {
      absl::Status status = Greet();
      if (!status.ok()) return End(ToGrpc(status));
    }
    service_.CountProgress(*this, request_);
    SendNewest();
    StartRead(&request_);
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = nullptr;
      if (!ok && !ending_) {
        ending_ = true;
        end_status_ = grpc::Status::CANCELLED;
      }
    }
    FinishIfIdle();
    SendNewest();
  }

  void OnDone() override {
    service_.Remove(this);
    delete this;
  }

  // Starts to send the newest publication, unless a send is under way (then
  // the next one starts when it is done) or it was sent already.
  void SendNewest() {
    std::shared_ptr<const v1::Publication> newest =
        service_.publisher_.newest();
    absl::MutexLock lock(&mutex_);
    if (!greeted_ || ending_ || writing_ != nullptr || newest == nullptr ||
        newest->version() == sent_version_) {
      return;
    }
    sent_version_ = newest->version();
    writing_ = std::move(newest);
    StartWrite(writing_.get());
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
  v1::SubscribeRequest progress;
  absl::Time progress_time;

 private:
  bool greeted() {
    absl::MutexLock lock(&mutex_);
    return greeted_;
  }

  absl::Status Greet() {
    std::shared_ptr<const v1::Publication> newest =
        service_.publisher_.newest();
    if (newest != nullptr && newest->network() != request_.network()) {
      return absl::FailedPreconditionError(
          absl::StrCat("network = \"", request_.network(), "\": allowed is \"",
                       newest->network(), "\""));
    }
    absl::MutexLock lock(&mutex_);
    greeted_ = true;
    return absl::OkStatus();
  }

  // Finish is called once, and not while a write is under way.
  void FinishIfIdle() {
    absl::MutexLock lock(&mutex_);
    if (!ending_ || finished_ || writing_ != nullptr) return;
    finished_ = true;
    Finish(end_status_);
  }

  WeightsService& service_;
  v1::SubscribeRequest request_;  // The read under way.

  absl::Mutex mutex_;
  bool greeted_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status end_status_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const v1::Publication> writing_ ABSL_GUARDED_BY(mutex_);
  uint64_t sent_version_ ABSL_GUARDED_BY(mutex_) = 0;
};

WeightsService::WeightsService(Publisher& publisher, Run& run)
    : publisher_(publisher), run_(run) {
  publisher_.OnPublish([this] { SendNewest(); });
}

grpc::ServerBidiReactor<v1::SubscribeRequest, v1::Publication>*
WeightsService::Subscribe(grpc::CallbackServerContext*) {
  auto* subscriber = new Subscriber(*this);
  Add(subscriber);
  return subscriber;
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
  run_.RecordEvaluation(*request);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* WeightsService::Describe(
    grpc::CallbackServerContext* context, const v1::DescribeRunRequest*,
    v1::RunReport* response) {
  *response = run_.Newest();
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

ActorsView WeightsService::Actors() const {
  const absl::Time now = absl::Now();
  absl::MutexLock lock(&mutex_);
  ActorsView view;
  view.episodes = episodes_;
  view.return_sum = return_sum_;
  for (const Subscriber* subscriber : subscribers_) {
    if (!subscriber->is_actor) continue;
    ++view.connected;
    if (subscriber->progress.policy_version() == 0) continue;
    view.oldest_policy_seconds =
        std::max(view.oldest_policy_seconds,
                 subscriber->progress.policy_age_seconds() +
                     absl::ToDoubleSeconds(now - subscriber->progress_time));
  }
  return view;
}

void WeightsService::Resume(uint64_t episodes, double return_sum) {
  absl::MutexLock lock(&mutex_);
  episodes_ = episodes;
  return_sum_ = return_sum;
}

void WeightsService::CloseSubscriptions() {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  // OnDone runs in gRPC's threads and waits for this lock: the set stays.
  for (Subscriber* subscriber : subscribers_) {
    subscriber->End(grpc::Status(grpc::StatusCode::UNAVAILABLE,
                                 "the learner is shutting down"));
  }
}

void WeightsService::SendNewest() {
  absl::MutexLock lock(&mutex_);
  for (Subscriber* subscriber : subscribers_) subscriber->SendNewest();
}

void WeightsService::Add(Subscriber* subscriber) {
  absl::MutexLock lock(&mutex_);
  subscribers_.insert(subscriber);
  if (closed_) {
    subscriber->End(grpc::Status(grpc::StatusCode::UNAVAILABLE,
                                 "the learner is shutting down"));
  }
}

void WeightsService::Remove(Subscriber* subscriber) {
  absl::MutexLock lock(&mutex_);
  subscribers_.erase(subscriber);
}

void WeightsService::CountProgress(Subscriber& subscriber,
                                   const v1::SubscribeRequest& progress) {
  absl::MutexLock lock(&mutex_);
  if (!progress.role().empty()) {  // The first message.
    subscriber.is_actor = progress.role() == "actor";
    return;
  }
  // Totals of one connection's process; a new connection begins from what it
  // says first, so that nothing is counted twice.
  v1::SubscribeRequest& last = subscriber.progress;
  if (last.policy_version() != 0) {
    episodes_ +=
        progress.episodes() - std::min(progress.episodes(), last.episodes());
    return_sum_ += progress.return_sum() - last.return_sum();
  }
  last = progress;
  subscriber.progress_time = absl::Now();
}

}  // namespace qfleet
