#include "bench/subscribers.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/weights_server.h"
#include "common/grpc.h"
#include "grpcpp/client_context.h"
#include "grpcpp/generic/generic_stub.h"

namespace qfleet::bench {

class Subscribers::One
    : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  One(Subscribers& all, const std::string& address, v1::WeightCodec codec)
      : all_(all), stub_(MakeChannel(address)) {
    v1::SubscribeRequest hello;
    hello.set_network(kBenchNetwork);
    hello.set_role("actor");
    hello.set_codec(codec);
    to_send_ = SerializeMessage(hello);
    context_.set_wait_for_ready(true);
    stub_.PrepareBidiStreamingCall(
        &context_, "/qfleet.v1.Weights/Subscribe",
        grpc::StubOptions("/qfleet.v1.Weights/Subscribe"), this);
    AddHold();  // For Report.
    StartWrite(&to_send_);
    StartRead(&received_);
    StartCall();
  }

  void OnWriteDone(bool) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    received_.Clear();
    all_.Count();
    StartRead(&received_);
  }

  void OnDone(const grpc::Status& status) override {
    all_.CountEnd(status.error_message());
  }

  void Report() {
    {
      absl::MutexLock lock(&mutex_);
      if (writing_) return;
      writing_ = true;
    }
    v1::SubscribeRequest progress;
    progress.set_env_steps(++reports_);
    progress.set_policy_version(1);
    progress.set_policy_age_seconds(0.5);
    to_send_ = SerializeMessage(progress);
    StartWrite(&to_send_);
  }

  void End() {
    context_.TryCancel();
    RemoveHold();
  }

 private:
  Subscribers& all_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::ByteBuffer to_send_;
  grpc::ByteBuffer received_;
  uint64_t reports_ = 0;
  absl::Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = true;
};

Subscribers::Subscribers(const std::string& address, int count,
                         v1::WeightCodec codec)
    : count_(count) {
  for (int i = 0; i < count; ++i) {
    all_.push_back(std::make_unique<One>(*this, address, codec));
  }
}

Subscribers::~Subscribers() {
  for (const auto& one : all_) one->End();
  const auto ended = [this] { return AllEnded(); };
  absl::MutexLock lock(&mutex_, absl::Condition(&ended));
}

bool Subscribers::AllEnded() const {
  mutex_.AssertReaderHeld();
  return ended_ == count_;
}

bool Subscribers::Received(uint64_t publications) const {
  mutex_.AssertReaderHeld();
  return ended_ > 0 || received_ >= publications * count_;
}

absl::Status Subscribers::AwaitEach(uint64_t publications,
                                    absl::Duration patience) {
  const auto received = [&] { return Received(publications); };
  absl::MutexLock lock(&mutex_);
  if (!mutex_.AwaitWithTimeout(absl::Condition(&received), patience)) {
    return absl::DeadlineExceededError(absl::StrCat(
        "subscribers have ", received_, " publications of ",
        publications * count_, " after ", absl::FormatDuration(patience)));
  }
  if (ended_ == 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("a subscriber ended: ", error_));
}

void Subscribers::Report() {
  for (const auto& one : all_) one->Report();
}

void Subscribers::Count() {
  absl::MutexLock lock(&mutex_);
  ++received_;
}

void Subscribers::CountEnd(const std::string& error) {
  absl::MutexLock lock(&mutex_);
  if (ended_++ == 0) error_ = error;
}

}  // namespace qfleet::bench
