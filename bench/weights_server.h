// The learner's side of the weights without a learner: the service, and whoever
// reports an evaluation has its policy published.

#ifndef QFLEET_BENCH_WEIGHTS_SERVER_H_
#define QFLEET_BENCH_WEIGHTS_SERVER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "qfleet/v1/weights.pb.h"

namespace qfleet::bench {

inline constexpr char kBenchNetwork[] = "bench";

// The sizes of a network for MinAtar's Breakout: a convolution of 16 channels,
// a layer of 128, a dueling head; 132,308 parameters.
v1::Publication MakePublication(uint64_t version);

// Until the process is told to end.
absl::Status ServeWeights(const std::string& address,
                          const std::string& ready_file);

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_WEIGHTS_SERVER_H_
