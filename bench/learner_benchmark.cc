// Updates per second of the learner beside PyTorch of the same version doing
// the same update on the same batch (bench/learner_torch.py), one thread each,
// and on a GPU, where there is one; and with a replay shard over gRPC beside a
// batch in memory.
//
//   learner_benchmark --python=python3 --script=bench/learner_torch.py
//       --work_dir=DIR [--cases=a,b] [--out=FILE]
//
// bench/learner.sh runs it with a folder that is removed afterwards.

#include <cmath>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "bench/alternate.h"
#include "bench/child_process.h"
#include "bench/learner_case.h"
#include "bench/peer.h"
#include "bench/report.h"
#include "bench/servers.h"
#include "common/metrics.h"
#include "common/process.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "learner/trainer.h"
#include "model/device.h"
#include "model/runtime.h"
#include "replay_client/remote_sampler.h"
#include "replay_client/remote_writer.h"
#include "spdlog/spdlog.h"

namespace qfleet::bench {
namespace {

// After so many updates from the same weights both sides have the same
// priorities, up to rounding: what is compared is the same computation.
constexpr int kCheckedUpdates = 20;
constexpr double kCheckTolerance = 1e-3;

struct Flags {
  Places places;
  std::string python = "python3";
  std::string script;
  std::string cases;
  std::string out;
  int rounds = 5;
  double round_seconds = 2;
};

// An update of the fixed batch, tensors included, as Trainer makes it.
class FixedUpdate {
 public:
  FixedUpdate(v1::Config config, std::unique_ptr<Algorithm> algorithm,
              SampleBatch batch)
      : config_(std::move(config)),
        algorithm_(std::move(algorithm)),
        batch_(std::move(batch)) {}

  UpdateResult Once() {
    Batch batch(config_.replay().table().signature(), batch_,
                config_.replay().beta());
    return algorithm_->Update(batch);
  }

  // The result of the newest batch, waited for.
  UpdateResult Newest() {
    UpdateResult result = Once();
    UpdateResult owed = algorithm_->Finish();
    return owed.pending ? result : owed;
  }

  // Updates per second; `cpu_us`: of CPU time for one.
  double Rate(double seconds, double& cpu_us) {
    const absl::Time begun = absl::Now();
    const double cpu = OwnCpuSeconds();
    double updates = 0;
    double passed = 0;
    do {
      Once();
      ++updates;
      passed = absl::ToDoubleSeconds(absl::Now() - begun);
    } while (passed < seconds);
    algorithm_->Finish();  // On a device.
    passed = absl::ToDoubleSeconds(absl::Now() - begun);
    cpu_us = (OwnCpuSeconds() - cpu) / updates * 1e6;
    return updates / passed;
  }

  const Algorithm& algorithm() const { return *algorithm_; }

 private:
  const v1::Config config_;
  const std::unique_ptr<Algorithm> algorithm_;
  const SampleBatch batch_;
};

absl::StatusOr<std::unique_ptr<FixedUpdate>> MakeFixedUpdate(
    const LearnerCase& learner_case, const std::string& work_dir,
    const Placement& placement = {}) {
  QFLEET_ASSIGN_OR_RETURN(v1::Config config, ConfigOf(learner_case));
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Algorithm> algorithm,
                          MakeLearner(learner_case, config, placement));
  SampleBatch batch = FixedBatch(learner_case);
  QFLEET_RETURN_IF_ERROR(
      WriteCase(learner_case, config, *algorithm, batch, work_dir));
  return std::make_unique<FixedUpdate>(std::move(config), std::move(algorithm),
                                       std::move(batch));
}

absl::Status CheckSameUpdate(const LearnerCase& learner_case, FixedUpdate& ours,
                             Peer& theirs) {
  double sum = 0;
  for (int i = 0; i < kCheckedUpdates; ++i) {
    sum = 0;
    for (float priority : ours.Newest().priorities) sum += priority;
  }
  QFLEET_ASSIGN_OR_RETURN(
      const double expected,
      theirs.AskNumber(absl::StrCat("check ", kCheckedUpdates)));
  if (std::abs(sum - expected) <= kCheckTolerance * std::abs(expected)) {
    return absl::OkStatus();
  }
  return absl::InternalError(
      absl::StrCat(learner_case.name, ": |TD errors| of update ",
                   kCheckedUpdates, " sum to ", sum, ": allowed is PyTorch's ",
                   expected, " within 0.1 %; the two do not compute the same"));
}

// PyTorch as it comes, and with glibc's allocator set as TuneProcess sets ours,
// which an implementation in Python could do from outside.
absl::StatusOr<Row> BesidePyTorch(const LearnerCase& learner_case,
                                  const Flags& flags) {
  Row row = {absl::StrCat("learner, ", learner_case.title),
             "updates/s",
             {Side{"qfleet", {}}, Side{"PyTorch", {}},
              Side{"PyTorch, allocator tuned", {}}},
             {},
             ""};
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<FixedUpdate> ours,
                          MakeFixedUpdate(learner_case, flags.places.work_dir));
  const std::vector<std::string> command = {
      flags.python, flags.script, learner_case.name,
      absl::StrCat(flags.places.work_dir, "/", learner_case.name, ".bin")};
  std::vector<std::pair<std::string, std::string>> environment = {
      {"OMP_NUM_THREADS", "1"}, {"OPENBLAS_NUM_THREADS", "1"}};
  Peer plain(command, environment);
  environment.emplace_back("MALLOC_MMAP_THRESHOLD_", "1073741824");
  environment.emplace_back("MALLOC_TRIM_THRESHOLD_", "1073741824");
  Peer tuned(command, environment);

  QFLEET_ASSIGN_OR_RETURN(const double parameters,
                          plain.AskNumber("parameters"));
  const int64_t own = ours->algorithm().network().parameter_count();
  if (static_cast<double>(own) != parameters) {
    row.skipped = absl::StrCat(
        "qfleet's network, ", ours->algorithm().network().signature(), ", has ",
        own, " parameters, PyTorch's ", parameters);
    return row;
  }
  QFLEET_RETURN_IF_ERROR(CheckSameUpdate(learner_case, *ours, plain));

  const std::string question = absl::StrCat("run ", flags.round_seconds);
  QFLEET_RETURN_IF_ERROR(Alternate(
      flags.rounds, row.sides, [&](size_t side) -> absl::StatusOr<double> {
        double rate = 0;
        double cpu_us = 0;
        if (side == 0) {
          rate = ours->Rate(flags.round_seconds, cpu_us);
        } else {
          Peer& peer = side == 1 ? plain : tuned;
          QFLEET_ASSIGN_OR_RETURN(rate, peer.AskNumber(question));
          QFLEET_ASSIGN_OR_RETURN(cpu_us, peer.AskNumber("cpu"));
        }
        row.sides[side].cost_rounds.push_back(cpu_us);
        return rate;
      }));
  // The second is less changed by what else the machine does.
  row.checks = {
      {"times PyTorch", MedianRatio(row.sides[0].rounds, row.sides[1].rounds),
       true, learner_case.least_ratio},
      {"times PyTorch, by CPU time",
       MedianRatio(row.sides[1].cost_rounds, row.sides[0].cost_rounds), true,
       learner_case.least_ratio}};
  return row;
}

// The update on the machine's first GPU, beside PyTorch on the same, as it
// comes and compiled.
absl::StatusOr<Row> OnDevice(const LearnerCase& learner_case,
                             const Flags& flags) {
  Row row = {
      absl::StrCat("learner on cuda, ", learner_case.title),
      "updates/s",
      {Side{"qfleet", {}}, Side{"PyTorch", {}}, Side{"torch.compile", {}},
       Side{"torch.compile, CUDA graphs", {}}},
      {},
      ""};
  const absl::StatusOr<at::Device> device = FindDevice("cuda");
  if (!device.ok()) {
    row.skipped = absl::StrCat("not measured: no CUDA device (",
                               device.status().message(), ")");
    return row;
  }
  row.title = absl::StrCat("learner on ", DeviceText(*device), ", ",
                           learner_case.title);
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<FixedUpdate> ours,
                          MakeFixedUpdate(learner_case, flags.places.work_dir,
                                          {.device = *device, .staged = true}));
  std::vector<std::unique_ptr<Peer>> peers;
  for (const char* mode : {"eager", "compile", "graphs"}) {
    const std::vector<std::string> command = {
        flags.python,
        flags.script,
        learner_case.name,
        absl::StrCat(flags.places.work_dir, "/", learner_case.name, ".bin"),
        absl::StrCat("--rows=", learner_case.batch_size),
        "--device=cuda",
        absl::StrCat("--mode=", mode)};
    peers.push_back(std::make_unique<Peer>(
        command, std::vector<std::pair<std::string, std::string>>{}));
  }
  QFLEET_RETURN_IF_ERROR(CheckSameUpdate(learner_case, *ours, *peers[0]));
  // Compiling takes long, and the first question does it.
  for (size_t i = 1; i < peers.size(); ++i) {
    QFLEET_RETURN_IF_ERROR(
        peers[i]->AskNumber(absl::StrCat("check ", kCheckedUpdates)).status());
  }
  QFLEET_RETURN_IF_ERROR(Alternate(
      flags.rounds, row.sides, [&](size_t side) -> absl::StatusOr<double> {
        double cpu_us = 0;
        if (side == 0) return ours->Rate(flags.round_seconds, cpu_us);
        return peers[side - 1]->AskNumber(
            absl::StrCat("run ", flags.round_seconds));
      }));
  for (size_t side = 1; side < row.sides.size(); ++side) {
    row.checks.push_back(
        {absl::StrCat("times ", row.sides[side].name),
         MedianRatio(row.sides[0].rounds, row.sides[side].rounds), true, 1});
  }
  return row;
}

// ------------------------------------------------------------- over gRPC ---

// The same batch each time; priorities go nowhere.
class FixedSampler : public Sampler {
 public:
  explicit FixedSampler(SampleBatch batch) : batch_(std::move(batch)) {}

  absl::StatusOr<std::unique_ptr<SampleBatch>> Next() override {
    return std::make_unique<SampleBatch>(batch_);
  }
  absl::Status UpdatePriorities(absl::Span<const SampleKey>,
                                absl::Span<const float>) override {
    return absl::OkStatus();
  }
  ReplayView View() const override { return {}; }

 private:
  const SampleBatch batch_;
};

// Items of one transition, of the rows of a fixed batch in turn.
absl::Status FillShard(const LearnerCase& learner_case,
                       const std::string& address, uint64_t steps) {
  constexpr uint32_t kStreams = 16;
  constexpr uint64_t kEpisodeSteps = 200;
  WriterOptions options;
  options.table = "replay";
  options.signature = learner_case.shape.signature;
  options.shards = {address};
  options.batch_bytes = 512 << 10;
  options.batch_steps = 512;
  options.max_unacknowledged_steps = 4096;
  options.patience = absl::Seconds(60);
  const std::unique_ptr<RemoteWriter> writer = MakeRemoteWriter(options);

  const SampleBatch rows = FixedBatch(learner_case);
  const int count = rows.rows();
  auto cell = [&](size_t column, uint64_t row) {
    const std::string& bytes = rows.columns[column];
    const size_t size = bytes.size() / count;
    return ColumnRow(bytes).subspan(row % count * size, size);
  };
  Random random(7);
  for (uint64_t i = 0; i < steps; ++i) {
    const auto stream = static_cast<uint32_t>(i % kStreams);
    const uint64_t row = random.Bits();
    const bool starts = i / kStreams % kEpisodeSteps == 0;
    const std::vector<ColumnRow> step = {cell(3, row)};  // observation
    QFLEET_ASSIGN_OR_RETURN(const uint64_t index,
                            writer->AppendStep(stream, starts, step));
    if (starts) continue;
    const std::vector<ColumnRow> item = {cell(0, row), cell(1, row),
                                         cell(2, row)};
    QFLEET_RETURN_IF_ERROR(
        writer->AppendItem(stream, index - 1, index, item,
                           static_cast<float>(random.Uniform(0.1, 1))));
  }
  return writer->Flush();
}

struct TrainerRate {
  double updates_per_second = 0;
  double waiting = 0;  // Share of the time.
};

absl::StatusOr<TrainerRate> RunTrainer(Trainer& trainer, double seconds,
                                       int warm_up) {
  for (int i = 0; i < warm_up; ++i) QFLEET_RETURN_IF_ERROR(trainer.Step());
  trainer.TakeAccount();
  const absl::Time begun = absl::Now();
  double passed = 0;
  do {
    QFLEET_RETURN_IF_ERROR(trainer.Step());
    passed = absl::ToDoubleSeconds(absl::Now() - begun);
  } while (passed < seconds);
  const TrainerAccount account = trainer.TakeAccount();
  return TrainerRate{static_cast<double>(account.updates) / passed,
                     account.wait_seconds / passed};
}

absl::StatusOr<std::unique_ptr<Trainer>> MakeTrainer(
    const LearnerCase& learner_case, const v1::Config& config,
    Sampler& sampler) {
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Algorithm> algorithm,
                          MakeLearner(learner_case, config));
  return std::make_unique<Trainer>(config, std::move(algorithm), sampler);
}

// The learner's loop with a shard that is full and not limited, in a process of
// its own, beside the same loop with one batch in memory.
absl::StatusOr<Row> OverGrpc(const LearnerCase& learner_case,
                             const Flags& flags) {
  constexpr uint64_t kSteps = 40000;
  QFLEET_ASSIGN_OR_RETURN(const v1::Config config, ConfigOf(learner_case));
  QFLEET_ASSIGN_OR_RETURN(
      auto shards, Shards::Start(flags.places, config.replay().table(), 1,
                                 /*durable=*/false));
  QFLEET_RETURN_IF_ERROR(
      FillShard(learner_case, shards->addresses()[0], kSteps));

  FixedSampler fixed(FixedBatch(learner_case));
  SamplerOptions options;
  options.table = "replay";
  options.signature = learner_case.shape.signature;
  options.shards = shards->addresses();
  options.batch_size = config.learner().batch_size();
  options.prefetch = config.learner().prefetch();
  options.patience = absl::Seconds(20);
  Metrics metrics;
  const std::unique_ptr<RemoteSampler> remote =
      MakeRemoteSampler(options, metrics);
  QFLEET_ASSIGN_OR_RETURN(auto in_memory,
                          MakeTrainer(learner_case, config, fixed));
  QFLEET_ASSIGN_OR_RETURN(auto over_grpc,
                          MakeTrainer(learner_case, config, *remote));

  Row row = {absl::StrCat("learner over gRPC, ", learner_case.title, ", ",
                          over_grpc->algorithm().network().signature()),
             "updates/s",
             {Side{"sampled over gRPC", {}}, Side{"one batch in memory", {}}},
             {},
             ""};
  std::vector<double> waiting;
  QFLEET_RETURN_IF_ERROR(Alternate(
      flags.rounds, row.sides, [&](size_t side) -> absl::StatusOr<double> {
        // What was prefetched while nobody measured is used up first.
        const double cpu = OwnCpuSeconds() + shards->CpuSeconds();
        const int64_t before = over_grpc->updates() + in_memory->updates();
        QFLEET_ASSIGN_OR_RETURN(
            const TrainerRate rate,
            RunTrainer(side == 0 ? *over_grpc : *in_memory, flags.round_seconds,
                       2 * config.learner().prefetch()));
        if (side == 0) waiting.push_back(rate.waiting);
        row.sides[side].cost_rounds.push_back(
            (OwnCpuSeconds() + shards->CpuSeconds() - cpu) /
            static_cast<double>(over_grpc->updates() + in_memory->updates() -
                                before) *
            1e6);
        return rate.updates_per_second;
      }));
  // Of the round that is not counted.
  waiting.erase(waiting.begin());
  row.checks = {
      {"of the rate in memory",
       MedianRatio(row.sides[0].rounds, row.sides[1].rounds), true, 0.9},
      {"of the time waiting for the replay", Median(waiting), false, 0.05}};
  remote->Stop();
  return row;
}

absl::Status Measure(Flags flags) {
  flags.places.bin_dir =
      std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
  const std::string torch = InitTorch(1);
  const std::string date =
      absl::FormatTime("%Y-%m-%d", absl::Now(), absl::UTCTimeZone());
  std::cout << MachineText() << ", " << date << ", " << torch << ", median of "
            << flags.rounds << " rounds of " << flags.round_seconds
            << " s each side in turn\n\n";
  const std::vector<std::string> only =
      absl::StrSplit(flags.cases, ',', absl::SkipEmpty());
  auto chosen = [&](const std::string& name) {
    return only.empty() || absl::c_linear_search(only, name);
  };
  Report report;
  for (const LearnerCase& learner_case : LearnerCases()) {
    if (!chosen(learner_case.name)) continue;
    QFLEET_ASSIGN_OR_RETURN(Row row, BesidePyTorch(learner_case, flags));
    report.Add(std::move(row));
  }
  for (const LearnerCase& learner_case : DeviceCases()) {
    if (!chosen("cuda")) continue;
    QFLEET_ASSIGN_OR_RETURN(Row row, OnDevice(learner_case, flags));
    report.Add(std::move(row));
  }
  for (const LearnerCase& learner_case : LearnerCases()) {
    if (!learner_case.measured_grpc || !chosen("grpc")) continue;
    QFLEET_ASSIGN_OR_RETURN(Row row, OverGrpc(learner_case, flags));
    report.Add(std::move(row));
  }
  report.PrintChecks();
  return report.Write(flags.out,
                      {{"date", date},
                       {"libtorch", torch},
                       {"rounds", flags.rounds},
                       {"round_seconds", flags.round_seconds}});
}

int Main(int argc, char** argv) {
  TuneProcess();
  CLI::App app("The learner beside PyTorch, and over gRPC",
               "learner_benchmark");
  Flags flags;
  bool version = false;
  app.add_option("--python", flags.python, "Python with torch")
      ->capture_default_str();
  app.add_option("--script", flags.script, "bench/learner_torch.py");
  app.add_option("--work_dir", flags.places.work_dir,
                 "Folder for sockets and logs; its path must be short");
  app.add_option("--cases", flags.cases,
                 "mlp, minatar, nature, cuda, grpc, by commas; none: all");
  app.add_option("--rounds", flags.rounds)->capture_default_str();
  app.add_option("--round_seconds", flags.round_seconds)->capture_default_str();
  app.add_option("--out", flags.out, "JSON file");
  app.add_flag("--libtorch", version, "Print LibTorch's version instead");
  if (int code = ParseFlags(app, argc, argv); code >= 0) return code;
  InitLog("learner_benchmark");
  spdlog::set_level(spdlog::level::err);
  if (version) {
    std::cout << InitTorch(1) << std::endl;
    return kExitReached;
  }
  const absl::Status status = Measure(std::move(flags));
  return status.ok() ? kExitReached : Fail("learner_benchmark", status);
}

}  // namespace
}  // namespace qfleet::bench

int main(int argc, char** argv) { return qfleet::bench::Main(argc, argv); }
