#include "cli/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/shutdown.h"

namespace qfleet {
namespace {

// "NAME=VALUE" strings for execve.
std::vector<std::string> EnvironmentWith(
    const std::vector<std::pair<std::string, std::string>>& overrides) {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::pair<std::string, std::string> parts =
        absl::StrSplit(*entry, absl::MaxSplits('=', 1));
    variables[parts.first] = parts.second;
  }
  for (const auto& [name, value] : overrides) variables[name] = value;
  std::vector<std::string> result;
  for (const auto& [name, value] : variables) {
    result.push_back(absl::StrCat(name, "=", value));
  }
  return result;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Between fork and exec: only what is safe in a signal handler. Does not
// return; tells a failure's errno through `report`.
[[noreturn]] void RunInChild(pid_t parent, int input, int log, int report,
                             char* const* arguments, char* const* environment) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);  // It died before the line above.
  RestoreSignalsInChild();
  if (dup2(input, STDIN_FILENO) >= 0 && dup2(log, STDOUT_FILENO) >= 0 &&
      dup2(log, STDERR_FILENO) >= 0) {
    execve(arguments[0], arguments, environment);
  }
  const int error = errno;
  [[maybe_unused]] ssize_t written = write(report, &error, sizeof(error));
  _exit(127);
}

// Closes a file descriptor at the end of its scope.
struct Descriptor {
  explicit Descriptor(int number) : fd(number) {}
  ~Descriptor() { Close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  void Close() {
    if (fd >= 0) close(std::exchange(fd, -1));
  }
  int fd;
};

}  // namespace

std::string ChildExit::Text() const {
  return signal != 0 ? absl::StrCat("was killed by signal ", signal)
                     : absl::StrCat("exited ", code);
}

absl::StatusOr<Child> Child::Start(const ChildSpec& spec) {
  Descriptor log(
      open(spec.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (log.fd < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", spec.log));
  }
  Descriptor input(open("/dev/null", O_RDONLY | O_CLOEXEC));
  int ends[2];
  if (input.fd < 0 || pipe2(ends, O_CLOEXEC) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot start ", spec.name));
  }
  Descriptor from_child(ends[0]);
  Descriptor report(ends[1]);
  std::vector<std::string> command = spec.command;
  std::vector<std::string> variables = EnvironmentWith(spec.environment);
  std::vector<char*> arguments = Pointers(command);
  std::vector<char*> environment = Pointers(variables);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot start ", spec.name));
  }
  if (pid == 0) {
    RunInChild(parent, input.fd, log.fd, report.fd, arguments.data(),
               environment.data());
  }
  // A successful exec closes the pipe without a word.
  report.Close();
  int error = 0;
  ssize_t size = 0;
  do {
    size = read(from_child.fd, &error, sizeof(error));
  } while (size < 0 && errno == EINTR);
  if (size == sizeof(error)) {
    waitpid(pid, nullptr, 0);
    return absl::ErrnoToStatus(error,
                               absl::StrCat("cannot run ", spec.command[0]));
  }
  return Child(pid);
}

Child::~Child() {
  if (pid_ < 0) return;
  Signal(SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::optional<ChildExit> Child::Poll() {
  siginfo_t info = {};
  if (pid_ < 0 ||
      waitid(P_PID, pid_, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid == 0) {
    return std::nullopt;
  }
  // Its own children go with it, while its number is surely not reused.
  Signal(SIGKILL);
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  ChildExit exit;
  if (WIFSIGNALED(status)) {
    exit.signal = WTERMSIG(status);
  } else {
    exit.code = WEXITSTATUS(status);
  }
  return exit;
}

void Child::Signal(int number) {
  if (pid_ > 0) kill(-pid_, number);
}

std::string LastLine(const std::string& path) {
  constexpr std::streamoff kTail = 8192;  // Longer lines lose their start.
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "";
  const std::streamoff size = file.tellg();
  file.seekg(std::max<std::streamoff>(0, size - kTail));
  std::string last;
  for (std::string line; std::getline(file, line);) {
    absl::StripAsciiWhitespace(&line);
    if (!line.empty()) last = line;
  }
  return last;
}

}  // namespace qfleet
