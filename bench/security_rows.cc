// What TLS costs: a shard with mutual TLS beside one without, both over TCP on
// loopback, in one run.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/alternate.h"
#include "bench/load.h"
#include "bench/rows.h"
#include "common/security.h"
#include "common/status_macros.h"

namespace qfleet::bench {
namespace {

constexpr uint32_t kBatchSize = 512;
constexpr double kLeastShare = 0.5;

// One of the two sides: its shard, and a client whose channels were made while
// the process had the same security.
struct Measured {
  std::unique_ptr<Shards> shards;
  std::unique_ptr<Load> load;
};

template <typename MakeLoad>
absl::StatusOr<Measured> StartSide(const RowOptions& options,
                                   const Shape& shape, uint64_t items, bool tls,
                                   const MakeLoad& make_load) {
  v1::ClusterConfig cluster;
  if (tls) *cluster.mutable_security() = TestSecurity(options.certificates);
  QFLEET_RETURN_IF_ERROR(UseSecurity(cluster, /*insecure=*/false));
  Measured side;
  QFLEET_ASSIGN_OR_RETURN(
      side.shards, Shards::Start(options.places, TableOf(shape, items), 1,
                                 /*durable=*/false, &cluster));
  // Full: every append evicts.
  QFLEET_RETURN_IF_ERROR(
      Fill(shape, side.shards->addresses(), items * 4 / 3));
  side.load = make_load(side.shards->addresses());
  return side;
}

template <typename MakeLoad>
absl::StatusOr<Row> Compare(const RowOptions& options, const Shape& shape,
                            uint64_t items, double bytes, std::string title,
                            const MakeLoad& make_load) {
  Row row = {absl::StrCat(title, ", over TCP"), "items/s", {}, {}, ""};
  if (options.certificates.empty()) {
    row.skipped = "no --certificates";
    return row;
  }
  std::vector<Measured> measured;
  for (const bool tls : {true, false}) {
    QFLEET_ASSIGN_OR_RETURN(
        Measured side, StartSide(options, shape, items, tls, make_load));
    measured.push_back(std::move(side));
    row.sides.push_back({tls ? "mTLS" : "plaintext", {}, bytes});
  }
  const auto measure = [&](size_t side) -> absl::StatusOr<double> {
    const double before =
        OwnCpuSeconds() + measured[side].shards->CpuSeconds();
    QFLEET_ASSIGN_OR_RETURN(Moved moved,
                            measured[side].load->Run(options.round));
    const double cpu =
        OwnCpuSeconds() + measured[side].shards->CpuSeconds() - before;
    row.sides[side].cost_rounds.push_back(cpu / moved.items * 1e6);
    return moved.rate();
  };
  QFLEET_RETURN_IF_ERROR(Alternate(options.rounds, row.sides, measure));
  row.checks.push_back({"mTLS / plaintext",
                        MedianRatio(row.sides[0].rounds, row.sides[1].rounds),
                        true, kLeastShare});
  return row;
}

absl::StatusOr<Row> CompareAppend(const RowOptions& options, const Shape& shape,
                                  uint64_t items, const AppendOptions& append) {
  const uint64_t message = BatchWireBytes(shape, append);
  const uint64_t steps = append.StepsInBatch(shape);
  return Compare(options, shape, items, static_cast<double>(message) / steps,
                 absl::StrCat("append, ", shape.name, ", batches of ", steps,
                              " steps (", message, " bytes)"),
                 [&](const std::vector<std::string>& addresses) {
                   return MakeWriterLoad(shape, addresses, append);
                 });
}

absl::StatusOr<Row> CompareSample(const RowOptions& options, const Shape& shape,
                                  uint64_t items, uint32_t prefetch) {
  return Compare(options, shape, items,
                 static_cast<double>(shape.SampledBytes()),
                 absl::StrCat("sample, ", shape.name, ", batch ", kBatchSize),
                 [&](const std::vector<std::string>& addresses) {
                   return MakeSamplerLoad(shape, addresses, kBatchSize,
                                          prefetch);
                 });
}

// Larger than caches, yet two of them fit into memory.
constexpr uint64_t kAtariItems = 20000;
constexpr uint64_t kSmallItems = 1 << 18;

}  // namespace

absl::StatusOr<Row> TlsAppendAtari(const RowOptions& options) {
  return CompareAppend(options, AtariShape(), kAtariItems, AppendOptions());
}

absl::StatusOr<Row> TlsAppendSmall(const RowOptions& options) {
  return CompareAppend(options, SmallShape(), kSmallItems,
                       {.batch_steps = 512, .max_unacknowledged_steps = 8192});
}

absl::StatusOr<Row> TlsSampleAtari(const RowOptions& options) {
  return CompareSample(options, AtariShape(), kAtariItems, 4);
}

absl::StatusOr<Row> TlsSampleSmall(const RowOptions& options) {
  return CompareSample(options, SmallShape(), kSmallItems, 8);
}

}  // namespace qfleet::bench
