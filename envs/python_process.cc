#include "envs/python_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

namespace fs = std::filesystem;

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

// The folder of this program.
fs::path ProgramFolder() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error).parent_path();
}

// "NAME=VALUE" strings for execvpe.
std::vector<std::string> EnvironmentVariables() {
  std::string path = (ProgramFolder().parent_path() / "python").string();
  std::vector<std::string> result = {"PYTHONUNBUFFERED=1"};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    absl::string_view variable = *entry;
    if (absl::ConsumePrefix(&variable, "PYTHONPATH=")) {
      absl::StrAppend(&path, ":", variable);
    } else {
      result.emplace_back(variable);
    }
  }
  result.push_back(absl::StrCat("PYTHONPATH=", path));
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
[[noreturn]] void RunInChild(pid_t parent, int input, int output, int socket,
                             int report, char* const* arguments,
                             char* const* environment) {
  setpgid(0, 0);  // A Ctrl-C in the terminal is its parent's business.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // It died before the line above.
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  // Standard output too: ours may be what somebody reads.
  if (dup2(input, STDIN_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0 &&
      dup2(output, STDOUT_FILENO) >= 0 && fcntl(socket, F_SETFD, 0) == 0) {
    execvpe(arguments[0], arguments, environment);
  }
  const int error = errno;
  [[maybe_unused]] ssize_t written = write(report, &error, sizeof(error));
  _exit(127);
}

}  // namespace

std::string FindPython(const std::string& configured) {
  if (!configured.empty()) return configured;
  const char* named = getenv("QFLEET_PYTHON");
  if (named != nullptr && *named != '\0') return named;
  for (fs::path folder = ProgramFolder(); folder.has_relative_path();
       folder = folder.parent_path()) {
    const fs::path python = folder / ".venv-gymnasium/bin/python";
    if (access(python.c_str(), X_OK) == 0) return python.string();
  }
  return "python3";
}

absl::StatusOr<std::unique_ptr<PythonProcess>> PythonProcess::Start(
    const std::string& python, const std::string& module,
    const std::vector<std::string>& arguments, bool quiet) {
  QFLEET_ASSIGN_OR_RETURN(auto pair, FramedSocket::Pair());
  Descriptor theirs(pair.second);
  Descriptor input(open("/dev/null", O_RDONLY | O_CLOEXEC));
  Descriptor output(quiet ? memfd_create("output", MFD_CLOEXEC) : -1);
  int ends[2];
  if (input.fd < 0 || (quiet && output.fd < 0) || pipe2(ends, O_CLOEXEC) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot start ", python));
  }
  Descriptor from_child(ends[0]);
  Descriptor report(ends[1]);
  std::vector<std::string> command = {python, "-m", module,
                                      absl::StrCat("--fd=", theirs.fd)};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables = EnvironmentVariables();
  std::vector<char*> argument_pointers = Pointers(command);
  std::vector<char*> variable_pointers = Pointers(variables);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot start ", python));
  }
  if (pid == 0) {
    RunInChild(parent, input.fd, quiet ? output.fd : STDERR_FILENO, theirs.fd,
               report.fd, argument_pointers.data(), variable_pointers.data());
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
    return absl::InvalidArgumentError(
        absl::StrCat("cannot run ", python, ": ", std::strerror(error)));
  }
  return std::unique_ptr<PythonProcess>(new PythonProcess(
      std::move(pair.first), pid, std::exchange(output.fd, -1)));
}

PythonProcess::~PythonProcess() {
  End(absl::ZeroDuration());
  if (output_ >= 0) close(output_);
}

std::string PythonProcess::End(absl::Duration grace) {
  if (pid_ < 0) return end_;
  const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  if (descriptor >= 0) {
    pollfd ended = {.fd = descriptor, .events = POLLIN, .revents = 0};
    poll(&ended, 1, static_cast<int>(absl::ToInt64Milliseconds(grace)));
    close(descriptor);
  }
  kill(-pid_, SIGKILL);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  end_ = WIFSIGNALED(status)
             ? absl::StrCat("was killed by signal ", WTERMSIG(status))
             : absl::StrCat("exited ", WEXITSTATUS(status));
  const std::string line = LastLine();
  if (!line.empty()) absl::StrAppend(&end_, ": ", line);
  return end_;
}

std::string PythonProcess::LastLine() const {
  constexpr off_t kTail = 4096;
  struct stat file = {};
  if (output_ < 0 || fstat(output_, &file) != 0) return "";
  std::string tail(kTail, '\0');
  const ssize_t size = pread(output_, tail.data(), tail.size(),
                             std::max<off_t>(0, file.st_size - kTail));
  tail.resize(std::max<ssize_t>(0, size));
  const std::vector<std::string> lines =
      absl::StrSplit(tail, '\n', absl::SkipWhitespace());
  return lines.empty() ? "" : lines.back();
}

}  // namespace qfleet
