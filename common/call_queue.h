// A gRPC completion queue with the one thread that reacts to what it completes.
//
//   class Mine : public CallQueue::Event { void Done(bool ok) override; };
//   CallQueue queue;
//   call->Read(&message, mine.tag());  // of a call on queue.completions()
//
// That thread also polls for the calls of the queue, and so reads what comes
// and reacts to it without waking another. It does so only in a process where
// no other thread polls: gRPC lets those that wait take turns, and then each
// event goes from thread to thread.

#ifndef QFLEET_COMMON_CALL_QUEUE_H_
#define QFLEET_COMMON_CALL_QUEUE_H_

#include <memory>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/completion_queue.h"

namespace qfleet {

// Thread-safe.
class CallQueue {
 public:
  // What an operation's end is told to.
  class Event {
   public:
    virtual ~Event() = default;
    // The operation is over; called once for each, by the queue's thread.
    virtual void Done(bool ok) = 0;
    // What an operation is given.
    void* tag() { return this; }
  };

  CallQueue() : CallQueue(std::make_unique<grpc::CompletionQueue>()) {}
  explicit CallQueue(std::unique_ptr<grpc::CompletionQueue> completions)
      : completions_(std::move(completions)), thread_([this] { Run(); }) {}
  // No operation begins any more; those that have ended are told so first.
  virtual ~CallQueue() {
    completions_->Shutdown();
    thread_.join();
  }
  CallQueue(const CallQueue&) = delete;
  CallQueue& operator=(const CallQueue&) = delete;

  grpc::CompletionQueue* completions() { return completions_.get(); }

 private:
  void Run() {
    void* tag = nullptr;
    bool ok = false;
    while (completions_->Next(&tag, &ok)) static_cast<Event*>(tag)->Done(ok);
  }

  const std::unique_ptr<grpc::CompletionQueue> completions_;
  std::thread thread_;  // Last: it uses what stands above.
};

// Of a server's asynchronous calls. A server that is shut down may still tell
// of a call that began before, and who is told so asks for the next one; so the
// queue lives until all calls have left it. Thread-safe.
class ServerCallQueue : public CallQueue {
 public:
  explicit ServerCallQueue(
      std::unique_ptr<grpc::ServerCompletionQueue> completions)
      : CallQueue(std::move(completions)) {}
  // After the server's shutdown, which ends its calls.
  ~ServerCallQueue() {
    absl::MutexLock lock(&mutex_);
    auto none = [this]()
                    ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return calls_ == 0; };
    mutex_.Await(absl::Condition(&none));
  }

  grpc::ServerCompletionQueue* completions() {
    return static_cast<grpc::ServerCompletionQueue*>(CallQueue::completions());
  }

  // Of a call: when it is first waited for, and when nothing more will come.
  void Enter() {
    absl::MutexLock lock(&mutex_);
    ++calls_;
  }
  void Leave() {
    absl::MutexLock lock(&mutex_);
    --calls_;
  }

 private:
  absl::Mutex mutex_;
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A CallQueue::Event that calls a method of its owner.
//
//   Reaction<Mine> read_{this, &Mine::OnRead};
template <typename Owner>
class Reaction : public CallQueue::Event {
 public:
  using Method = void (Owner::*)(bool ok);
  Reaction(Owner* owner, Method method) : owner_(owner), method_(method) {}
  void Done(bool ok) override { (owner_->*method_)(ok); }

 private:
  Owner* const owner_;
  const Method method_;
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_CALL_QUEUE_H_
