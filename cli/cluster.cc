#include "cli/cluster.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace qfleet {
namespace {

// Learner first: it writes a checkpoint and needs no one for it. Shards last:
// actors and learner would take their end for a crash.
constexpr int kStopLearner = 0;
constexpr int kStopActors = 1;
constexpr int kStopShards = 2;
constexpr absl::Duration kLearnerGrace = absl::Seconds(30);
constexpr char kResume[] = "--resume";

SupervisedProcess Process(const std::string& name, const std::string& binary,
                          const std::vector<std::string>& flags,
                          const std::string& run_dir, int stop_order,
                          int threads) {
  SupervisedProcess process;
  process.child.name = name;
  process.child.command = {binary,
                           absl::StrCat("--config=", run_dir, "/config.txtpb")};
  for (const std::string& flag : flags) {
    process.child.command.push_back(flag);
  }
  process.child.command.push_back("--metrics=127.0.0.1:0");
  process.child.command.push_back(
      absl::StrCat("--ready_file=", run_dir, "/ready/", name));
  process.child.environment = ThreadEnvironment(threads);
  process.child.log = absl::StrCat(run_dir, "/logs/", name, ".log");
  process.stop_order = stop_order;
  return process;
}

}  // namespace

absl::StatusOr<std::string> BinaryDirectory() {
  std::error_code error;
  const std::filesystem::path self =
      std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) {
    return absl::InternalError(
        absl::StrCat("cannot read /proc/self/exe: ", error.message()));
  }
  return self.parent_path().string();
}

absl::Status CheckBinaries(const std::string& binaries,
                           const v1::Config& config, bool solo) {
  std::vector<std::string> names = {"qfleet-solo"};
  if (!solo) {
    names = {"qfleet-replay", "qfleet-learner", "qfleet-actor"};
    if (config.actors().relays() > 0) names.push_back("qfleet-relay");
  }
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(binaries, "/", name);
    if (access(path.c_str(), X_OK) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot run ", path));
    }
  }
  return absl::OkStatus();
}

void SetLocalSecurity(v1::Config& config) {
  v1::ClusterConfig local;
  const v1::ClusterConfig& cluster = config.cluster();
  if (cluster.has_limits()) *local.mutable_limits() = cluster.limits();
  if (const std::string& tokens = cluster.security().token_file();
      !tokens.empty()) {
    std::error_code error;
    const std::filesystem::path path = std::filesystem::absolute(tokens, error);
    local.mutable_security()->set_token_file(
        error ? tokens : path.lexically_normal().string());
  }
  *config.mutable_cluster() = std::move(local);
}

void SetAddresses(const std::string& sockets, v1::Config& config) {
  v1::ClusterConfig& cluster = *config.mutable_cluster();
  cluster.clear_replay();
  for (int i = 0; i < config.replay().shards(); ++i) {
    cluster.add_replay(absl::StrCat("unix:", sockets, "/replay-", i, ".sock"));
  }
  cluster.set_learner(absl::StrCat("unix:", sockets, "/learner.sock"));
  cluster.clear_relays();
  for (int i = 0; i < config.actors().relays(); ++i) {
    cluster.add_relays(absl::StrCat("unix:", sockets, "/relay-", i, ".sock"));
  }
}

std::vector<std::pair<std::string, std::string>> ThreadEnvironment(
    int threads) {
  return {{"OPENBLAS_NUM_THREADS", absl::StrCat(threads)},
          {"OMP_NUM_THREADS", absl::StrCat(threads)},
          {"OMP_WAIT_POLICY", "passive"}};
}

std::vector<SupervisedProcess> ProcessesOf(const v1::Config& config,
                                           const std::string& run_dir,
                                           const std::string& binaries,
                                           bool solo, bool resume) {
  const std::string run_flag = absl::StrCat("--run_dir=", run_dir);
  const int threads = config.learner().threads();
  std::vector<SupervisedProcess> processes;
  if (solo) {
    std::vector<std::string> flags = {run_flag};
    if (resume) flags.push_back(kResume);
    processes.push_back(Process("solo", binaries + "/qfleet-solo", flags,
                                run_dir, kStopLearner, threads));
    processes.back().ends_run = true;
    processes.back().grace = kLearnerGrace;
    return processes;
  }
  for (int i = 0; i < config.cluster().replay_size(); ++i) {
    processes.push_back(
        Process(absl::StrCat("replay-", i), binaries + "/qfleet-replay",
                {absl::StrCat("--shard=", i),
                 absl::StrCat("--listen=", config.cluster().replay(i)),
                 absl::StrCat("--data_dir=", run_dir, "/replay/shard-", i)},
                run_dir, kStopShards, 1));
  }
  std::vector<std::string> flags = {
      run_flag, absl::StrCat("--listen=", config.cluster().learner())};
  if (resume) flags.push_back(kResume);
  const int learners = config.learner().count();
  if (learners > 1) {
    // A file of this start's own: an old one would tell of learners long gone.
    flags.push_back(absl::StrCat("--rendezvous=file:", run_dir,
                                 "/ready/learners-",
                                 absl::ToUnixNanos(absl::Now())));
  }
  for (int rank = 0; rank < learners; ++rank) {
    processes.push_back(Process(
        rank == 0 ? "learner" : absl::StrCat("learner-", rank),
        binaries + "/qfleet-learner", flags, run_dir, kStopLearner, threads));
    SupervisedProcess& process = processes.back();
    process.ends_run = true;
    process.follows = rank > 0;
    process.grace = kLearnerGrace;
    if (learners == 1) {
      process.resume_flags = {kResume};
      // Whatever job `qfleet train` itself is part of.
      process.child.environment.emplace_back("WORLD_SIZE", "1");
      continue;
    }
    // The death of one is the end of all.
    process.child.environment.emplace_back("RANK", absl::StrCat(rank));
    process.child.environment.emplace_back("LOCAL_RANK", absl::StrCat(rank));
    process.child.environment.emplace_back("WORLD_SIZE",
                                           absl::StrCat(learners));
  }
  for (int i = 0; i < config.cluster().relays_size(); ++i) {
    processes.push_back(
        Process(absl::StrCat("relay-", i), binaries + "/qfleet-relay",
                {absl::StrCat("--index=", i)}, run_dir, kStopActors, 1));
  }
  const std::string actor = binaries + "/qfleet-actor";
  for (int i = 0; i < config.actors().count(); ++i) {
    processes.push_back(Process(absl::StrCat("actor-", i), actor,
                                {absl::StrCat("--actor=", i)}, run_dir,
                                kStopActors, 1));
  }
  processes.push_back(
      Process("evaluator", actor, {"--evaluator"}, run_dir, kStopActors, 1));
  return processes;
}

}  // namespace qfleet
