#include "replay_client/priority_updater.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/time/clock.h"

namespace qfleet {
namespace {

// A shard answers in milliseconds; one that is gone must not hold the next
// priorities for ever.
constexpr std::chrono::seconds kCallTimeout(10);

}  // namespace

PriorityUpdater::PriorityUpdater(std::unique_ptr<v1::Replay::Stub> stub,
                                 const std::string& table,
                                 prometheus::Counter& dropped)
    : stub_(std::move(stub)), table_(table), dropped_(dropped) {}

PriorityUpdater::~PriorityUpdater() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
  if (in_flight_) context_->TryCancel();
  auto idle = [this]()
                  ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !in_flight_; };
  mutex_.Await(absl::Condition(&idle));
}

void PriorityUpdater::Add(const v1::UpdatePrioritiesRequest& request) {
  const absl::Time now = absl::Now();
  absl::MutexLock lock(&mutex_);
  if (waiting_.slot_size() == 0) waiting_since_ = now;
  waiting_.mutable_slot()->MergeFrom(request.slot());
  waiting_.mutable_generation()->MergeFrom(request.generation());
  waiting_.mutable_priority()->MergeFrom(request.priority());
  const int excess = waiting_.slot_size() - kMaxWaiting;
  if (excess > 0) {  // The oldest are worth the least.
    waiting_.mutable_slot()->ExtractSubrange(0, excess, nullptr);
    waiting_.mutable_generation()->ExtractSubrange(0, excess, nullptr);
    waiting_.mutable_priority()->ExtractSubrange(0, excess, nullptr);
    dropped_.Increment(excess);
  }
}

void PriorityUpdater::Flush() {
  absl::MutexLock lock(&mutex_);
  if (waiting_.slot_size() > 0 && !in_flight_ && !stopped_) StartCall();
}

void PriorityUpdater::StartCall() {
  in_flight_ = true;
  request_.Clear();
  request_.Swap(&waiting_);
  request_since_ = waiting_since_;
  request_.set_table(table_);
  response_.Clear();
  context_ = std::make_unique<grpc::ClientContext>();
  context_->set_deadline(std::chrono::system_clock::now() + kCallTimeout);
  stub_->async()->UpdatePriorities(
      context_.get(), &request_, &response_,
      [this](const grpc::Status& status) { OnReply(status); });
}

void PriorityUpdater::OnReply(const grpc::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (status.ok()) {
    counts_.applied += response_.applied();
    counts_.stale += response_.stale();
    counts_.unknown += response_.unknown();
  } else {
    dropped_.Increment(request_.slot_size());
  }
  in_flight_ = false;
  if (waiting_.slot_size() > 0 && !stopped_) StartCall();
}

PriorityUpdater::Backlog PriorityUpdater::backlog() const {
  const absl::Time now = absl::Now();
  absl::MutexLock lock(&mutex_);
  Backlog backlog;
  absl::Time since = now;
  if (waiting_.slot_size() > 0) {
    backlog.priorities += waiting_.slot_size();
    since = waiting_since_;
  }
  if (in_flight_) {
    backlog.priorities += request_.slot_size();
    since = request_since_;
  }
  backlog.seconds = std::max(0.0, absl::ToDoubleSeconds(now - since));
  return backlog;
}

PriorityUpdater::Counts PriorityUpdater::counts() const {
  absl::MutexLock lock(&mutex_);
  return counts_;
}

}  // namespace qfleet
