// What goes on while something else does: inserts and samples while
// checkpoints are written, and memory over a long time.

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/load.h"
#include "bench/rows.h"
#include "bench/servers.h"
#include "common/grpc.h"
#include "common/status_macros.h"
#include "grpcpp/client_context.h"
#include "qfleet/v1/replay.grpc.pb.h"

namespace qfleet::bench {
namespace {

constexpr uint64_t kItems = 40000;  // 280 MB of frames.
constexpr int kProbes = 1500;
constexpr uint64_t kProbeSteps = 16;
constexpr uint32_t kProbeRows = 16;
// A table is full, and its pages are all there, after so many laps.
constexpr int kLaps = 2;

struct Latencies {
  std::vector<double> insert;
  std::vector<double> sample;
};

// A batch of frames and a draw in turn, each waited for, at about half of what
// one core can do.
absl::StatusOr<Latencies> Probe(const Shape& shape,
                                const std::vector<v1::AppendRequest>& requests,
                                const std::string& address,
                                uint64_t writer_id) {
  auto stub = v1::Replay::NewStub(MakeChannel(address));
  grpc::ClientContext append_context, sample_context;
  auto append = stub->Append(&append_context);
  auto sample = stub->Sample(&sample_context);
  v1::AppendRequest open;
  open.mutable_open()->set_table("replay");
  open.mutable_open()->set_writer_id(writer_id);
  *open.mutable_open()->mutable_signature() = shape.signature;
  v1::SampleRequest draw;
  draw.mutable_open()->set_table("replay");
  *draw.mutable_open()->mutable_signature() = shape.signature;
  v1::AppendResponse stored;
  v1::SampleResponse drawn;
  if (!append->Write(open) || !append->Read(&stored)) {
    return FromGrpc(append->Finish());
  }
  if (!sample->Write(draw) || !sample->Read(&drawn)) {
    return FromGrpc(sample->Finish());
  }
  draw.mutable_draw()->set_count(kProbeRows);
  Latencies latencies;
  for (const v1::AppendRequest& request : requests) {
    const absl::Time start = absl::Now();
    if (!append->Write(request) || !append->Read(&stored)) {
      return FromGrpc(append->Finish());
    }
    const absl::Time middle = absl::Now();
    if (!sample->Write(draw) || !sample->Read(&drawn)) {
      return FromGrpc(sample->Finish());
    }
    const absl::Time end = absl::Now();
    latencies.insert.push_back(absl::ToDoubleMilliseconds(middle - start));
    latencies.sample.push_back(absl::ToDoubleMilliseconds(end - middle));
    absl::SleepFor(absl::Milliseconds(1));
  }
  append_context.TryCancel();
  sample_context.TryCancel();
  append->Finish().error_code();
  sample->Finish().error_code();
  return latencies;
}

absl::Status WriteCheckpoint(const std::string& address,
                             const std::string& directory, int& written) {
  grpc::ClientContext context;
  v1::CheckpointRequest request;
  request.set_directory(directory);
  request.set_keep(1);
  v1::CheckpointResponse response;
  const absl::Status status =
      FromGrpc(v1::Replay::NewStub(MakeChannel(address))
                   ->Checkpoint(&context, request, &response));
  written += status.ok() ? 1 : 0;
  return status;
}

// A probe while one checkpoint is written after the other.
absl::StatusOr<Latencies> ProbeBeside(
    const Shape& shape, const std::vector<v1::AppendRequest>& requests,
    const std::string& address, uint64_t writer_id,
    const std::string& directory, int& written) {
  std::atomic<bool> done = false;
  absl::Status status;
  std::thread checkpoints([&] {
    while (!done && status.ok()) {
      status = WriteCheckpoint(address, directory, written);
    }
  });
  absl::StatusOr<Latencies> latencies =
      Probe(shape, requests, address, writer_id);
  done = true;
  checkpoints.join();
  QFLEET_RETURN_IF_ERROR(status);
  return latencies;
}

double Range(const std::vector<double>& values) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return *most / *least;
}

}  // namespace

absl::StatusOr<Row> CheckpointLatency(const RowOptions& options) {
  Row row = {absl::StrCat("inserts and samples of 84x84 frames while ",
                          "checkpoints are written"),
             "ms",
             {},
             {},
             ""};
  if (options.places.data_dir.empty()) {
    row.skipped = "no --data_dir";
    return row;
  }
  const Shape shape = AtariShape();
  QFLEET_ASSIGN_OR_RETURN(
      auto shards,
      Shards::Start(options.places, TableOf(shape, kItems), 1, true));
  QFLEET_RETURN_IF_ERROR(Fill(shape, shards->addresses(), kItems * 4 / 3));
  const std::string address = shards->addresses()[0];
  const std::vector<v1::AppendRequest> requests =
      BuildRequests(shape, 4, kProbes * kProbeSteps, kProbeSteps);
  const std::string checkpoints =
      absl::StrCat(options.places.data_dir, "/checkpoints");
  std::vector<Latencies> alone, beside;
  int written = 0;
  for (int round = 0; round < options.rounds; ++round) {
    const uint64_t writer_id = 101 + 2 * static_cast<uint64_t>(round);
    QFLEET_ASSIGN_OR_RETURN(alone.emplace_back(),
                            Probe(shape, requests, address, writer_id));
    QFLEET_ASSIGN_OR_RETURN(beside.emplace_back(),
                            ProbeBeside(shape, requests, address, writer_id + 1,
                                        checkpoints, written));
  }
  row.title += absl::StrCat(" (", written, " of ", kItems, " items)");
  const auto add = [&](const std::string& what,
                       std::vector<double> Latencies::*which) {
    for (double quantile : {0.5, 0.99}) {
      std::vector<double> before, during;
      for (int round = 0; round < options.rounds; ++round) {
        before.push_back(Quantile(alone[round].*which, quantile));
        during.push_back(Quantile(beside[round].*which, quantile));
      }
      const std::string name = absl::StrCat(what, " p", quantile * 100);
      row.sides.push_back({name, before});
      row.sides.push_back({absl::StrCat(name, ", meanwhile"), during});
      if (quantile < 0.99) continue;
      row.checks.push_back({absl::StrCat(name, ", meanwhile / alone"),
                            MedianRatio(during, before), false, 2});
    }
  };
  add("insert", &Latencies::insert);
  add("sample", &Latencies::sample);
  return row;
}

// A writer and a sampler at full speed, for long.
absl::StatusOr<Row> Soak(const RowOptions& options) {
  const Shape shape = AtariShape();
  QFLEET_ASSIGN_OR_RETURN(
      auto shards, Shards::Start(options.places, TableOf(shape, kItems), 1,
                                 options.durable));
  // What the table's rows cost; messages on their way take some more.
  QFLEET_RETURN_IF_ERROR(Fill(shape, shards->addresses(), kItems / 4));
  QFLEET_ASSIGN_OR_RETURN(const uint64_t steps_before, shards->Steps());
  const double bytes_before = shards->ResidentBytes();
  QFLEET_RETURN_IF_ERROR(
      Fill(shape, shards->addresses(), kLaps * kItems * 4 / 3));
  QFLEET_ASSIGN_OR_RETURN(const uint64_t steps_full, shards->Steps());
  const double per_step = (shards->ResidentBytes() - bytes_before) /
                          static_cast<double>(steps_full - steps_before);
  auto writer = MakeWriterLoad(shape, shards->addresses(), {});
  auto sampler = MakeSamplerLoad(shape, shards->addresses(), 512, 2);
  std::atomic<bool> done = false;
  absl::Status status;
  std::thread sampling([&] {
    while (!done && status.ok()) {
      status = sampler->Run(absl::Seconds(1)).status();
    }
  });
  std::vector<double> resident;
  double steps = 0;
  const absl::Time start = absl::Now();
  // What the first answers of their size need is not growth.
  QFLEET_RETURN_IF_ERROR(writer->Run(absl::Seconds(5)).status());
  while (absl::Now() - start < options.soak) {
    QFLEET_ASSIGN_OR_RETURN(const Moved moved, writer->Run(absl::Seconds(1)));
    steps += moved.items;
    resident.push_back(shards->ResidentBytes() / (1 << 20));
  }
  done = true;
  sampling.join();
  QFLEET_RETURN_IF_ERROR(status);
  Row row = {absl::StrCat("resident size of a full shard of 84x84 frames, ",
                          absl::ToInt64Seconds(options.soak), " s, ",
                          static_cast<uint64_t>(steps), " steps",
                          options.durable ? ", in files" : ""),
             "MiB",
             {{"resident", resident}},
             {},
             ""};
  row.checks.push_back({"most / least resident", Range(resident), false, 1.05});
  row.checks.push_back({"bytes that a step with its item adds", per_step, false,
                        1.05 * 84 * 84 + 200});
  return row;
}

}  // namespace qfleet::bench
