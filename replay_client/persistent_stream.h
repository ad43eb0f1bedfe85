// One bidirectional call to a shard that is opened again whenever it breaks.
//
//   class Mine : public PersistentStream<Request, Response>::Handler { ... };
//   Mine mine;
//   PersistentStream<Request, Response> stream(&mine);  // goes on by itself
//
// Two threads a connection: one writes what Handler::NextRequest gives, one
// reads. A call that fails for good (IsFinal) is not tried again; others are,
// after 50 ms, 100 ms, ... 1 s.

#ifndef QFLEET_REPLAY_CLIENT_PERSISTENT_STREAM_H_
#define QFLEET_REPLAY_CLIENT_PERSISTENT_STREAM_H_

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/grpc.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/sync_stream.h"

namespace qfleet {

// Whether trying again cannot help: the two sides disagree.
inline bool IsFinal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:      // Another kind of server.
    case absl::StatusCode::kResourceExhausted:  // A message is too large.
      return true;
    default:
      return false;
  }
}

// Thread-safe.
template <typename Request, typename Response>
class PersistentStream {
 public:
  using Call = grpc::ClientReaderWriter<Request, Response>;

  // For each connection: if it comes about OnOpen and then, at the same time,
  // NextRequest (one thread) and OnResponse (another); OnBroken once no
  // response will come any more; and at last OnClose, always.
  class Handler {
   public:
    virtual ~Handler() = default;
    // What is called, and on which channel.
    virtual const grpc::internal::RpcMethod& method() = 0;
    virtual grpc::Channel& channel() = 0;
    virtual const Request& OpenRequest() = 0;
    // The answer to OpenRequest.
    virtual void OnOpen(Response& response) = 0;
    // Waits for the next request to send, which stays valid until the next
    // call; nullptr once OnBroken was called.
    virtual const Request* NextRequest() = 0;
    virtual void OnResponse(Response& response) = 0;
    virtual void OnBroken() = 0;
    virtual void OnClose(const absl::Status& status) = 0;
  };

  explicit PersistentStream(Handler* handler)
      : handler_(handler), thread_([this] { Run(); }) {}
  ~PersistentStream() {
    Stop();
    thread_.join();
  }
  PersistentStream(const PersistentStream&) = delete;
  PersistentStream& operator=(const PersistentStream&) = delete;

  // Breaks the connection, after which another one is made.
  void Break() {
    absl::MutexLock lock(&mutex_);
    if (context_ != nullptr) context_->TryCancel();
  }

  // Breaks the connection and makes no new one.
  void Stop() {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }

 private:
  static constexpr absl::Duration kFirstBackoff = absl::Milliseconds(50);
  static constexpr absl::Duration kLastBackoff = absl::Seconds(1);

  void Run() {
    absl::Duration backoff = kFirstBackoff;
    for (;;) {
      bool opened = false;
      absl::Status status = RunOnce(opened);
      handler_->OnClose(status);
      if (IsFinal(status)) return;
      if (opened) backoff = kFirstBackoff;
      AwaitReconnect(handler_->channel(), backoff,
                     [this] { return stopped(); });
      if (stopped()) return;
      backoff = std::min(2 * backoff, kLastBackoff);
    }
  }

  absl::Status RunOnce(bool& opened) {
    grpc::ClientContext context;
    if (!SetContext(&context)) return absl::CancelledError("stopped");
    // Not by the generated stub, which takes and gives messages alone: Request
    // and Response may be the bytes of one.
    const std::unique_ptr<Call> call(
        grpc::internal::ClientReaderWriterFactory<Request, Response>::Create(
            &handler_->channel(), handler_->method(), &context));
    Response response;
    if (call->Write(handler_->OpenRequest()) && call->Read(&response)) {
      opened = true;
      handler_->OnOpen(response);
      Exchange(*call);
    }
    absl::Status status = FromGrpc(call->Finish());
    SetContext(nullptr);
    if (status.ok()) return absl::UnavailableError("the shard hung up");
    return status;
  }

  void Exchange(Call& call) {
    std::thread reader([this, &call] {
      Response response;
      while (call.Read(&response)) handler_->OnResponse(response);
      handler_->OnBroken();
    });
    while (const Request* request = handler_->NextRequest()) {
      if (!call.Write(*request)) break;  // Then the reader ends too.
    }
    reader.join();
  }

  bool stopped() const {
    absl::MutexLock lock(&mutex_);
    return stopped_;
  }

  // False if stopped.
  bool SetContext(grpc::ClientContext* context) {
    absl::MutexLock lock(&mutex_);
    // Not kept once stopped: the caller gives it up, and Stop may come again.
    context_ = stopped_ ? nullptr : context;
    return !stopped_;
  }

  Handler* const handler_;
  mutable absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread thread_;  // Last: it uses what stands above.
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_PERSISTENT_STREAM_H_
