// Whether more shards make an item dearer: CPU time of all processes, client
// included, for an item; and whether more raw gRPC servers do, that get or give
// messages of the same size. All servers run side by side and are measured in
// turn; those that wait cost next to nothing.
//
// Eight processes on one processor cost more than one, sharded or not. What of
// that is sharding shows beside the same shards with a client each, which knows
// of no other: as many processes and calls, and nothing is shared.
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

constexpr int kShards = 8;
// How much more an item may cost and still count as equal.
constexpr double kNoise = 1.1;

// In which a sampler has made what it makes ahead.
constexpr absl::Duration kMadeAhead = absl::Milliseconds(50);

// What the items of a row do.
struct Kind {
  std::string what;
  // One of so many clients, which together have as much on its way as one.
  std::unique_ptr<Load> (*client)(const Shape& shape,
                                  const std::vector<std::string>& addresses,
                                  int clients);
  std::unique_ptr<Load> (*raw)(const Shape& shape, const std::string& address);
};

// Two environments for each shard; batches as large as in the
// rows of throughput.
constexpr AppendOptions kAppend = {.streams = 2 * kShards,
                                   .batch_steps = 512,
                                   .max_unacknowledged_steps = 2048};

Kind Append() {
  return {"append",
          [](const Shape& shape, const std::vector<std::string>& addresses,
             int clients) {
            AppendOptions options = kAppend;
            options.streams /= clients;
            options.max_unacknowledged_steps /= clients;
            return MakeWriterLoad(shape, addresses, options);
          },
          [](const Shape& shape, const std::string& address) {
            return MakeRawUploadLoad(
                address, BatchWireBytes(shape, kAppend),
                static_cast<double>(kAppend.StepsInBatch(shape)),
                kAppend.Window(shape));
          }};
}

constexpr uint32_t kBatchSize = 512;

bool IsLarge(const Shape& shape) { return shape.n_step > 1; }

// Batches ahead of one shard.
uint32_t Prefetch(const Shape& shape) { return IsLarge(shape) ? 2 : 8; }

Kind Sample() {
  return {"sample, batch 512",
          [](const Shape& shape, const std::vector<std::string>& addresses,
             int clients) {
            // As many rows in a request, however many shards or clients share
            // them: else it is the number of messages that is measured.
            if (IsLarge(shape)) {
              return MakeSamplerLoad(shape, addresses, kBatchSize / clients,
                                     Prefetch(shape));
            }
            const auto shards = static_cast<uint32_t>(addresses.size());
            return MakeSamplerLoad(shape, addresses, kBatchSize,
                                   Prefetch(shape) * shards);
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

absl::StatusOr<std::shared_ptr<Shards>> StartShards(const RowOptions& options,
                                                    const Shape& shape,
                                                    uint64_t items, int count,
                                                    bool fixed_addresses) {
  Places places = options.places;
  places.fixed_addresses = fixed_addresses;
  QFLEET_ASSIGN_OR_RETURN(std::shared_ptr<Shards> shards,
                          Shards::Start(places, TableOf(shape, items, count),
                                        count, options.durable));
  QFLEET_RETURN_IF_ERROR(Fill(shape, shards->addresses(), items * 4 / 3));
  return shards;
}

// With one client.
Servers AsOne(const std::shared_ptr<Shards>& shards, const Shape& shape,
              const Kind& kind) {
  return {[shards, shape, kind] {
            return kind.client(shape, shards->addresses(), 1);
          },
          [shards] { return shards->CpuSeconds(); }};
}

// With a client each.
Servers EachAlone(const std::shared_ptr<Shards>& shards, const Shape& shape,
                  const Kind& kind) {
  return {[shards, shape, kind] {
            const std::vector<std::string> addresses = shards->addresses();
            std::vector<std::unique_ptr<Load>> loads;
            for (const std::string& address : addresses) {
              loads.push_back(kind.client(shape, {address},
                                          static_cast<int>(addresses.size())));
            }
            return MakeTogetherLoad(std::move(loads));
          },
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
  const auto start = [&](int count, bool fixed_addresses) {
    return StartShards(options, shape, items, count, fixed_addresses);
  };
  QFLEET_ASSIGN_OR_RETURN(const auto one, start(1, true));
  QFLEET_ASSIGN_OR_RETURN(const auto all, start(kShards, true));
  QFLEET_ASSIGN_OR_RETURN(const auto all_random, start(kShards, false));
  QFLEET_ASSIGN_OR_RETURN(Servers one_raw, StartRaw(options, shape, kind, 1));
  QFLEET_ASSIGN_OR_RETURN(Servers all_raw,
                          StartRaw(options, shape, kind, kShards));
  const std::vector<Servers> servers = {
      AsOne(one, shape, kind),     AsOne(all, shape, kind),
      EachAlone(all, shape, kind), AsOne(all_random, shape, kind),
      std::move(one_raw),          std::move(all_raw)};
  const std::string shards = absl::StrCat(kShards, " shards");
  std::vector<Side> sides = {{"1 shard"},
                             {shards},
                             {absl::StrCat(shards, ", a client each")},
                             {absl::StrCat(shards, ", random addresses")},
                             {"1 raw gRPC"},
                             {absl::StrCat(kShards, " raw gRPC")}};
  QFLEET_RETURN_IF_ERROR(Alternate(options.rounds, sides, [&](size_t side) {
    return Measure(servers[side], options.round);
  }));
  Row row = {title, "CPU us/item", std::move(sides), {}, ""};
  row.checks.push_back(Ratio(row.sides[1], row.sides[0]));
  row.checks.push_back(Ratio(row.sides[1], row.sides[2]));
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
