#include "bench/servers.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/files.h"
#include "common/grpc.h"
#include "common/status_macros.h"
#include "common/table_layout.h"
#include "google/protobuf/text_format.h"
#include "grpcpp/client_context.h"
#include "qfleet/v1/config.pb.h"
#include "qfleet/v1/replay.grpc.pb.h"

namespace qfleet::bench {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

std::string FreshName(const std::string& kind) {
  static std::atomic<int> number = 0;
  return absl::StrCat(kind, number++);
}

}  // namespace

v1::SecurityConfig TestSecurity(const std::string& certificates) {
  v1::SecurityConfig security;
  security.set_ca(certificates + "/ca.crt");
  security.set_certificate(certificates + "/server.crt");
  security.set_key(certificates + "/server.key");
  return security;
}

Shards::Shards(Places places, bool durable)
    : places_(std::move(places)),
      durable_(durable),
      folder_(FreshName("cluster")) {}

Shards::~Shards() {
  processes_.clear();
  if (!durable_) return;
  std::error_code error;
  std::filesystem::remove_all(absl::StrCat(places_.data_dir, "/", folder_),
                              error);
}

absl::StatusOr<std::unique_ptr<Shards>> Shards::Start(
    const Places& places, const v1::TableSpec& table, int count, bool durable,
    const v1::ClusterConfig* tcp) {
  auto shards = std::unique_ptr<Shards>(new Shards(places, durable));
  const std::string folder =
      absl::StrCat(places.work_dir, "/", shards->folder_);
  std::filesystem::create_directories(folder);
  for (int s = 0; s < count; ++s) {
    shards->addresses_.push_back(
        tcp != nullptr ? "127.0.0.1:0" : absl::StrCat("unix:", folder, "/", s));
  }
  v1::Config config;
  if (tcp != nullptr) *config.mutable_cluster() = *tcp;
  *config.mutable_replay()->mutable_table() = table;
  std::string text;
  google::protobuf::TextFormat::PrintToString(config, &text);
  QFLEET_RETURN_IF_ERROR(
      WriteFileAtomically(absl::StrCat(folder, "/config.txtpb"), text));
  QFLEET_RETURN_IF_ERROR(shards->StartProcesses());
  return shards;
}

absl::Status Shards::StartProcesses() {
  const std::string folder = absl::StrCat(places_.work_dir, "/", folder_);
  for (size_t s = 0; s < addresses_.size(); ++s) {
    std::vector<std::string> command = {
        absl::StrCat(places_.bin_dir, "/qfleet-replay"),
        absl::StrCat("--config=", folder, "/config.txtpb"),
        absl::StrCat("--listen=", addresses_[s]),
        absl::StrCat("--ready_file=", folder, "/", s, ".ready"),
        absl::StrCat("--shard=", s)};
    if (durable_) {
      const std::string data =
          absl::StrCat(places_.data_dir, "/", folder_, "/", s);
      std::filesystem::create_directories(data);
      command.push_back(absl::StrCat("--data_dir=", data));
    }
    processes_.push_back(std::make_unique<ChildProcess>(
        command, absl::StrCat(folder, "/", s, ".log"), places_.server_cores(),
        places_.fixed_addresses));
  }
  for (size_t s = 0; s < processes_.size(); ++s) {
    QFLEET_RETURN_IF_ERROR(processes_[s]->AwaitReady(
        absl::StrCat(folder, "/", s, ".ready"), kPatience));
    // With the port that was chosen.
    QFLEET_ASSIGN_OR_RETURN(const std::string ready,
                            ReadFile(absl::StrCat(folder, "/", s, ".ready")));
    const std::vector<std::string> words =
        absl::StrSplit(ready, absl::ByAnyChar(" \n"));
    addresses_[s] = words.at(1);
  }
  return absl::OkStatus();
}

absl::Status Shards::KillAndRestart() {
  processes_.clear();
  for (size_t s = 0; s < addresses_.size(); ++s) {
    std::filesystem::remove(
        absl::StrCat(places_.work_dir, "/", folder_, "/", s, ".ready"));
  }
  return StartProcesses();
}

absl::StatusOr<v1::DescribeResponse> Shards::Describe(
    const std::string& address) const {
  auto stub = v1::Replay::NewStub(MakeChannel(address));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
  v1::DescribeResponse response;
  QFLEET_RETURN_IF_ERROR(FromGrpc(stub->Describe(&context, {}, &response)));
  return response;
}

absl::StatusOr<uint64_t> Shards::Items() const {
  uint64_t items = 0;
  for (const std::string& address : addresses_) {
    QFLEET_ASSIGN_OR_RETURN(const auto response, Describe(address));
    for (const auto& table : response.tables()) items += table.stats().size();
  }
  return items;
}

absl::StatusOr<uint64_t> Shards::Steps() const {
  uint64_t steps = 0;
  for (const std::string& address : addresses_) {
    QFLEET_ASSIGN_OR_RETURN(const auto response, Describe(address));
    for (const auto& table : response.tables()) {
      QFLEET_ASSIGN_OR_RETURN(const uint64_t capacity,
                              StepCapacity(table.spec()));
      steps += std::min(table.stats().steps(), capacity);
    }
  }
  return steps;
}

double Shards::ResidentBytes() const {
  double bytes = 0;
  for (const auto& process : processes_) bytes += process->ResidentBytes();
  return bytes;
}

double Shards::CpuSeconds() const {
  double seconds = 0;
  for (const auto& process : processes_) seconds += process->CpuSeconds();
  return seconds;
}

absl::StatusOr<std::unique_ptr<RawServer>> RawServer::Start(
    const Places& places) {
  const std::string path = absl::StrCat(places.work_dir, "/", FreshName("raw"));
  auto server =
      std::unique_ptr<RawServer>(new RawServer(absl::StrCat("unix:", path)));
  const std::string ready = absl::StrCat(path, ".ready");
  server->process_ = std::make_unique<ChildProcess>(
      std::vector<std::string>{
          absl::StrCat(places.bin_dir, "/replay_benchmark"),
          absl::StrCat("--raw_server=", server->address()),
          absl::StrCat("--ready_file=", ready)},
      absl::StrCat(path, ".log"), places.server_cores(),
      places.fixed_addresses);
  QFLEET_RETURN_IF_ERROR(server->process_->AwaitReady(ready, kPatience));
  return server;
}

bool ReplayKnowsFlag(const Places& places, const std::string& flag) {
  const std::string log = absl::StrCat(places.work_dir, "/", FreshName("help"));
  ChildProcess help({absl::StrCat(places.bin_dir, "/qfleet-replay"), "--help"},
                    log);
  if (!help.AwaitEnd(kPatience).ok()) return false;
  absl::StatusOr<std::string> text = ReadFile(log);
  return text.ok() && absl::StrContains(*text, flag);
}

}  // namespace qfleet::bench
