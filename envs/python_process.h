// A Python process of ours that serves one connection: started with one end of
// a pair of sockets (nothing in the file system, nobody else can connect), gone
// when this object or its thread is.

#ifndef QFLEET_ENVS_PYTHON_PROCESS_H_
#define QFLEET_ENVS_PYTHON_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "envs/framed_socket.h"

namespace qfleet {

// The interpreter: `configured` if not empty, else $QFLEET_PYTHON, else
// .venv-gymnasium/bin/python of a folder above this program, else "python3".
std::string FindPython(const std::string& configured);

// Thread-compatible. To be used by the thread that started it.
class PythonProcess {
 public:
  // Runs `python -m module --fd=N arguments...` in a process group of its own,
  // with the package qfleet on its path. Its output goes to our stderr, or, if
  // it is `quiet`, only its last line is kept. INVALID_ARGUMENT if it cannot be
  // run.
  static absl::StatusOr<std::unique_ptr<PythonProcess>> Start(
      const std::string& python, const std::string& module,
      const std::vector<std::string>& arguments, bool quiet);
  // Has it ended, without waiting for it.
  ~PythonProcess();
  PythonProcess(const PythonProcess&) = delete;
  PythonProcess& operator=(const PythonProcess&) = delete;

  // Our end of the connection, once.
  FramedSocket TakeSocket() { return std::move(socket_); }

  // Waits so long for its end, then kills it and what it started. "exited 1",
  // "was killed by signal 9", with its last line if it was quiet.
  std::string End(absl::Duration grace);

 private:
  PythonProcess(FramedSocket socket, pid_t pid, int output)
      : socket_(std::move(socket)), pid_(pid), output_(output) {}

  std::string LastLine() const;

  FramedSocket socket_;
  pid_t pid_;
  const int output_;  // A file in memory; -1: not quiet.
  std::string end_;   // Once it has ended.
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_PYTHON_PROCESS_H_
