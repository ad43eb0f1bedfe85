// The server of raw.proto. Its clients are in load.h.

#ifndef QFLEET_BENCH_RAW_GRPC_H_
#define QFLEET_BENCH_RAW_GRPC_H_

#include <string>

#include "absl/status/status.h"

namespace qfleet::bench {

// Serves until SIGTERM or SIGINT.
absl::Status ServeRaw(const std::string& address,
                      const std::string& ready_file);

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_RAW_GRPC_H_
