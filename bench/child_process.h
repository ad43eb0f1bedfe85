// A server that a benchmark measures: always a process of its own, gone when
// the benchmark is, with the CPU time that it has used.

#ifndef QFLEET_BENCH_CHILD_PROCESS_H_
#define QFLEET_BENCH_CHILD_PROCESS_H_

#include <sched.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace qfleet::bench {

// Thread-compatible.
class ChildProcess {
 public:
  // Runs `command`, on `cores` if they are given, with `fixed_addresses` at
  // those that all processes of the program have; what it prints goes to the
  // file `log`.
  ChildProcess(const std::vector<std::string>& command, std::string log,
               const cpu_set_t* cores = nullptr, bool fixed_addresses = false);
  // SIGKILL, if it still runs.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // Until it has written `ready_file`, looking every millisecond. An error
  // holds the end of its log.
  absl::Status AwaitReady(const std::string& ready_file,
                          absl::Duration patience);
  // Until it has ended: OK if with exit code 0.
  absl::Status AwaitEnd(absl::Duration patience);

  void Kill();

  // User and system time of all its threads so far.
  double CpuSeconds() const;
  // Of it now (VmRSS).
  double ResidentBytes() const;

 private:
  bool Ended();
  absl::Status ErrorWithLog(const std::string& what) const;

  const std::string log_;
  pid_t pid_ = -1;
  bool ended_ = false;
  int exit_code_ = -1;
};

// The same of this process.
double OwnCpuSeconds();

// Whether a process can be started with fixed addresses: some containers do not
// let it.
bool FixedAddressesAllowed();

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_CHILD_PROCESS_H_
