// The two servers of a comparison: replay shards, and a raw gRPC server.

#ifndef QFLEET_BENCH_SERVERS_H_
#define QFLEET_BENCH_SERVERS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/child_process.h"
#include "bench/cores.h"
#include "qfleet/v1/config.pb.h"
#include "qfleet/v1/replay.pb.h"

namespace qfleet::bench {

// Where the binaries are, and where servers keep their sockets, logs, data.
struct Places {
  std::string bin_dir;
  std::string work_dir;
  std::string data_dir;               // Empty: no durable shards.
  const SplitCores* cores = nullptr;  // Of servers; none: all.
  bool fixed_addresses = false;       // Servers without ASLR.

  const cpu_set_t* server_cores() const {
    return cores == nullptr ? nullptr : &cores->servers();
  }
};

// A process with the server's certificate of make_test_certificates.sh.
v1::SecurityConfig TestSecurity(const std::string& certificates);

// qfleet-replay, one or several, on unix sockets, or with `tcp` on loopback
// with its security.
class Shards {
 public:
  // `durable`: in files below places.data_dir, else in memory.
  static absl::StatusOr<std::unique_ptr<Shards>> Start(
      const Places& places, const v1::TableSpec& table, int count, bool durable,
      const v1::ClusterConfig* tcp = nullptr);
  ~Shards();

  const std::vector<std::string>& addresses() const { return addresses_; }

  // SIGKILL to all, then new processes; returns when they are ready.
  absl::Status KillAndRestart();

  // Items of all shards.
  absl::StatusOr<uint64_t> Items() const;

  // Steps in the rings of all shards.
  absl::StatusOr<uint64_t> Steps() const;

  double CpuSeconds() const;
  // Of all processes, now.
  double ResidentBytes() const;

 private:
  absl::StatusOr<v1::DescribeResponse> Describe(
      const std::string& address) const;
  Shards(Places places, bool durable);

  absl::Status StartProcesses();

  const Places places_;
  const bool durable_;
  const std::string folder_;
  std::vector<std::string> addresses_;
  std::vector<std::unique_ptr<ChildProcess>> processes_;
};

// This program as a server of bench/raw.proto.
class RawServer {
 public:
  static absl::StatusOr<std::unique_ptr<RawServer>> Start(const Places& places);

  const std::string& address() const { return address_; }
  double CpuSeconds() const { return process_->CpuSeconds(); }

 private:
  explicit RawServer(std::string address) : address_(std::move(address)) {}

  const std::string address_;
  std::unique_ptr<ChildProcess> process_;
};

// Whether qfleet-replay has the flag.
bool ReplayKnowsFlag(const Places& places, const std::string& flag);

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_SERVERS_H_
