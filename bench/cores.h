// Processors for the two ends of a comparison, a little as if they were two
// machines: the first half for this process, the second for its servers. On few
// cores throughput is else a matter of where the scheduler puts which thread,
// and rounds of the same code are up to five times apart.

#ifndef QFLEET_BENCH_CORES_H_
#define QFLEET_BENCH_CORES_H_

#include <sched.h>

namespace qfleet::bench {

// While there is one, this process keeps to its half, also in threads that
// begin meanwhile. With one processor nothing is split. Thread-compatible.
class SplitCores {
 public:
  SplitCores();
  ~SplitCores();
  SplitCores(const SplitCores&) = delete;
  SplitCores& operator=(const SplitCores&) = delete;

  const cpu_set_t& servers() const { return servers_; }

 private:
  cpu_set_t all_;
  cpu_set_t servers_;
};

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_CORES_H_
