#include "bench/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/files.h"

namespace qfleet::bench {
namespace {

constexpr unsigned long kPersonality = 0xffffffff;  // Asks, changes nothing.

// For what this process executes from here on.
bool SetFixedAddresses(int personality_now) {
  return personality_now >= 0 &&
         personality(personality_now | ADDR_NO_RANDOMIZE) >= 0;
}

}  // namespace

bool FixedAddressesAllowed() {
  const int now = personality(kPersonality);
  if (!SetFixedAddresses(now)) return false;
  personality(now);
  return true;
}

ChildProcess::ChildProcess(const std::vector<std::string>& command,
                           std::string log, const cpu_set_t* cores,
                           bool fixed_addresses)
    : log_(std::move(log)) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  pid_ = fork();
  if (pid_ != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (cores != nullptr) sched_setaffinity(0, sizeof(*cores), cores);
  const int out =
      open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  dup2(out, STDOUT_FILENO);
  dup2(out, STDERR_FILENO);
  if (fixed_addresses) SetFixedAddresses(personality(kPersonality));
  execv(arguments[0], arguments.data());
  _exit(127);
}

ChildProcess::~ChildProcess() { Kill(); }

bool ChildProcess::Ended() {
  int status = 0;
  if (!ended_ && waitpid(pid_, &status, WNOHANG) == pid_) {
    ended_ = true;
    exit_code_ =
        WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return ended_;
}

void ChildProcess::Kill() {
  if (Ended() || pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  ended_ = true;
}

absl::Status ChildProcess::AwaitReady(const std::string& ready_file,
                                      absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  while (!std::filesystem::exists(ready_file)) {
    if (Ended()) return ErrorWithLog(absl::StrCat("ended with ", exit_code_));
    if (absl::Now() > deadline) return ErrorWithLog("was not ready in time");
    absl::SleepFor(absl::Milliseconds(1));
  }
  return absl::OkStatus();
}

absl::Status ChildProcess::AwaitEnd(absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  while (!Ended()) {
    if (absl::Now() > deadline) return ErrorWithLog("did not end in time");
    absl::SleepFor(absl::Milliseconds(10));
  }
  if (exit_code_ == 0) return absl::OkStatus();
  return ErrorWithLog(absl::StrCat("ended with ", exit_code_));
}

absl::Status ChildProcess::ErrorWithLog(const std::string& what) const {
  absl::StatusOr<std::string> log = ReadFile(log_);
  constexpr size_t kTail = 500;
  std::string tail = log.ok() ? *log : "";
  if (tail.size() > kTail) tail.erase(0, tail.size() - kTail);
  return absl::InternalError(absl::StrCat("a server ", what, ": ", tail));
}

double ChildProcess::ResidentBytes() const {
  std::ifstream file(absl::StrCat("/proc/", pid_, "/status"));
  std::string word;
  double kibibytes = 0;
  while (file >> word) {
    if (word == "VmRSS:") file >> kibibytes;
  }
  return kibibytes * 1024;
}

double ChildProcess::CpuSeconds() const {
  clockid_t clock;
  timespec time = {};
  if (clock_getcpuclockid(pid_, &clock) != 0 ||
      clock_gettime(clock, &time) != 0) {
    return 0;
  }
  return absl::ToDoubleSeconds(absl::DurationFromTimespec(time));
}

double OwnCpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) +
           static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace qfleet::bench
