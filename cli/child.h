// A child process of the qfleet command.

#ifndef QFLEET_CLI_CHILD_H_
#define QFLEET_CLI_CHILD_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace qfleet {

struct ChildSpec {
  std::string name;                  // "actor-1"
  std::vector<std::string> command;  // The first is a path.
  // Set in the child's environment, over what is inherited.
  std::vector<std::pair<std::string, std::string>> environment;
  std::string log;  // Standard output and error are appended to this file.
};

// How a process ended.
struct ChildExit {
  int code = 0;    // If it exited.
  int signal = 0;  // If it was killed, else 0.

  // "exited 1" or "was killed by signal 9".
  std::string Text() const;
};

// A process in a process group of its own (a Ctrl-C in the terminal reaches
// only its parent), with /dev/null as standard input, that gets SIGTERM when
// the thread that started it ends. Thread-compatible.
class Child {
 public:
  // An error if the program cannot be run, too.
  static absl::StatusOr<Child> Start(const ChildSpec& spec);

  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Child& operator=(Child&&) = delete;
  // Kills the process if it still runs.
  ~Child();

  pid_t pid() const { return pid_; }

  // How it ended, once; nothing while it runs. What is left of its group is
  // killed then.
  std::optional<ChildExit> Poll();

  // To the process and its own children.
  void Signal(int number);

 private:
  explicit Child(pid_t pid) : pid_(pid) {}

  pid_t pid_;  // -1 once it has ended.
};

// The last line of a log that is not empty; "" if there is none.
std::string LastLine(const std::string& path);

}  // namespace qfleet

#endif  // QFLEET_CLI_CHILD_H_
