#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/alternate.h"
#include "bench/load.h"
#include "bench/rows.h"
#include "common/status_macros.h"

namespace qfleet::bench {
namespace {

constexpr uint32_t kBatchSize = 512;

// Larger than caches: 450 MB of frames, 60 MB of small steps.
constexpr uint64_t kAtariItems = 50000;
constexpr uint64_t kSmallItems = 1 << 20;

uint64_t ItemsOf(const Shape& shape) {
  return shape.n_step > 1 ? kAtariItems : kSmallItems;
}

std::string StorageName(const RowOptions& options) {
  return options.durable ? ", in files" : "";
}

// Owns what one comparison runs.
struct Comparison {
  std::unique_ptr<Shards> shards;
  std::unique_ptr<RawServer> raw;
  std::vector<std::unique_ptr<Load>> loads;
  std::vector<Side> sides;

  void Add(std::string name, double bytes, std::unique_ptr<Load> load) {
    sides.push_back({std::move(name), {}, bytes});
    loads.push_back(std::move(load));
  }
};

// One shard whose table is full: every append evicts. And a raw server.
absl::StatusOr<Comparison> StartServers(const RowOptions& options,
                                        const Shape& shape) {
  Comparison comparison;
  const uint64_t items = ItemsOf(shape);
  QFLEET_ASSIGN_OR_RETURN(
      comparison.shards,
      Shards::Start(options.places, TableOf(shape, items), 1, options.durable));
  QFLEET_RETURN_IF_ERROR(
      Fill(shape, comparison.shards->addresses(), items * 4 / 3));
  QFLEET_ASSIGN_OR_RETURN(comparison.raw, RawServer::Start(options.places));
  return comparison;
}

double CpuSeconds(const Comparison& comparison) {
  return OwnCpuSeconds() + comparison.shards->CpuSeconds() +
         comparison.raw->CpuSeconds();
}

absl::Status Run(const RowOptions& options, Comparison& comparison) {
  const auto measure = [&](size_t side) -> absl::StatusOr<double> {
    const double before = CpuSeconds(comparison);
    QFLEET_ASSIGN_OR_RETURN(Moved moved,
                            comparison.loads[side]->Run(options.round));
    comparison.sides[side].cost_rounds.push_back(
        (CpuSeconds(comparison) - before) / moved.items * 1e6);
    return moved.rate();
  };
  return Alternate(options.rounds, comparison.sides, measure);
}

// The sides: 0 the client class, 1 the bare stream, 2 raw gRPC. A bound of 0 is
// none: with small rows it is messages and not bytes that cost, and raw gRPC is
// there to be seen.
Row RowOf(std::string title, std::string unit, std::vector<Side> sides,
          double least_ratio, double least_rate) {
  Row row = {std::move(title), std::move(unit), std::move(sides), {}, ""};
  const auto& rounds = row.sides;
  for (size_t side : {0, 1}) {
    if (least_ratio <= 0) break;
    row.checks.push_back(
        {absl::StrCat(rounds[side].name, " / ", rounds[2].name),
         MedianRatio(rounds[side].rounds, rounds[2].rounds), true,
         least_ratio});
  }
  if (least_rate > 0) {
    row.checks.push_back(
        {row.unit, Median(rounds[0].rounds), true, least_rate});
  }
  return row;
}

absl::StatusOr<Row> Sample(const RowOptions& options, const Shape& shape,
                           uint32_t prefetch, double least_ratio,
                           double least_rate) {
  QFLEET_ASSIGN_OR_RETURN(Comparison comparison, StartServers(options, shape));
  const std::vector<std::string>& addresses = comparison.shards->addresses();
  const uint64_t bytes = SampleWireBytes(shape);
  // Of a message, on all sides.
  const uint32_t rows = RowsInAnswer(shape, kBatchSize, prefetch);
  comparison.Add("RemoteSampler", bytes,
                 MakeSamplerLoad(shape, addresses, kBatchSize, prefetch));
  comparison.Add("bare Sample stream", bytes,
                 MakeBareSampleLoad(shape, addresses[0], rows));
  comparison.Add(
      "raw gRPC", bytes,
      MakeRawDownloadLoad(comparison.raw->address(), bytes * rows, rows));
  QFLEET_RETURN_IF_ERROR(Run(options, comparison));
  return RowOf(absl::StrCat("sample, ", shape.name, ", batch ", kBatchSize,
                            ", messages of ", bytes * rows, " bytes",
                            StorageName(options)),
               "items/s", std::move(comparison.sides), least_ratio, least_rate);
}

absl::StatusOr<Row> Append(const RowOptions& options, const Shape& shape,
                           const AppendOptions& append, double least_ratio,
                           double least_rate) {
  QFLEET_ASSIGN_OR_RETURN(Comparison comparison, StartServers(options, shape));
  const std::vector<std::string>& addresses = comparison.shards->addresses();
  const uint64_t steps = append.StepsInBatch(shape);
  const uint64_t message = BatchWireBytes(shape, append);
  const double bytes = static_cast<double>(message) / steps;
  comparison.Add("RemoteWriter", bytes,
                 MakeWriterLoad(shape, addresses, append));
  comparison.Add("bare Append stream", bytes,
                 MakeBareAppendLoad(shape, addresses[0], append));
  comparison.Add("raw gRPC", bytes,
                 MakeRawUploadLoad(comparison.raw->address(), message, steps,
                                   append.Window(shape)));
  QFLEET_RETURN_IF_ERROR(Run(options, comparison));
  return RowOf(
      absl::StrCat("append, ", shape.name, ", batches of ", steps, " steps (",
                   message, " bytes)", StorageName(options)),
      "items/s", std::move(comparison.sides), least_ratio, least_rate);
}

}  // namespace

absl::StatusOr<Row> SampleAtari(const RowOptions& options) {
  // As many batches ahead as the learner has.
  return Sample(options, AtariShape(), 4, 0.7, 25000);
}

absl::StatusOr<Row> SampleSmall(const RowOptions& options) {
  return Sample(options, SmallShape(), 8, 0, 1e6);
}

absl::StatusOr<Row> AppendAtari64K(const RowOptions& options) {
  return Append(options, AtariShape(), AppendOptions(), 0.8, 0);
}

absl::StatusOr<Row> AppendAtari256K(const RowOptions& options) {
  return Append(options, AtariShape(), {.batch_bytes = 256 << 10}, 0.8, 0);
}

absl::StatusOr<Row> AppendSmall(const RowOptions& options) {
  return Append(options, SmallShape(),
                {.batch_steps = 512, .max_unacknowledged_steps = 8192}, 0, 1e6);
}

absl::StatusOr<Row> AppendSmallAsActor(const RowOptions& options) {
  return Append(options, SmallShape(), AppendOptions(), 0, 0);
}

}  // namespace qfleet::bench
