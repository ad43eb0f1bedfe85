// Whether more shards make an item dearer: CPU time of all processes, client
// included, for an item. All clusters run side by side and are measured in
// turn; those that wait cost next to nothing. Appends also go to one shard of
// the most alone: what all of these cost more is their taking turns on the
// same processors.

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/alternate.h"
#include "bench/load.h"
#include "bench/rows.h"
#include "common/status_macros.h"

namespace qfleet::bench {
namespace {

constexpr int kShardCounts[] = {1, 2, 4, 8};
// How much above one shard's an item may cost and still count as equal.
constexpr double kNoise = 1.1;
// Rounds are longer: what one costs at its ends shows less.
constexpr int kLonger = 2;

using MakeLoad = std::unique_ptr<Load> (*)(
    const Shape& shape, const std::vector<std::string>& addresses);

std::unique_ptr<Load> Writer(const Shape& shape,
                             const std::vector<std::string>& addresses) {
  // Two environments for each of the most shards; batches as large as in the
  // rows of throughput.
  return MakeWriterLoad(
      shape, addresses,
      {.streams = 16, .batch_steps = 512, .max_unacknowledged_steps = 2048});
}

std::unique_ptr<Load> Sampler(const Shape& shape,
                              const std::vector<std::string>& addresses) {
  // As many rows in a request, however many shards share a batch: else it is
  // the number of messages that is measured.
  const auto shards = static_cast<uint32_t>(addresses.size());
  return MakeSamplerLoad(shape, addresses, 512,
                         shape.n_step > 1 ? 2 : 8 * shards);
}

absl::StatusOr<Row> Cost(const RowOptions& options, const Shape& shape,
                         const std::string& what, uint64_t items,
                         MakeLoad make_load) {
  std::vector<std::unique_ptr<Shards>> clusters;
  std::vector<const Shards*> measured;  // Of each side.
  std::vector<std::unique_ptr<Load>> loads;
  std::vector<Side> sides;
  for (int count : kShardCounts) {
    QFLEET_ASSIGN_OR_RETURN(
        auto shards, Shards::Start(options.places, TableOf(shape, items, count),
                                   count, options.durable));
    QFLEET_RETURN_IF_ERROR(Fill(shape, shards->addresses(), items * 4 / 3));
    loads.push_back(make_load(shape, shards->addresses()));
    measured.push_back(shards.get());
    clusters.push_back(std::move(shards));
    sides.push_back({absl::StrCat(count, count == 1 ? " shard" : " shards")});
  }
  const size_t most = sides.size() - 1;
  if (make_load == Writer) {
    loads.push_back(make_load(shape, {measured[most]->addresses()[0]}));
    measured.push_back(measured[most]);
    sides.push_back({absl::StrCat("1 of ", sides[most].name, " alone")});
  }
  const auto measure = [&](size_t side) -> absl::StatusOr<double> {
    const double before = OwnCpuSeconds() + measured[side]->CpuSeconds();
    QFLEET_ASSIGN_OR_RETURN(Moved moved,
                            loads[side]->Run(kLonger * options.round));
    const double after = OwnCpuSeconds() + measured[side]->CpuSeconds();
    return (after - before) / moved.items * 1e6;
  };
  QFLEET_RETURN_IF_ERROR(Alternate(options.rounds, sides, measure));
  Row row = {absl::StrCat("cost, ", what, ", ", shape.name),
             "CPU us/item",
             std::move(sides),
             {},
             ""};
  const Side& one = row.sides.front();
  const Side& all = row.sides[most];
  row.checks.push_back({absl::StrCat(all.name, " / ", one.name),
                        MedianRatio(all.rounds, one.rounds), false, kNoise});
  return row;
}

constexpr uint64_t kSmallItems = 1 << 19;
constexpr uint64_t kAtariItems = 20000;

}  // namespace

absl::StatusOr<Row> CostSmallAppend(const RowOptions& options) {
  return Cost(options, SmallShape(), "append", kSmallItems, Writer);
}

absl::StatusOr<Row> CostSmallSample(const RowOptions& options) {
  return Cost(options, SmallShape(), "sample, batch 512", kSmallItems, Sampler);
}

absl::StatusOr<Row> CostAtariAppend(const RowOptions& options) {
  return Cost(options, AtariShape(), "append", kAtariItems, Writer);
}

absl::StatusOr<Row> CostAtariSample(const RowOptions& options) {
  return Cost(options, AtariShape(), "sample, batch 512", kAtariItems, Sampler);
}

}  // namespace qfleet::bench
