// A real qfleet-replay of one table, as a child process that a test kills,
// stops and starts again.
//
//   ShardProcess shard(folder, {.table = FaultTable(1000), .data_dir = "d"});
//   shard.Start();
//   ... shard.address() ...
//   shard.Kill();
//   shard.Start();  // with the same data

#ifndef QFLEET_TESTS_FAULT_SHARD_PROCESS_H_
#define QFLEET_TESTS_FAULT_SHARD_PROCESS_H_

#include <signal.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "qfleet/v1/replay.grpc.pb.h"
#include "tests/process.h"

namespace qfleet {

// Printed, so that a failure can be repeated; QFLEET_TEST_SEED sets another.
uint64_t TestSeed();

// Whether it becomes true within a time that only a hang exceeds.
bool Eventually(const std::function<bool()>& condition,
                absl::Duration timeout = absl::Seconds(30));

class ShardProcess {
 public:
  struct Options {
    v1::TableSpec table;
    std::string data_dir;  // Empty: in memory.
    uint32_t number = 0;
    double sync_interval = 5;
    std::vector<std::string> flags;  // More of them.
    std::string listen;              // Empty: a unix socket in `folder`.
    std::vector<std::string> prefix;  // Of its command line: a shell, say.
  };

  // The config, the socket and the log are in `folder`.
  ShardProcess(const std::string& folder, const Options& options);

  // Until it serves, or without waiting for that.
  void Start();
  void Launch();
  // Starts one that is to refuse: its exit code; `output` is what it printed.
  int StartRefused(std::string* output);

  void Kill();    // SIGKILL; until it is gone.
  int Stop();     // SIGTERM; the exit code once it is gone, -1 if it is not.
  void Freeze();  // SIGSTOP; until none of its threads runs.
  void Thaw() { process_->Signal(SIGCONT); }

  Process& process() { return *process_; }
  const std::string& address() const { return address_; }  // Once it serves.
  // What it has said so far.
  std::string Log() const { return process_->Output(); }
  const std::string& data_dir() const { return options_.data_dir; }
  // Of its only table.
  std::string table_dir() const {
    return options_.data_dir + "/" + options_.table.name();
  }

  std::unique_ptr<v1::Replay::Stub> NewStub() const;
  v1::TableInfo Describe() const;
  // A number in /proc/PID/status, "VmRSS" say (in kB).
  uint64_t ProcStatus(absl::string_view name) const;

 private:
  std::vector<std::string> Command() const;

  const Options options_;
  const std::string config_;
  const std::string log_;
  const std::string ready_;
  std::string address_;
  std::unique_ptr<Process> process_;
};

}  // namespace qfleet

#endif  // QFLEET_TESTS_FAULT_SHARD_PROCESS_H_
