// A gRPC completion queue with the one thread that reacts to what it completes.
//
//   class Mine : public CallQueue::Event { void Done(bool ok) override; };
//   CallQueue queue;
//   call->Read(&message, mine.tag());  // of a call on queue.completions()

#ifndef QFLEET_REPLAY_CLIENT_CALL_QUEUE_H_
#define QFLEET_REPLAY_CLIENT_CALL_QUEUE_H_

#include <thread>

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

  CallQueue() : thread_([this] { Run(); }) {}
  // No operation is under way any more.
  ~CallQueue() {
    completions_.Shutdown();
    thread_.join();
  }
  CallQueue(const CallQueue&) = delete;
  CallQueue& operator=(const CallQueue&) = delete;

  grpc::CompletionQueue* completions() { return &completions_; }

 private:
  void Run() {
    void* tag = nullptr;
    bool ok = false;
    while (completions_.Next(&tag, &ok)) static_cast<Event*>(tag)->Done(ok);
  }

  grpc::CompletionQueue completions_;
  std::thread thread_;  // Last: it uses what stands above.
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_CALL_QUEUE_H_
