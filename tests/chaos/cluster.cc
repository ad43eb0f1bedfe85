#include "tests/chaos/cluster.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

constexpr char kBin[] = QFLEET_BIN_DIR "/";
constexpr double kPatience = 60;
constexpr int kPort = 7700;  // In a network of its own nobody else has it.

// The body of GET /metrics, or nothing.
std::string Scrape(const std::string& address) {
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(address, absl::MaxSplits(':', 1));
  int port = 0;
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  if (!absl::SimpleAtoi(parts.second, &port) ||
      inet_pton(AF_INET, parts.first.c_str(), &to.sin_addr) != 1) {
    return "";
  }
  to.sin_port = htons(static_cast<uint16_t>(port));
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval limit = {.tv_sec = 1, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  std::string text;
  constexpr absl::string_view kGet =
      "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0 &&
      send(fd, kGet.data(), kGet.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(kGet.size())) {
    char block[4096];
    for (ssize_t n; (n = recv(fd, block, sizeof(block), 0)) > 0;) {
      text.append(block, static_cast<size_t>(n));
    }
  }
  close(fd);
  return absl::StrContains(text, " 200 ") ? text : "";
}

}  // namespace

Cluster::Cluster(const std::string& folder, const v1::Config& config,
                 const Network& network)
    : folder_(folder), config_(config), network_(network) {
  config_.mutable_replay()->set_shards(2);
  v1::ClusterConfig& cluster = *config_.mutable_cluster();
  cluster.add_replay(absl::StrCat("unix:", folder_, "/shard-0.sock"));
  cluster.add_replay(absl::StrCat(Network::kThere, ":", kPort));
  cluster.set_learner(absl::StrCat("unix:", folder_, "/learner.sock"));
  std::string text;
  google::protobuf::TextFormat::PrintToString(config_, &text);
  std::ofstream(folder_ + "/config.txtpb") << text;
  for (int s = 0; s < 2; ++s) {
    const std::string host = s == 0 ? "127.0.0.1" : Network::kThere;
    Add(absl::StrCat("shard-", s), "qfleet-replay",
        {absl::StrCat("--shard=", s),
         absl::StrCat("--listen=", cluster.replay(s)),
         absl::StrCat("--data_dir=", data_dir(s)),
         absl::StrCat("--metrics=", host, ":0")});
  }
  // Beyond loopback, though nobody else is in its network.
  members_["shard-1"].command.push_back("--insecure");
  members_["shard-1"].command =
      network_.There(std::move(members_["shard-1"].command));
  const std::string run_dir = absl::StrCat("--run_dir=", folder_, "/run");
  std::filesystem::create_directories(folder_ + "/run");
  Add("learner", "qfleet-learner",
      {run_dir, absl::StrCat("--listen=", cluster.learner()),
       "--metrics=127.0.0.1:0"});
  for (int a = 0; a < config_.actors().count(); ++a) {
    Add(absl::StrCat("actor-", a), "qfleet-actor",
        {absl::StrCat("--actor=", a), "--metrics=127.0.0.1:0"});
  }
  Add("evaluator", "qfleet-actor", {"--evaluator", "--metrics=127.0.0.1:0"});
}

void Cluster::Add(const std::string& name, const std::string& binary,
                  std::vector<std::string> flags) {
  Member& member = members_[name];
  member.command = {kBin + binary,
                    absl::StrCat("--config=", folder_, "/config.txtpb"),
                    absl::StrCat("--ready_file=", Path(name, "ready"))};
  member.command.insert(member.command.end(), flags.begin(), flags.end());
}

std::string Cluster::Path(const std::string& name,
                          const std::string& kind) const {
  return absl::StrCat(folder_, "/", name, ".", kind);
}

std::string Cluster::data_dir(int shard) const {
  return absl::StrCat(folder_, "/data-", shard);
}

std::vector<std::string> Cluster::names() const {
  std::vector<std::string> names;
  for (const auto& [name, member] : members_) names.push_back(name);
  return names;
}

void Cluster::Start(const std::string& name,
                    const std::vector<std::string>& more) {
  Member& member = members_.at(name);
  std::filesystem::remove(Path(name, "ready"));
  std::vector<std::string> command = member.command;
  command.insert(command.end(), more.begin(), more.end());
  member.process = std::make_unique<Process>(
      command, Path(absl::StrCat(name, "-", ++member.lives), "log"));
  member.counters.clear();
  ASSERT_TRUE(member.process->WaitUntil(
      [&] { return std::filesystem::exists(Path(name, "ready")); }, kPatience))
      << name << ": " << Output(name);
  std::ifstream file(Path(name, "ready"));
  for (std::string kind, address; file >> kind >> address;) {
    if (kind == "metrics") member.metrics = address;
  }
}

void Cluster::Kill(const std::string& name) {
  members_.at(name).process->Signal(SIGKILL);
  EXPECT_EQ(Await(name, kPatience), 128 + SIGKILL);
}

void Cluster::Freeze(const std::string& name) {
  members_.at(name).process->Signal(SIGSTOP);
}

void Cluster::Thaw(const std::string& name) {
  members_.at(name).process->Signal(SIGCONT);
}

int Cluster::Stop(const std::string& name) {
  members_.at(name).process->Signal(SIGTERM);
  return Await(name, kPatience);
}

int Cluster::Await(const std::string& name, double seconds) {
  Process& process = *members_.at(name).process;
  return process.WaitFor(seconds) ? process.exit_code() : -1;
}

double Cluster::Metric(const std::string& process, const std::string& metric) {
  Member& member = members_.at(process);
  const std::string text = Scrape(member.metrics);
  double sum = -1;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    double value = 0;
    if (space == line.npos ||
        !absl::SimpleAtod(absl::StripAsciiWhitespace(line.substr(space)),
                          &value)) {
      continue;
    }
    const absl::string_view series = line.substr(0, space);
    const absl::string_view name = series.substr(0, series.find('{'));
    if (name == metric) sum = std::max(sum, 0.0) + value;
    if (!absl::EndsWith(name, "_total")) continue;
    double& highest = member.counters[std::string(series)];
    EXPECT_GE(value, highest) << process << ": " << series << " fell";
    highest = std::max(highest, value);
  }
  return sum;
}

std::string Cluster::Output(const std::string& name) const {
  const Member& member = members_.at(name);
  return member.process == nullptr ? "" : member.process->Output();
}

}  // namespace qfleet
