// A child process of a test: its output, its end, never left behind.

#ifndef QFLEET_TESTS_PROCESS_H_
#define QFLEET_TESTS_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace qfleet {

class Process {
 public:
  // Runs `command`; stdout and stderr go to the file `log`.
  Process(const std::vector<std::string>& command, const std::string& log);
  ~Process();  // Kills it if it still runs.

  pid_t pid() const { return pid_; }
  void Signal(int number);

  // Waits up to `seconds` for its end: true if it has ended.
  bool WaitFor(double seconds);
  // Waits until `condition` holds, looking every 20 ms: false if the process
  // ended first or `seconds` went by.
  bool WaitUntil(const std::function<bool()>& condition, double seconds);

  // After its end: the exit code, or 128 + the signal.
  int exit_code() const { return exit_code_; }
  std::string Output() const;

 private:
  const std::string log_;
  pid_t pid_ = -1;
  int pidfd_ = -1;
  bool ended_ = false;
  int exit_code_ = -1;
};

// Runs to the end: its exit code (-1: did not end within `seconds`).
int RunToEnd(const std::vector<std::string>& command, const std::string& log,
             double seconds, std::string* output);

// The pids of running processes whose command line holds `text`.
std::vector<pid_t> FindProcesses(const std::string& text);

}  // namespace qfleet

#endif  // QFLEET_TESTS_PROCESS_H_
