#include <atomic>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/child_process.h"
#include "bench/load.h"
#include "bench/rows.h"
#include "common/files.h"
#include "common/grpc.h"
#include "common/status_macros.h"
#include "grpcpp/client_context.h"
#include "nlohmann/json.hpp"
#include "qfleet/v1/replay.grpc.pb.h"

namespace qfleet::bench {
namespace {

constexpr uint64_t kRestartItems = 1000000;
constexpr int kLatencyBatches = 2000;
constexpr uint64_t kLatencySteps = 64;

// Seconds from each batch's Write until its acknowledgement was read.
absl::StatusOr<std::vector<double>> TimeBatches(const Shape& shape,
                                                const std::string& address) {
  const std::vector<v1::AppendRequest> requests =
      BuildRequests(shape, 8, kLatencyBatches * kLatencySteps, kLatencySteps);
  auto stub = v1::Replay::NewStub(MakeChannel(address));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  auto call = stub->Append(&context);
  v1::AppendRequest open;
  open.mutable_open()->set_table("replay");
  open.mutable_open()->set_writer_id(1);
  *open.mutable_open()->mutable_signature() = shape.signature;
  v1::AppendResponse response;
  if (!call->Write(open) || !call->Read(&response)) {
    return FromGrpc(call->Finish());
  }
  std::vector<double> seconds;
  for (const v1::AppendRequest& request : requests) {
    const absl::Time start = absl::Now();
    if (!call->Write(request) || !call->Read(&response)) {
      return FromGrpc(call->Finish());
    }
    seconds.push_back(absl::ToDoubleSeconds(absl::Now() - start));
  }
  call->WritesDone();
  QFLEET_RETURN_IF_ERROR(FromGrpc(call->Finish()));
  return seconds;
}

void AddQuantiles(const std::string& name, const std::vector<double>& seconds,
                  Row& row) {
  for (double quantile : {0.5, 0.99, 1.0}) {
    row.sides.push_back({absl::StrCat(name, ", p", quantile * 100),
                         {Quantile(seconds, quantile) * 1e3}});
  }
}

}  // namespace

absl::StatusOr<Row> Tree(const RowOptions& options) {
  const std::string out = absl::StrCat(options.places.work_dir, "/tree.json");
  ChildProcess process(
      {absl::StrCat(options.places.bin_dir, "/sum_tree_benchmark"),
       "--benchmark_filter=leaves:1048576/batch:512$",
       absl::StrCat("--benchmark_repetitions=", options.rounds),
       "--benchmark_min_time=0.2", absl::StrCat("--benchmark_out=", out),
       "--benchmark_out_format=json"},
      absl::StrCat(out, ".log"));
  QFLEET_RETURN_IF_ERROR(process.AwaitEnd(absl::Seconds(60)));
  QFLEET_ASSIGN_OR_RETURN(std::string text, ReadFile(out));
  Row row = {"sum tree, 2^20 leaves, batch 512",
             "ns/operation",
             {Side{"sample", {}}, Side{"update", {}}},
             {},
             ""};
  const nlohmann::json runs = nlohmann::json::parse(text).at("benchmarks");
  for (const auto& run : runs) {
    if (run["run_type"] != "iteration") continue;
    const bool sample =
        absl::StartsWith(run["name"].get<std::string>(), "BM_Sample");
    row.sides[sample ? 0 : 1].rounds.push_back(
        run["per_operation"].get<double>() * 1e9);
  }
  return row;
}

// From fork() until the shard says that all its items are there.
absl::StatusOr<Row> Restart(const RowOptions& options) {
  Row row = {
      absl::StrCat("restart after SIGKILL, ", kRestartItems,
                   " small items in files"),
      "s",
      {Side{"until ready", {}}, Side{"until Describe shows the items", {}}},
      {},
      ""};
  if (!options.durable) {
    row.skipped = "this qfleet-replay has no --data_dir";
    return row;
  }
  const Shape shape = SmallShape();
  QFLEET_ASSIGN_OR_RETURN(
      auto shards, Shards::Start(options.places,
                                 TableOf(shape, uint64_t{1} << 20), 1, true));
  QFLEET_RETURN_IF_ERROR(
      Fill(shape, shards->addresses(), kRestartItems * 1005 / 1000));
  for (int round = 0; round < options.rounds; ++round) {
    const absl::Time start = absl::Now();
    QFLEET_RETURN_IF_ERROR(shards->KillAndRestart());
    const absl::Time ready = absl::Now();
    uint64_t items = 0;
    do {
      QFLEET_ASSIGN_OR_RETURN(items, shards->Items());
      if (absl::Now() - start > absl::Seconds(60)) {
        return absl::InternalError(absl::StrCat("after the restart there are ",
                                                items, " items of ",
                                                kRestartItems));
      }
    } while (items < kRestartItems);
    row.sides[0].rounds.push_back(absl::ToDoubleSeconds(ready - start));
    row.sides[1].rounds.push_back(absl::ToDoubleSeconds(absl::Now() - start));
  }
  row.checks.push_back({"s", Median(row.sides[1].rounds), false, 2});
  return row;
}

// One writer that waits for each acknowledgement, beside a sampler that takes
// all it can get.
absl::StatusOr<Row> InsertLatency(const RowOptions& options) {
  const Shape shape = SmallShape();
  QFLEET_ASSIGN_OR_RETURN(
      auto shards,
      Shards::Start(options.places, TableOf(shape, uint64_t{1} << 20), 1,
                    options.durable));
  QFLEET_RETURN_IF_ERROR(
      Fill(shape, shards->addresses(), (uint64_t{1} << 20) * 4 / 3));
  QFLEET_ASSIGN_OR_RETURN(std::vector<double> alone,
                          TimeBatches(shape, shards->addresses()[0]));
  auto sampler = MakeSamplerLoad(shape, shards->addresses(), 512, 8);
  std::atomic<bool> done = false;
  absl::StatusOr<Moved> moved = Moved();
  std::thread sampling([&] {
    while (!done && moved.ok()) moved = sampler->Run(options.round);
  });
  absl::SleepFor(options.round);
  const absl::StatusOr<std::vector<double>> beside =
      TimeBatches(shape, shards->addresses()[0]);
  done = true;
  sampling.join();
  QFLEET_RETURN_IF_ERROR(moved.status());
  QFLEET_RETURN_IF_ERROR(beside.status());
  Row row = {absl::StrCat("insert latency, ", kLatencyBatches, " batches of ",
                          kLatencySteps, " small steps",
                          options.durable ? ", in files" : ""),
             "ms",
             {},
             {},
             ""};
  AddQuantiles("alone", alone, row);
  AddQuantiles("beside a sampler", *beside, row);
  row.checks.push_back(
      {"ms, p99 beside a sampler", Quantile(*beside, 0.99) * 1e3, false, 10});
  return row;
}

const std::vector<NamedRow>& AllRows() {
  static const auto& rows = *new std::vector<NamedRow>{
      {.name = "sample_atari",
       .measure = SampleAtari,
       .also_durable = true,
       .split_cores = true},
      {.name = "sample_small",
       .measure = SampleSmall,
       .also_durable = true,
       .split_cores = true},
      {.name = "append_atari_64k",
       .measure = AppendAtari64K,
       .also_durable = true,
       .split_cores = true},
      {.name = "append_atari_256k",
       .measure = AppendAtari256K,
       .also_durable = true,
       .split_cores = true},
      {.name = "append_small",
       .measure = AppendSmall,
       .also_durable = true,
       .split_cores = true},
      {.name = "append_small_as_actor",
       .measure = AppendSmallAsActor,
       .split_cores = true},
      {.name = "tree", .measure = Tree},
      {.name = "restart", .measure = Restart},
      {.name = "insert_latency",
       .measure = InsertLatency,
       .also_durable = true},
      {.name = "checkpoint_latency", .measure = CheckpointLatency},
      {.name = "cost_append_small",
       .measure = CostSmallAppend,
       .split_cores = true},
      {.name = "cost_sample_small",
       .measure = CostSmallSample,
       .split_cores = true},
      {.name = "cost_append_atari",
       .measure = CostAtariAppend,
       .split_cores = true},
      {.name = "cost_sample_atari",
       .measure = CostAtariSample,
       .split_cores = true},
      {.name = "soak", .measure = Soak, .also_durable = true, .by_name = true},
      {.name = "tls_append_atari",
       .measure = TlsAppendAtari,
       .by_name = true,
       .split_cores = true},
      {.name = "tls_append_small",
       .measure = TlsAppendSmall,
       .by_name = true,
       .split_cores = true},
      {.name = "tls_sample_atari",
       .measure = TlsSampleAtari,
       .by_name = true,
       .split_cores = true},
      {.name = "tls_sample_small",
       .measure = TlsSampleSmall,
       .by_name = true,
       .split_cores = true},
  };
  return rows;
}

}  // namespace qfleet::bench
