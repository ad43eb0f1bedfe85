// One bidirectional call to a shard that is opened again whenever it breaks.
//
//   class Mine : public PersistentStream<Request, Response>::Handler { ... };
//   Mine mine;
//   CallQueue queue;                                        // one or several
//   PersistentStream<Request, Response> stream(&mine, &queue);  // of these
//   stream.Poke();  // when there is something to send
//
// The queue's thread reads, and writes what the one that calls Poke does not; a
// thread of the stream's sleeps while a connection lasts, and makes the next
// one. A call that fails for good (IsFinal) is not tried again; others are,
// after 50 ms, 100 ms, ... 1 s.

#ifndef QFLEET_REPLAY_CLIENT_PERSISTENT_STREAM_H_
#define QFLEET_REPLAY_CLIENT_PERSISTENT_STREAM_H_

#include <algorithm>
#include <memory>
#include <optional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/call_queue.h"
#include "common/grpc.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/async_stream.h"

namespace qfleet {

// Whether trying again cannot help: the two sides disagree.
inline bool IsFinal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:  // Another kind of server.
      return true;
    case absl::StatusCode::kResourceExhausted:
      // gRPC's words for a message that is too large. Threads or memory may be
      // there the next time.
      return absl::StrContains(status.message(), "larger than max");
    default:
      return false;
  }
}

// Thread-safe.
template <typename Request, typename Response>
class PersistentStream {
 public:
  // For each connection: if it comes about OnOpen and then, at the same time,
  // NextRequest (one call at a time) and OnResponse (likewise); and at last
  // OnClose, always. NextRequest, OnOpen and OnResponse are called by the
  // queue's thread, or by Poke, and may not wait; the rest by the stream's.
  class Handler {
   public:
    virtual ~Handler() = default;
    // What is called, and on which channel.
    virtual const grpc::internal::RpcMethod& method() = 0;
    virtual grpc::Channel& channel() = 0;
    virtual const Request& OpenRequest() = 0;
    // The answer to OpenRequest.
    virtual void OnOpen(Response& response) = 0;
    // The next request to send, which stays valid until the next call; nullptr
    // if there is none. Called after OnOpen, after each request that was sent,
    // after OnResponse, and by Poke.
    virtual const Request* NextRequest() = 0;
    virtual void OnResponse(Response& response) = 0;
    virtual void OnClose(const absl::Status& status) = 0;
  };

  PersistentStream(Handler* handler, CallQueue* queue)
      : handler_(handler), queue_(queue), thread_([this] { Run(); }) {}
  ~PersistentStream() {
    Stop();
    thread_.join();
  }
  PersistentStream(const PersistentStream&) = delete;
  PersistentStream& operator=(const PersistentStream&) = delete;

  // Sends what there is to send, unless the connection is busy with that or
  // away. Not under a mutex that a handler's method takes.
  void Poke() {
    absl::MutexLock lock(&mutex_);
    if (connection_.has_value()) connection_->SendNext();
  }

  // Breaks the connection, after which another one is made. As Poke, not under
  // a mutex that a handler's method takes.
  void Break() {
    absl::MutexLock lock(&mutex_);
    if (connection_.has_value()) connection_->Cancel();
  }

  // Breaks the connection and makes no new one.
  void Stop() {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    if (connection_.has_value()) connection_->Cancel();
  }

 private:
  static constexpr absl::Duration kFirstBackoff = absl::Milliseconds(50);
  static constexpr absl::Duration kLastBackoff = absl::Seconds(1);

  // One call, from its first request to its status.
  class Connection {
   public:
    explicit Connection(PersistentStream* stream)
        : stream_(*stream),
          // Not by the generated stub, which takes and gives messages alone:
          // Request and Response may be the bytes of one.
          call_(grpc::internal::ClientAsyncReaderWriterFactory<
                Request, Response>::Create(&stream_.handler_->channel(),
                                           stream_.queue_->completions(),
                                           stream_.handler_->method(),
                                           &context_, /*start=*/true,
                                           started_.tag())) {}

    void Cancel() { context_.TryCancel(); }

    // Once it was opened, and unless a request is on its way.
    void SendNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_.mutex_) {
      if (!opened_ || broken_ || writing_) return;
      const Request* request = stream_.handler_->NextRequest();
      if (request != nullptr) Write(*request);
    }

    bool opened() const ABSL_SHARED_LOCKS_REQUIRED(stream_.mutex_) {
      return opened_;
    }
    // Nothing happens here any more, and status() is the call's.
    bool over() const ABSL_SHARED_LOCKS_REQUIRED(stream_.mutex_) {
      return finished_ && !writing_;
    }
    absl::Status status() const { return FromGrpc(status_); }

   private:
    void Write(const Request& request)
        ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_.mutex_) {
      writing_ = true;
      call_->Write(request, written_.tag());
    }

    void OnStarted(bool ok) {
      // Which waits until the constructor is through.
      absl::MutexLock lock(&stream_.mutex_);
      if (!ok) {
        Finish();
        return;
      }
      call_->Read(&response_, read_.tag());
      Write(stream_.handler_->OpenRequest());
    }

    void OnRead(bool ok) {
      if (!ok) {
        absl::MutexLock lock(&stream_.mutex_);
        Finish();
        return;
      }
      if (answered_) {
        stream_.handler_->OnResponse(response_);
      } else {
        answered_ = true;
        stream_.handler_->OnOpen(response_);
      }
      {
        absl::MutexLock lock(&stream_.mutex_);
        opened_ = true;
        SendNext();
      }
      call_->Read(&response_, read_.tag());
    }

    void OnWritten(bool ok) {
      absl::MutexLock lock(&stream_.mutex_);
      writing_ = false;
      if (!ok) broken_ = true;  // There will be nothing more to read, either.
      SendNext();
    }

    void Finish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_.mutex_) {
      broken_ = true;
      call_->Finish(&status_, finish_.tag());
    }

    void OnFinished(bool /*ok*/) {
      absl::MutexLock lock(&stream_.mutex_);
      finished_ = true;
      // What the server has not taken by now it never will.
      if (writing_) context_.TryCancel();
    }

    PersistentStream& stream_;
    Reaction<Connection> started_{this, &Connection::OnStarted};
    Reaction<Connection> read_{this, &Connection::OnRead};
    Reaction<Connection> written_{this, &Connection::OnWritten};
    Reaction<Connection> finish_{this, &Connection::OnFinished};
    grpc::ClientContext context_;
    const std::unique_ptr<grpc::ClientAsyncReaderWriter<Request, Response>>
        call_;
    Response response_;
    grpc::Status status_;
    bool answered_ = false;  // OpenRequest; of the queue's thread.
    bool opened_ ABSL_GUARDED_BY(stream_.mutex_) = false;
    bool broken_ ABSL_GUARDED_BY(stream_.mutex_) = false;
    bool writing_ ABSL_GUARDED_BY(stream_.mutex_) = false;
    bool finished_ ABSL_GUARDED_BY(stream_.mutex_) = false;
  };

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
    absl::MutexLock lock(&mutex_);
    if (stopped_) return absl::CancelledError("stopped");
    connection_.emplace(this);
    auto over = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return connection_->over();
    };
    mutex_.Await(absl::Condition(&over));
    opened = connection_->opened();
    const absl::Status status = connection_->status();
    connection_.reset();
    if (status.ok()) return absl::UnavailableError("the shard hung up");
    return status;
  }

  bool stopped() const {
    absl::MutexLock lock(&mutex_);
    return stopped_;
  }

  Handler* const handler_;
  CallQueue* const queue_;
  mutable absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Connection> connection_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // Last: it uses what stands above.
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_PERSISTENT_STREAM_H_
