// What counting a shard's calls and messages costs it: the same small batches
// to two shards, of which one counts them, in turn. CPU time of the shard for
// each batch, which other processes on the machine disturb the least.
//
//   grpc_metrics_benchmark WORK_DIR [ROUNDS]

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/alternate.h"
#include "bench/child_process.h"
#include "bench/load.h"
#include "common/grpc.h"
#include "common/grpc_metrics.h"
#include "common/metrics.h"
#include "common/process.h"
#include "common/shutdown.h"
#include "common/status_macros.h"
#include "replay_server/service/replay_service.h"
#include "replay_server/service/shard.h"

namespace qfleet::bench {
namespace {

constexpr absl::Duration kRound = absl::Seconds(1);
constexpr uint32_t kBatchSteps[] = {1, 8};

// This program as a shard.
absl::Status Serve(const std::string& address, bool counts) {
  ShutdownSignal shutdown;
  Metrics metrics;
  Shard::Options options;
  options.tables = {TableOf(SmallShape(), 1 << 18)};
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Shard> shard,
                          Shard::Create(options, metrics));
  std::shared_ptr<const GrpcServerMetrics> calls;
  GrpcServer server;
  if (counts) {
    calls = std::make_shared<const GrpcServerMetrics>(
        metrics, std::vector<std::string>{v1::Replay::service_full_name()});
    server.Intercept(CountCalls(calls, ReplayService::CountedMethods()));
  }
  ReplayService service(shard.get(), calls);
  QFLEET_RETURN_IF_ERROR(
      server.Start(absl::StrCat("unix:", address), {&service}));
  QFLEET_RETURN_IF_ERROR(
      WriteReadyFile(absl::StrCat(address, ".ready"), server.address(), ""));
  shutdown.Wait();
  shard->Shutdown();
  server.Shutdown(absl::ZeroDuration());
  return absl::OkStatus();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::Status Compare(const std::string& self, const std::string& work_dir,
                     uint32_t batch_steps, int rounds) {
  AppendOptions append;
  append.batch_steps = batch_steps;
  std::vector<Side> sides = {{"not counted", {}}, {"counted", {}}};
  std::vector<std::unique_ptr<ChildProcess>> shards;
  std::vector<std::unique_ptr<Load>> loads;
  for (size_t i = 0; i < sides.size(); ++i) {
    const std::string address =
        absl::StrCat(work_dir, "/", batch_steps, "-", i);
    shards.push_back(std::make_unique<ChildProcess>(
        std::vector<std::string>{self, "--serve", address,
                                 i == 0 ? "no" : "yes"},
        address + ".log"));
    QFLEET_RETURN_IF_ERROR(
        shards[i]->AwaitReady(address + ".ready", absl::Seconds(60)));
    loads.push_back(
        MakeWriterLoad(SmallShape(), {absl::StrCat("unix:", address)}, append));
  }
  QFLEET_RETURN_IF_ERROR(
      Alternate(rounds, sides, [&](size_t side) -> absl::StatusOr<double> {
        const double before = shards[side]->CpuSeconds();
        QFLEET_ASSIGN_OR_RETURN(const Moved moved, loads[side]->Run(kRound));
        const double batches = moved.items / batch_steps;
        return 1e6 * (shards[side]->CpuSeconds() - before) / batches;
      }));
  const double without = Median(sides[0].rounds);
  const double with = Median(sides[1].rounds);
  std::vector<double> pairs;  // Of one round each: the machine changes.
  for (size_t r = 0; r < sides[0].rounds.size(); ++r) {
    pairs.push_back(sides[1].rounds[r] / sides[0].rounds[r]);
  }
  std::cout << absl::StrFormat(
                   "%d steps a batch: %.2f us of the shard's CPU a batch, "
                   "%.2f us counted; the median of %d pairs is %+.2f %%",
                   batch_steps, without, with, rounds,
                   100 * (Median(pairs) - 1))
            << std::endl;
  return absl::OkStatus();
}

absl::Status Main(const std::vector<std::string>& arguments) {
  if (arguments.size() == 4 && arguments[1] == "--serve") {
    return Serve(arguments[2], arguments[3] == "yes");
  }
  int rounds = 15;
  if (arguments.size() < 2 ||
      (arguments.size() > 2 && !absl::SimpleAtoi(arguments[2], &rounds))) {
    return absl::InvalidArgumentError(
        "allowed is grpc_metrics_benchmark WORK_DIR [ROUNDS]");
  }
  for (uint32_t batch_steps : kBatchSteps) {
    QFLEET_RETURN_IF_ERROR(
        Compare("/proc/self/exe", arguments[1], batch_steps, rounds));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace qfleet::bench

int main(int argc, char** argv) {
  const absl::Status status = qfleet::bench::Main({argv, argv + argc});
  return status.ok() ? 0 : qfleet::Fail("grpc_metrics_benchmark", status);
}
