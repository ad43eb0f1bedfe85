// A program beside which something is measured: it answers a line with a line.

#ifndef QFLEET_BENCH_PEER_H_
#define QFLEET_BENCH_PEER_H_

#include <sys/types.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace qfleet::bench {

// Thread-compatible. Between questions the program waits and uses no CPU.
class Peer {
 public:
  // Runs `command` with these environment variables beside ours. What it prints
  // on stderr goes to ours.
  Peer(const std::vector<std::string>& command,
       const std::vector<std::pair<std::string, std::string>>& environment);
  // Closes its input, which is to end it, and waits for that.
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // UNAVAILABLE if it ends instead.
  absl::StatusOr<std::string> Ask(const std::string& line);
  // An answer that is one number.
  absl::StatusOr<double> AskNumber(const std::string& line);

 private:
  const std::string name_;
  pid_t pid_ = -1;
  FILE* to_ = nullptr;
  FILE* from_ = nullptr;
};

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_PEER_H_
