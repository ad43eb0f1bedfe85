// qfleet status: what a running cluster does.

#include <algorithm>
#include <chrono>
#include <future>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/dial_flags.h"
#include "cli/status_table.h"
#include "common/grpc.h"
#include "common/process.h"
#include "qfleet/v1/replay.grpc.pb.h"
#include "qfleet/v1/weights.grpc.pb.h"

namespace qfleet {
namespace {

constexpr std::chrono::seconds kDeadline(2);

struct StatusFlags {
  DialFlags dial;
  bool json = false;
};

// Asks first as if a learner were there; a shard says that it is none.
ProcessStatus Ask(const std::string& address) {
  ProcessStatus process;
  process.address = address;
  std::shared_ptr<grpc::Channel> channel = MakeChannel(address);
  const auto deadline = std::chrono::system_clock::now() + kDeadline;
  {
    grpc::ClientContext context;
    context.set_deadline(deadline);
    v1::RunReport run;
    grpc::Status status =
        v1::Weights::NewStub(channel)->Describe(&context, {}, &run);
    if (status.ok()) process.run = std::move(run);
    process.error = FromGrpc(status);
  }
  if (process.error.code() == absl::StatusCode::kUnimplemented) {
    grpc::ClientContext context;
    context.set_deadline(deadline);
    v1::DescribeResponse shard;
    grpc::Status status =
        v1::Replay::NewStub(channel)->Describe(&context, {}, &shard);
    if (status.ok()) process.shard = std::move(shard);
    process.error = FromGrpc(status);
  }
  return process;
}

int RunStatus(const StatusFlags& flags) {
  if (const absl::Status status = flags.dial.Use(); !status.ok()) {
    return Fail("qfleet", status);
  }
  std::vector<std::future<ProcessStatus>> answers;
  for (const std::string& address : flags.dial.addresses) {
    answers.push_back(std::async(std::launch::async, Ask, address));
  }
  std::vector<ProcessStatus> processes;
  for (auto& answer : answers) processes.push_back(answer.get());
  if (flags.json) {
    std::cout << StatusJson(processes).dump(2) << "\n";
  } else {
    std::cout << StatusTable(processes);
  }
  std::cout << std::flush;
  const bool all = std::all_of(
      processes.begin(), processes.end(),
      [](const ProcessStatus& process) { return process.error.ok(); });
  return all && std::cout.good() ? kExitReached : kExitFailed;
}

}  // namespace

void AddStatusCommand(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("status", "Print what a running cluster does");
  auto flags = std::make_shared<StatusFlags>();
  flags->dial.Register(*command, "a shard or a learner");
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, &exit_code] { exit_code = RunStatus(*flags); });
}

}  // namespace qfleet
