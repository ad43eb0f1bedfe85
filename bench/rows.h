// What the benchmark measures, a function each. docs/results.md has the
// targets' reasons.

#ifndef QFLEET_BENCH_ROWS_H_
#define QFLEET_BENCH_ROWS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/report.h"
#include "bench/servers.h"

namespace qfleet::bench {

struct RowOptions {
  Places places;
  int rounds = 5;
  absl::Duration round = absl::Milliseconds(400);  // Of each side.
  bool durable = false;
  absl::Duration soak = absl::Seconds(600);
  bool split_cores = true;   // bench/cores.h, where the row says so.
  std::string certificates;  // Folder of make_test_certificates.sh.
};

// Throughput, each beside raw gRPC. throughput_rows.cc
absl::StatusOr<Row> SampleAtari(const RowOptions& options);
absl::StatusOr<Row> SampleSmall(const RowOptions& options);
absl::StatusOr<Row> AppendAtari64K(const RowOptions& options);
absl::StatusOr<Row> AppendAtari256K(const RowOptions& options);
absl::StatusOr<Row> AppendSmall(const RowOptions& options);
absl::StatusOr<Row> AppendSmallAsActor(const RowOptions& options);

// CPU time for an item over 1 and 8 shards, beside raw gRPC. cost_rows.cc
absl::StatusOr<Row> CostSmallAppend(const RowOptions& options);
absl::StatusOr<Row> CostSmallSample(const RowOptions& options);
absl::StatusOr<Row> CostAtariAppend(const RowOptions& options);
absl::StatusOr<Row> CostAtariSample(const RowOptions& options);

// The rest. other_rows.cc
absl::StatusOr<Row> Tree(const RowOptions& options);
absl::StatusOr<Row> Restart(const RowOptions& options);
absl::StatusOr<Row> InsertLatency(const RowOptions& options);

// What goes on meanwhile. endurance_rows.cc
absl::StatusOr<Row> CheckpointLatency(const RowOptions& options);
absl::StatusOr<Row> Soak(const RowOptions& options);

// Mutual TLS beside plaintext. security_rows.cc
absl::StatusOr<Row> TlsAppendAtari(const RowOptions& options);
absl::StatusOr<Row> TlsAppendSmall(const RowOptions& options);
absl::StatusOr<Row> TlsSampleAtari(const RowOptions& options);
absl::StatusOr<Row> TlsSampleSmall(const RowOptions& options);

struct NamedRow {
  std::string name;
  absl::StatusOr<Row> (*measure)(const RowOptions&);
  bool also_durable = false;  // Worth measuring in memory and in files.
  bool by_name = false;       // Only where it is asked for.
  bool split_cores = false;   // Client and servers have their own.
};
const std::vector<NamedRow>& AllRows();

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_ROWS_H_
