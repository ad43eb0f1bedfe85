#include "tests/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace qfleet {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

Process::Process(const std::vector<std::string>& command,
                 const std::string& log)
    : log_(log) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    const int out = open(log_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    const int in = open("/dev/null", O_RDONLY);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
}

Process::~Process() {
  if (!ended_) {
    Signal(SIGKILL);
    WaitFor(10);
  }
  close(pidfd_);
}

void Process::Signal(int number) {
  if (!ended_) kill(pid_, number);
}

bool Process::WaitFor(double seconds) {
  if (ended_) return true;
  pollfd ready = {.fd = pidfd_, .events = POLLIN, .revents = 0};
  if (poll(&ready, 1, static_cast<int>(seconds * 1000)) <= 0) return false;
  int status = 0;
  waitpid(pid_, &status, 0);
  ended_ = true;
  exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return true;
}

bool Process::WaitUntil(const std::function<bool()>& condition,
                        double seconds) {
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    if (WaitFor(0.02)) return condition();
  }
  return true;
}

std::string Process::Output() const { return ReadAll(log_); }

int RunToEnd(const std::vector<std::string>& command, const std::string& log,
             double seconds, std::string* output) {
  Process process(command, log);
  const bool ended = process.WaitFor(seconds);
  *output = process.Output();
  return ended ? process.exit_code() : -1;
}

std::vector<pid_t> FindProcesses(const std::string& text) {
  std::vector<pid_t> found;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc", error)) {
    const int pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0 || pid == getpid()) continue;
    std::string line = ReadAll(entry.path().string() + "/cmdline");
    std::replace(line.begin(), line.end(), '\0', ' ');
    if (line.find(text) != std::string::npos) found.push_back(pid);
  }
  return found;
}

}  // namespace qfleet
