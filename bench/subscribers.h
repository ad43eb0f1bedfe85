// Many subscribers of weights in one process, each with a connection of its own
// as an actor has, none with a thread. What they receive is counted and thrown
// away.

#ifndef QFLEET_BENCH_SUBSCRIBERS_H_
#define QFLEET_BENCH_SUBSCRIBERS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "qfleet/v1/weights.pb.h"

namespace qfleet::bench {

class Subscribers {
 public:
  // Connects them all at once.
  Subscribers(const std::string& address, int count, v1::WeightCodec codec);
  // Cancels and waits.
  ~Subscribers();

  // Until all together have received so many publications for each.
  absl::Status AwaitEach(uint64_t publications, absl::Duration patience);

  // Each sends its progress.
  void Report();

 private:
  class One;

  void Count();
  void CountEnd(const std::string& error);
  bool Received(uint64_t publications) const;
  bool AllEnded() const;

  const uint64_t count_;
  mutable absl::Mutex mutex_;
  uint64_t received_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t ended_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string error_ ABSL_GUARDED_BY(mutex_);  // The first.
  std::vector<std::unique_ptr<One>> all_;
};

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_SUBSCRIBERS_H_
