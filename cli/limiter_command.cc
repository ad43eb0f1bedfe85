// qfleet limiter: changes the rate limiter of running shards.

#include <chrono>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/dial_flags.h"
#include "cli/format.h"
#include "common/grpc.h"
#include "common/process.h"
#include "common/status_macros.h"
#include "qfleet/v1/replay.grpc.pb.h"

namespace qfleet {
namespace {

constexpr std::chrono::seconds kDeadline(5);

struct LimiterFlags {
  DialFlags dial;
  std::string table = "replay";
  std::optional<double> samples_per_insert;
  std::optional<double> tolerance;
  std::optional<uint64_t> min_size;
};

std::string Text(const v1::RateLimiter& limiter) {
  return absl::StrCat("samples_per_insert ", limiter.samples_per_insert(),
                      ", tolerance ", limiter.tolerance(), ", min_size ",
                      limiter.min_size());
}

absl::StatusOr<v1::RateLimiter> Present(v1::Replay::Stub& stub,
                                        const std::string& table) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  v1::DescribeResponse shard;
  QFLEET_RETURN_IF_ERROR(FromGrpc(stub.Describe(&context, {}, &shard)));
  for (const v1::TableInfo& info : shard.tables()) {
    if (info.spec().name() == table) return info.spec().rate_limiter();
  }
  return absl::NotFoundError(absl::StrCat("no table \"", table, "\""));
}

absl::Status Set(const std::string& address, const LimiterFlags& flags) {
  auto stub = v1::Replay::NewStub(MakeChannel(address));
  QFLEET_ASSIGN_OR_RETURN(const v1::RateLimiter before,
                          Present(*stub, flags.table));
  v1::SetRateLimiterRequest request;
  request.set_table(flags.table);
  v1::RateLimiter& limiter = *request.mutable_rate_limiter();
  limiter = before;
  if (flags.samples_per_insert) {
    limiter.set_samples_per_insert(*flags.samples_per_insert);
  }
  if (flags.tolerance) limiter.set_tolerance(*flags.tolerance);
  if (flags.min_size) limiter.set_min_size(*flags.min_size);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  v1::SetRateLimiterResponse response;
  QFLEET_RETURN_IF_ERROR(
      FromGrpc(stub->SetRateLimiter(&context, request, &response)));
  std::cout << address << ": " << Text(limiter) << " (was "
            << Text(response.previous()) << ")" << std::endl;
  return absl::OkStatus();
}

int RunLimiter(const LimiterFlags& flags) {
  if (const absl::Status status = flags.dial.Use(); !status.ok()) {
    return Fail("qfleet", status);
  }
  int code = kExitReached;
  for (const std::string& address : flags.dial.addresses) {
    const absl::Status status = Set(address, flags);
    if (status.ok()) continue;
    code = Fail("qfleet",
                absl::Status(status.code(),
                             absl::StrCat(address, ": ", status.message())));
  }
  return code;
}

}  // namespace

void AddLimiterCommand(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("limiter",
                         "Change the rate limiter of running shards; name all "
                         "shards of a cluster");
  auto flags = std::make_shared<LimiterFlags>();
  flags->dial.Register(*command, "a shard");
  command->add_option("--table", flags->table, "The table")
      ->capture_default_str();
  command->add_option("--samples_per_insert", flags->samples_per_insert,
                      "How often an item is sampled on average; 0: no limit");
  command->add_option("--tolerance", flags->tolerance,
                      "By how many samples that may be out of step");
  command->add_option("--min_size", flags->min_size,
                      "Items in the cluster from which on may be sampled");
  command->callback([flags, &exit_code] { exit_code = RunLimiter(*flags); });
}

}  // namespace qfleet
