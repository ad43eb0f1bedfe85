// SIGINT and SIGTERM as a notification.
//
//   int main() {
//     ShutdownSignal shutdown;  // first of all, before any thread starts
//     ...
//     shutdown.Wait();
//
// A SIGINT while shutting down ends the process at once (exit 130).

#ifndef QFLEET_COMMON_SHUTDOWN_H_
#define QFLEET_COMMON_SHUTDOWN_H_

#include <atomic>
#include <functional>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace qfleet {

// At most one in a process; blocks the two signals in the calling thread and
// all threads that it starts later, and takes them in a thread of its own; what
// reaches a thread that was there before is passed on to it.
// Also ignores SIGPIPE. Thread-safe.
class ShutdownSignal {
 public:
  ShutdownSignal();
  ~ShutdownSignal();
  ShutdownSignal(const ShutdownSignal&) = delete;
  ShutdownSignal& operator=(const ShutdownSignal&) = delete;

  bool requested() const { return requested_.load(std::memory_order_acquire); }

  // As if a signal had come.
  void Request();

  // Until requested.
  void Wait();
  // Until requested or the time is over; returns requested().
  bool WaitFor(absl::Duration timeout);

 private:
  std::atomic<bool> requested_{false};
  std::atomic<bool> ending_{false};
  absl::Mutex mutex_;
  std::thread thread_;
};

// Unblocks the signals again: for a child between fork and exec.
void RestoreSignalsInChild();

}  // namespace qfleet

#endif  // QFLEET_COMMON_SHUTDOWN_H_
