#include "weights/weight_subscriber.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/grpc.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(50);
constexpr absl::Duration kMaxBackoff = absl::Seconds(1);
constexpr absl::Duration kReportDeadline = absl::Seconds(10);

}  // namespace

WeightSubscriber::WeightSubscriber(WeightSubscriberOptions options)
    : options_(std::move(options)),
      channel_(MakeChannel(options_.address)),
      stub_(v1::Weights::NewStub(channel_)),
      thread_([this] { Run(); }) {}

WeightSubscriber::~WeightSubscriber() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }
  thread_.join();
}

absl::StatusOr<std::shared_ptr<const v1::Publication>> WeightSubscriber::Newest(
    uint64_t have) const {
  return WaitNewest(have, absl::ZeroDuration());
}

absl::StatusOr<std::shared_ptr<const v1::Publication>>
WeightSubscriber::WaitNewest(uint64_t have, absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  auto settled = [this, have]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !fatal_.ok() || (newest_ != nullptr && newest_->version() != have);
  };
  mutex_.AwaitWithTimeout(absl::Condition(&settled), timeout);
  if (!fatal_.ok()) return fatal_;
  if (newest_ != nullptr && newest_->version() != have) return newest_;
  return nullptr;
}

void WeightSubscriber::Report(const v1::SubscribeRequest& progress) {
  absl::MutexLock lock(&write_mutex_);
  if (stream_ != nullptr) stream_->Write(progress);
}

absl::Status WeightSubscriber::Report(const v1::EvaluationReport& report) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       absl::ToChronoMilliseconds(kReportDeadline));
  context.set_wait_for_ready(true);
  v1::ReportEvaluationResponse response;
  return FromGrpc(stub_->ReportEvaluation(&context, report, &response));
}

uint64_t WeightSubscriber::rejected() const {
  absl::MutexLock lock(&mutex_);
  return rejected_;
}

bool WeightSubscriber::connected() const {
  absl::MutexLock lock(&mutex_);
  return connected_;
}

bool WeightSubscriber::stopped() const {
  absl::MutexLock lock(&mutex_);
  return stopped_;
}

void WeightSubscriber::Run() {
  absl::Duration backoff = kFirstBackoff;
  std::string last_error;  // Said once.
  for (;;) {
    const absl::Time begun = absl::Now();
    absl::Status status = FollowOnce();
    if (stopped()) return;
    if (status.code() == absl::StatusCode::kFailedPrecondition ||
        status.code() == absl::StatusCode::kUnimplemented) {
      absl::MutexLock lock(&mutex_);
      fatal_ = absl::FailedPreconditionError(absl::StrCat(
          "weights of ", options_.address, ": ", status.message()));
      return;
    }
    if (status.message() != last_error) {
      last_error = std::string(status.message());
      spdlog::info("not connected to the weights at {}: {}", options_.address,
                   last_error);
    }
    // A stream that lasted was a good connection: begin again from the start.
    if (absl::Now() - begun > kMaxBackoff) backoff = kFirstBackoff;
    AwaitReconnect(*channel_, backoff, [this] { return stopped(); });
    if (stopped()) return;
    backoff = std::min(backoff * 2, kMaxBackoff);
  }
}

absl::Status WeightSubscriber::FollowOnce() {
  grpc::ClientContext context;
  v1::SubscribeRequest hello;
  hello.set_network(options_.network);
  hello.set_role(options_.role);
  hello.set_codec(options_.codec);
  {
    absl::MutexLock lock(&mutex_);
    if (stopped_) return absl::CancelledError("stopped");
    context_ = &context;
  }
  std::unique_ptr<Stream> stream = stub_->Subscribe(&context);
  if (stream->Write(hello)) {
    {
      absl::MutexLock lock(&write_mutex_);
      stream_ = stream.get();
    }
    v1::Publication publication;
    while (stream->Read(&publication)) Take(std::move(publication));
    absl::MutexLock lock(&write_mutex_);
    stream_ = nullptr;
  }
  grpc::Status status = stream->Finish();
  absl::MutexLock lock(&mutex_);
  context_ = nullptr;
  connected_ = false;
  return FromGrpc(status);
}

void WeightSubscriber::Take(v1::Publication publication) {
  absl::Status status = options_.check(publication);
  std::shared_ptr<const v1::Publication> taken;
  {
    absl::MutexLock lock(&mutex_);
    connected_ = true;
    if (!status.ok()) {
      ++rejected_;
      spdlog::warn("publication refused: {}", std::string(status.message()));
      return;
    }
    // A learner that was restarted without a checkpoint begins at 1 again: what
    // it sends is the newest there is.
    taken = newest_ =
        std::make_shared<const v1::Publication>(std::move(publication));
  }
  if (options_.on_publication) options_.on_publication(std::move(taken));
}

}  // namespace qfleet
