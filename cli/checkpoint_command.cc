// qfleet checkpoint: has running shards write checkpoints of themselves.

#include <filesystem>
#include <future>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/commands.h"
#include "cli/dial_flags.h"
#include "cli/format.h"
#include "common/grpc.h"
#include "common/process.h"
#include "qfleet/v1/replay.grpc.pb.h"

namespace qfleet {
namespace {

struct CheckpointFlags {
  DialFlags dial;
  std::string directory;
  uint32_t keep = 0;
};

struct Answer {
  absl::Status status;
  v1::CheckpointResponse response;
};

// Without a deadline: how long it takes is the disk's business.
Answer Ask(const std::string& address, const v1::CheckpointRequest& request) {
  Answer answer;
  grpc::ClientContext context;
  answer.status =
      FromGrpc(v1::Replay::NewStub(MakeChannel(address))
                   ->Checkpoint(&context, request, &answer.response));
  return answer;
}

int RunCheckpoint(const CheckpointFlags& flags) {
  if (const absl::Status status = flags.dial.Use(); !status.ok()) {
    return Fail("qfleet", status);
  }
  v1::CheckpointRequest request;
  // Shards on this machine may have another working folder.
  request.set_directory(
      std::filesystem::absolute(flags.directory).lexically_normal().string());
  request.set_keep(flags.keep);
  std::vector<std::future<Answer>> answers;
  for (const std::string& address : flags.dial.addresses) {
    answers.push_back(std::async(std::launch::async, Ask, address, request));
  }
  int code = kExitReached;
  for (size_t a = 0; a < answers.size(); ++a) {
    const Answer answer = answers[a].get();
    const std::string& address = flags.dial.addresses[a];
    if (answer.status.ok()) {
      std::cout << address << ": " << answer.response.path() << ", "
                << Bytes(answer.response.bytes()) << " in "
                << absl::StrFormat("%.2f s", answer.response.seconds())
                << std::endl;
    } else {
      code = Fail(
          "qfleet",
          absl::Status(answer.status.code(),
                       absl::StrCat(address, ": ", answer.status.message())));
    }
  }
  return code;
}

}  // namespace

void AddCheckpointCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "checkpoint", "Have running shards write checkpoints while they serve");
  auto flags = std::make_shared<CheckpointFlags>();
  flags->dial.Register(*command, "a shard");
  command
      ->add_option("--directory", flags->directory,
                   "Folder, on the shard's machine, that gets one folder a "
                   "checkpoint")
      ->required();
  command
      ->add_option("--keep", flags->keep,
                   "Checkpoints of a shard that are kept; 0: all")
      ->capture_default_str();
  command->callback([flags, &exit_code] { exit_code = RunCheckpoint(*flags); });
}

}  // namespace qfleet
