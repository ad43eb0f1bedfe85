// Keeps the processes of a local cluster running, and ends them in order.
//
//   Supervisor supervisor(options);
//   QFLEET_RETURN_IF_ERROR(supervisor.Start({.child = ..., ...}));
//   std::optional<RunEnd> end;
//   while (!(end = supervisor.Poll())) shutdown.WaitFor(...);
//   supervisor.Stop();

#ifndef QFLEET_CLI_SUPERVISOR_H_
#define QFLEET_CLI_SUPERVISOR_H_

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cli/child.h"

namespace qfleet {

struct SupervisedProcess {
  ChildSpec child;
  // Its end is the run's end; any other process is started again when it ends.
  bool ends_run = false;
  // Of one that ends the run: what is added to its command when it is started
  // again after a crash, which is any end but an exit with 0, 2, 3 or 4. Empty:
  // a crash is the run's end, too.
  std::vector<std::string> resume_flags;
  // Of one that ends the run: a normal end (0, 3 or 4) does not; it goes with
  // another process's end, which does.
  bool follows = false;
  // Stop() ends the processes with the lowest number first, and goes on to
  // the next when they are gone.
  int stop_order = 0;
  // From SIGTERM to SIGKILL.
  absl::Duration grace = absl::Seconds(5);
};

// Why and how the run ended.
struct RunEnd {
  int exit_code = 0;
  std::string error;  // One line. Empty: the learner ended with 0 or 3.
};

// Thread-compatible; the thread that starts the processes must outlive them.
class Supervisor {
 public:
  struct Options {
    absl::Duration restart_delay = absl::Milliseconds(500);
    // A process that ends once more within the window ends the run.
    int max_restarts = 5;
    absl::Duration restart_window = absl::Seconds(60);
    // Told of each restart: "actor-1 was killed by signal 9; restarting".
    std::function<void(const std::string&)> notice = [](const std::string&) {};
    std::function<absl::Time()> now = [] { return absl::Now(); };
  };

  explicit Supervisor(Options options) : options_(std::move(options)) {}
  // Stops what still runs.
  ~Supervisor() { Stop(); }

  absl::Status Start(SupervisedProcess process);

  // Looks at all processes and restarts those that ended; does not wait. Gives
  // the run's end once there is one.
  std::optional<RunEnd> Poll();

  // SIGTERM in the order of stop_order, SIGKILL to what stays; returns when
  // all are gone. Nothing is restarted any more.
  void Stop();

 private:
  struct Slot {
    SupervisedProcess process;
    std::unique_ptr<Child> child;  // Null between an end and a restart.
    absl::Time restart_at;
    std::deque<absl::Time> restarts;  // Those within the window.
  };

  std::optional<RunEnd> Ended(Slot& slot, const ChildExit& exit);
  std::optional<RunEnd> PlanRestart(Slot& slot, const ChildExit& exit);
  std::optional<RunEnd> Restart(Slot& slot);
  void StopGroup(const std::vector<Slot*>& group);

  const Options options_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace qfleet

#endif  // QFLEET_CLI_SUPERVISOR_H_
