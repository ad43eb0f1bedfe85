#include "common/shutdown.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>

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

// The thread that takes the signals; 0: none.
std::atomic<pid_t> signal_thread{0};

// Runs in threads that were started before the signals were blocked: a library
// may start some when it is loaded, OpenBLAS does, and the kernel may choose
// one of these, where the default action would end the process.
void PassOn(int number) {
  const int saved = errno;
  tgkill(getpid(), signal_thread.load(), number);
  errno = saved;
}

void SetActions(void (*action)(int)) {
  struct sigaction settings = {};
  settings.sa_handler = action;
  settings.sa_flags = SA_RESTART;
  for (int number : {SIGINT, SIGTERM}) sigaction(number, &settings, nullptr);
}

}  // namespace

ShutdownSignal::ShutdownSignal() {
  signal(SIGPIPE, SIG_IGN);
  sigset_t set = ShutdownSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this, set] {
    signal_thread.store(gettid());
    signal_thread.notify_one();
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
  signal_thread.wait(0);
  SetActions(PassOn);
}

ShutdownSignal::~ShutdownSignal() {
  ending_.store(true);
  pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
  // A signal that comes again while the process ends does not change how.
  signal_thread.store(0);
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
  SetActions(SIG_DFL);
  sigset_t set = ShutdownSignals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_DFL);
}

}  // namespace qfleet
