// Whether more shards make an item dearer: CPU time of all processes, client
// included, for an item; and whether more raw gRPC servers do, that get or give
// messages of the same size. All servers run side by side and are measured in
// turn; those that wait cost next to nothing.
//
// Eight processes that take turns on one processor also share its branch
// predictor, which knows each jump by its address: with addresses that differ
// from process to process none finds what it has learned. That is no cost of
// sharding, where shards have processors of their own, and so all have the same
// addresses here; one side shows what random ones make of it.

#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/alternate.h"
#include "bench/load.h"
#include "bench/rows.h"
#include "common/status_macros.h"

namespace qfleet::bench {
namespace {

constexpr int kFewest = 1;
constexpr int kMost = 8;
// How much above one shard's an item may cost and still count as equal.
constexpr double kNoise = 1.1;

// In which a sampler has made what it makes ahead.
constexpr absl::Duration kMadeAhead = absl::Milliseconds(50);

// What the items of a row do.
struct Kind {
  std::string what;
  std::unique_ptr<Load> (*client)(const Shape& shape,
                                  const std::vector<std::string>& addresses);
  std::unique_ptr<Load> (*raw)(const Shape& shape, const std::string& address);
};

// Two environments for each of the most shards; batches as large as in the
// rows of throughput.
constexpr AppendOptions kAppend = {
    .streams = 2 * kMost, .batch_steps = 512, .max_unacknowledged_steps = 2048};

Kind Append() {
  return {"append",
          [](const Shape& shape, const std::vector<std::string>& addresses) {
            return MakeWriterLoad(shape, addresses, kAppend);
          },
          [](const Shape& shape, const std::string& address) {
            return MakeRawUploadLoad(
                address, BatchWireBytes(shape, kAppend),
                static_cast<double>(kAppend.StepsInBatch(shape)),
                kAppend.Window(shape));
          }};
}

constexpr uint32_t kBatchSize = 512;

// Batches ahead of one shard.
uint32_t Prefetch(const Shape& shape) { return shape.n_step > 1 ? 2 : 8; }

Kind Sample() {
  return {"sample, batch 512",
          [](const Shape& shape, const std::vector<std::string>& addresses) {
            // As many small rows in a request, however many shards share a
            // batch: else it is the number of messages that is measured.
            const auto shards = static_cast<uint32_t>(addresses.size());
            return MakeSamplerLoad(
                shape, addresses, kBatchSize,
                Prefetch(shape) * (shape.n_step > 1 ? 1 : shards));
          },
          [](const Shape& shape, const std::string& address) {
            const uint32_t rows =
                RowsInAnswer(shape, kBatchSize, Prefetch(shape));
            return MakeRawDownloadLoad(address, rows * SampleWireBytes(shape),
                                       rows);
          }};
}

// The servers of one side.
struct Servers {
  std::function<std::unique_ptr<Load>()> make_load;
  std::function<double()> cpu_seconds;
};

absl::StatusOr<Servers> StartShards(const RowOptions& options,
                                    const Shape& shape, uint64_t items,
                                    const Kind& kind, int count,
                                    bool fixed_addresses) {
  Places places = options.places;
  places.fixed_addresses = fixed_addresses;
  QFLEET_ASSIGN_OR_RETURN(std::shared_ptr<Shards> shards,
                          Shards::Start(places, TableOf(shape, items, count),
                                        count, options.durable));
  QFLEET_RETURN_IF_ERROR(Fill(shape, shards->addresses(), items * 4 / 3));
  return Servers{
      [shards, shape, kind] { return kind.client(shape, shards->addresses()); },
      [shards] { return shards->CpuSeconds(); }};
}

absl::StatusOr<Servers> StartRaw(const RowOptions& options, const Shape& shape,
                                 const Kind& kind, int count) {
  Places places = options.places;
  places.fixed_addresses = true;
  std::vector<std::shared_ptr<RawServer>> servers;
  for (int i = 0; i < count; ++i) {
    QFLEET_ASSIGN_OR_RETURN(servers.emplace_back(), RawServer::Start(places));
  }
  const auto make_load = [servers, shape, kind] {
    std::vector<std::unique_ptr<Load>> loads;
    for (const auto& server : servers) {
      loads.push_back(kind.raw(shape, server->address()));
    }
    return MakeTogetherLoad(std::move(loads));
  };
  const auto cpu_seconds = [servers] {
    double seconds = 0;
    for (const auto& server : servers) seconds += server->CpuSeconds();
    return seconds;
  };
  return Servers{make_load, cpu_seconds};
}

// CPU us of an item. The client is made anew each time: gRPC lets any waiting
// thread of a process take what comes for another, so that those of idle
// clients would be part of the figure.
absl::StatusOr<double> Measure(const Servers& servers, absl::Duration round) {
  const std::unique_ptr<Load> load = servers.make_load();
  QFLEET_RETURN_IF_ERROR(load->Run(round / 4).status());
  // Run takes what was made ahead without counting it.
  absl::SleepFor(kMadeAhead);
  const double before = OwnCpuSeconds() + servers.cpu_seconds();
  QFLEET_ASSIGN_OR_RETURN(const Moved moved, load->Run(round));
  const double after = OwnCpuSeconds() + servers.cpu_seconds();
  return (after - before) / moved.items * 1e6;
}

Check Ratio(const Side& all, const Side& one) {
  return {absl::StrCat(all.name, " / ", one.name),
          MedianRatio(all.rounds, one.rounds), false, kNoise};
}

absl::StatusOr<Row> Cost(const RowOptions& options, const Shape& shape,
                         uint64_t items, const Kind& kind) {
  const std::string title = absl::StrCat("cost, ", kind.what, ", ", shape.name);
  if (!FixedAddressesAllowed()) {
    Row row = {title};
    row.skipped =
        "processes with fixed addresses (ADDR_NO_RANDOMIZE) are not "
        "allowed here";
    return row;
  }
  std::vector<Servers> servers;
  std::vector<Side> sides;
  const auto add = [&](const std::string& name,
                       absl::StatusOr<Servers> started) -> absl::Status {
    QFLEET_RETURN_IF_ERROR(started.status());
    servers.push_back(*std::move(started));
    sides.push_back({name});
    return absl::OkStatus();
  };
  for (int count : {kFewest, kMost}) {
    QFLEET_RETURN_IF_ERROR(
        add(absl::StrCat(count, count == 1 ? " shard" : " shards"),
            StartShards(options, shape, items, kind, count, true)));
  }
  QFLEET_RETURN_IF_ERROR(
      add(absl::StrCat(kMost, " shards, random addresses"),
          StartShards(options, shape, items, kind, kMost, false)));
  for (int count : {kFewest, kMost}) {
    QFLEET_RETURN_IF_ERROR(add(absl::StrCat(count, " raw gRPC"),
                               StartRaw(options, shape, kind, count)));
  }
  QFLEET_RETURN_IF_ERROR(Alternate(options.rounds, sides, [&](size_t side) {
    return Measure(servers[side], options.round);
  }));
  Row row = {title, "CPU us/item", std::move(sides), {}, ""};
  row.checks.push_back(Ratio(row.sides[1], row.sides[0]));
  return row;
}

constexpr uint64_t kSmallItems = 1 << 19;
constexpr uint64_t kAtariItems = 20000;

}  // namespace

absl::StatusOr<Row> CostSmallAppend(const RowOptions& options) {
  return Cost(options, SmallShape(), kSmallItems, Append());
}

absl::StatusOr<Row> CostSmallSample(const RowOptions& options) {
  return Cost(options, SmallShape(), kSmallItems, Sample());
}

absl::StatusOr<Row> CostAtariAppend(const RowOptions& options) {
  return Cost(options, AtariShape(), kAtariItems, Append());
}

absl::StatusOr<Row> CostAtariSample(const RowOptions& options) {
  return Cost(options, AtariShape(), kAtariItems, Sample());
}

}  // namespace qfleet::bench
