#include "bench/cores.h"

#include <filesystem>

#include "absl/strings/numbers.h"

namespace qfleet::bench {
namespace {

void MoveAllThreads(const cpu_set_t& cores) {
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/self/task")) {
    int thread = 0;
    if (absl::SimpleAtoi(entry.path().filename().string(), &thread)) {
      // One that has just ended has no need of it.
      (void)sched_setaffinity(thread, sizeof(cores), &cores);
    }
  }
}

}  // namespace

SplitCores::SplitCores() {
  sched_getaffinity(0, sizeof(all_), &all_);
  servers_ = all_;
  const int count = CPU_COUNT(&all_);
  if (count < 2) return;
  cpu_set_t own;
  CPU_ZERO(&own);
  for (int cpu = 0; CPU_COUNT(&own) < count / 2; ++cpu) {
    if (!CPU_ISSET(cpu, &all_)) continue;
    CPU_SET(cpu, &own);
    CPU_CLR(cpu, &servers_);
  }
  MoveAllThreads(own);
}

SplitCores::~SplitCores() { MoveAllThreads(all_); }

}  // namespace qfleet::bench
