#include "common/shutdown.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

namespace qfleet {
namespace {

sigset_t ShutdownSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR2);  // Ends the thread itself.
  return set;
}

}  // namespace

ShutdownSignal::ShutdownSignal() {
  signal(SIGPIPE, SIG_IGN);
  sigset_t set = ShutdownSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this, set] {
    for (;;) {
      int number = 0;
      if (sigwait(&set, &number) != 0) continue;
      if (ending_.load()) return;
      if (number == SIGUSR2) continue;
      // A SIGTERM may come twice by itself: the kernel sends the parent-death
      // signal once for each of the parent's threads that dies.
      if (requested() && number == SIGINT) _exit(130);
      Request();
    }
  });
}

ShutdownSignal::~ShutdownSignal() {
  ending_.store(true);
  pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
}

void ShutdownSignal::Request() {
  absl::MutexLock lock(&mutex_);
  requested_.store(true, std::memory_order_release);
}

void ShutdownSignal::Wait() { WaitFor(absl::InfiniteDuration()); }

bool ShutdownSignal::WaitFor(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(
      absl::Condition(
          +[](std::atomic<bool>* flag) { return flag->load(); }, &requested_),
      timeout);
  return requested();
}

void RestoreSignalsInChild() {
  sigset_t set = ShutdownSignals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_DFL);
}

}  // namespace qfleet
