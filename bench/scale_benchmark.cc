// What many actors cost: the streams of 64 into two shards, whose memory stays
// what it is, and 1,000 subscribers of weights, at the learner's service and
// behind a relay. Servers are processes of their own, on unix sockets.
//
//   scale_benchmark --work_dir=DIR [--rows=writers,weights] [--out=FILE]
//
// bench/scale.sh runs it with a folder that is removed afterwards.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "bench/child_process.h"
#include "bench/report.h"
#include "bench/servers.h"
#include "bench/subscribers.h"
#include "bench/weights_server.h"
#include "bench/workload.h"
#include "common/files.h"
#include "common/grpc.h"
#include "common/process.h"
#include "common/status_macros.h"
#include "grpcpp/client_context.h"
#include "qfleet/v1/weights.grpc.pb.h"
#include "replay_client/remote_writer.h"
#include "spdlog/spdlog.h"

namespace qfleet::bench {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr double kMiB = 1 << 20;
constexpr double kKiB = 1 << 10;

struct Flags {
  Places places;
  std::string only;
  std::string out;
  int writers = 64;
  double steps_per_second = 50;  // Of each of a writer's environments.
  double seconds = 30;
  int subscribers = 1000;
  int publications = 10;
  std::string weights_server;
  std::string ready_file;
};

// ---------------------------------------------------------------- writers ---

// As an actor's: batches by age, a connection to each shard.
struct Actor {
  Experience experience;
  std::unique_ptr<RemoteWriter> writer;

  absl::Status Step(uint32_t environments) {
    for (uint32_t e = 0; e < environments; ++e) {
      const Experience::Step& step = experience.Next();
      QFLEET_RETURN_IF_ERROR(
          writer
              ->AppendStep(step.stream, step.starts_episode, step.step_columns)
              .status());
      if (!step.has_item) continue;
      QFLEET_RETURN_IF_ERROR(writer->AppendItem(step.stream, step.item_first,
                                                step.index, step.item_columns,
                                                step.priority));
    }
    return writer->Poll();
  }
};

// All actors step at the given rate, for so long; `look` once a second.
absl::StatusOr<double> StepAll(std::vector<Actor>& actors,
                               uint32_t environments, double rate,
                               absl::Duration duration,
                               const std::function<void()>& look) {
  const absl::Time begun = absl::Now();
  const absl::Duration round = absl::Seconds(1 / rate);
  absl::Time due = begun;
  absl::Time looked = begun;
  double steps = 0;
  while (due < begun + duration) {
    for (Actor& actor : actors) {
      QFLEET_RETURN_IF_ERROR(actor.Step(environments));
    }
    steps += static_cast<double>(actors.size()) * environments;
    due += round;
    absl::SleepFor(due - absl::Now());
    if (absl::Now() - looked < absl::Seconds(1)) continue;
    looked = absl::Now();
    look();
  }
  return steps / absl::ToDoubleSeconds(absl::Now() - begun);
}

absl::StatusOr<std::vector<Row>> Writers(const Flags& flags) {
  constexpr uint32_t kEnvironments = 8;
  constexpr uint64_t kItems = 50'000;
  const Shape shape = MinAtarShape();
  QFLEET_ASSIGN_OR_RETURN(
      auto shards, Shards::Start(flags.places, TableOf(shape, kItems, 2), 2,
                                 /*durable=*/false));
  std::vector<Actor> actors;
  for (int i = 0; i < flags.writers; ++i) {
    WriterOptions options;
    options.table = "replay";
    options.signature = shape.signature;
    options.shards = shards->addresses();
    options.first_stream = i * kEnvironments;
    actors.push_back(
        {Experience(shape, kEnvironments), MakeRemoteWriter(options)});
  }
  const double rate = flags.steps_per_second;
  // Until the tables are full and turn over, and what the first messages of
  // each size need is there.
  const double items = flags.writers * kEnvironments * rate;
  QFLEET_RETURN_IF_ERROR(
      StepAll(actors, kEnvironments, rate,
              std::max(absl::Seconds(15),
                       absl::Seconds(4 * static_cast<double>(kItems) / items)),
              [] {})
          .status());
  const double cpu = shards->CpuSeconds();
  std::vector<double> resident = {shards->ResidentBytes() / kMiB};
  QFLEET_ASSIGN_OR_RETURN(
      const double reached,
      StepAll(actors, kEnvironments, rate, absl::Seconds(flags.seconds),
              [&] { resident.push_back(shards->ResidentBytes() / kMiB); }));
  const double used = shards->CpuSeconds() - cpu;
  uint64_t dropped = 0;
  for (Actor& actor : actors) {
    QFLEET_RETURN_IF_ERROR(actor.writer->Flush());
    dropped += actor.writer->Stats().items_dropped;
  }
  Row row = {absl::StrCat(flags.writers, " writers of ", kEnvironments,
                          " environments into 2 shards, ", flags.seconds,
                          " s at ", static_cast<int64_t>(reached), " steps/s"),
             "MiB resident, both shards",
             {{"at the start", {resident.front()}},
              {"over the run", resident},
              {"at the end", {resident.back()}}},
             {{"end / start", resident.back() / resident.front(), false, 1.05},
              {"items dropped", static_cast<double>(dropped), false, 0},
              {"share of the asked rate",
               reached / (flags.writers * kEnvironments * rate), true, 0.95},
              {"CPU us of the shards a step",
               used * 1e6 / reached / flags.seconds, false, 100}},
             ""};
  return std::vector<Row>{std::move(row)};
}

// ---------------------------------------------------------------- weights ---

// The learner's side, and a relay that follows it.
class WeightServers {
 public:
  static absl::StatusOr<std::unique_ptr<WeightServers>> Start(
      const Places& places) {
    auto servers = std::unique_ptr<WeightServers>(new WeightServers());
    static int number = 0;  // Memory that another case has left is no guide.
    const std::string folder =
        absl::StrCat(places.work_dir, "/weights", number++);
    std::filesystem::create_directories(folder);
    servers->learner_address = absl::StrCat("unix:", folder, "/learner");
    servers->relay_address = absl::StrCat("unix:", folder, "/relay");
    const auto start = [&](std::vector<std::string> command,
                           const std::string& name,
                           std::unique_ptr<ChildProcess>& process) {
      const std::string ready = absl::StrCat(folder, "/", name, ".ready");
      command.push_back(absl::StrCat("--ready_file=", ready));
      process = std::make_unique<ChildProcess>(
          command, absl::StrCat(folder, "/", name, ".log"));
      return process->AwaitReady(ready, kPatience);
    };
    QFLEET_RETURN_IF_ERROR(
        start({absl::StrCat(places.bin_dir, "/scale_benchmark"),
               absl::StrCat("--weights_server=", servers->learner_address)},
              "learner", servers->learner));
    const std::string config = absl::StrCat(folder, "/config.txtpb");
    QFLEET_RETURN_IF_ERROR(WriteFileAtomically(
        config,
        absl::StrCat("environment { id: \"CartPole-v1\" }\n",
                     "cluster { learner: \"", servers->learner_address,
                     "\" relays: \"", servers->relay_address, "\" }\n")));
    QFLEET_RETURN_IF_ERROR(start({absl::StrCat(places.bin_dir, "/qfleet-relay"),
                                  absl::StrCat("--config=", config)},
                                 "relay", servers->relay));
    return servers;
  }

  absl::Status Publish() {
    v1::EvaluationReport report;
    report.mutable_evaluation()->set_episodes(1);
    *report.mutable_policy() = MakePublication(++version_);
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    v1::ReportEvaluationResponse response;
    if (stub_ == nullptr) {
      stub_ = v1::Weights::NewStub(MakeChannel(learner_address));
    }
    return FromGrpc(stub_->ReportEvaluation(&context, report, &response));
  }

  std::string learner_address;
  std::string relay_address;
  std::unique_ptr<ChildProcess> learner;
  std::unique_ptr<ChildProcess> relay;

 private:
  WeightServers() = default;

  std::unique_ptr<v1::Weights::Stub> stub_;
  uint64_t version_ = 1;
};

struct WeightsMeasured {
  double connect_ms = 0;  // For one of all.
  double resident_kib = 0;
  double silent_cpu = 0;  // Share of a core.
  double reporting_cpu = 0;
  std::vector<double> publish_cpu_ms;
  double learner_cpu_ms = 0;  // Meanwhile, for a publication.
  std::vector<double> publish_seconds;
};

absl::StatusOr<WeightsMeasured> MeasureWeights(const Flags& flags,
                                               WeightServers& servers,
                                               bool relay,
                                               v1::WeightCodec codec) {
  constexpr absl::Duration kIdle = absl::Seconds(3);
  const ChildProcess& server = relay ? *servers.relay : *servers.learner;
  const std::string& address =
      relay ? servers.relay_address : servers.learner_address;
  // What a server needs for the first time is no subscriber's.
  {
    Subscribers few(address, 10, codec);
    QFLEET_RETURN_IF_ERROR(few.AwaitEach(1, kPatience));
  }
  WeightsMeasured measured;
  const double resident = server.ResidentBytes();
  const absl::Time begun = absl::Now();
  Subscribers subscribers(address, flags.subscribers, codec);
  QFLEET_RETURN_IF_ERROR(subscribers.AwaitEach(1, kPatience));
  measured.connect_ms =
      absl::ToDoubleMilliseconds(absl::Now() - begun) / flags.subscribers;
  absl::SleepFor(absl::Seconds(1));  // What the last messages needed is back.
  measured.resident_kib =
      (server.ResidentBytes() - resident) / flags.subscribers / kKiB;
  double cpu = server.CpuSeconds();
  absl::SleepFor(kIdle);
  measured.silent_cpu =
      (server.CpuSeconds() - cpu) / absl::ToDoubleSeconds(kIdle);
  // As often as an actor.
  cpu = server.CpuSeconds();
  for (absl::Duration t; t < kIdle; t += absl::Milliseconds(250)) {
    const absl::Time next = absl::Now() + absl::Milliseconds(250);
    subscribers.Report();
    absl::SleepFor(next - absl::Now());
  }
  measured.reporting_cpu =
      (server.CpuSeconds() - cpu) / absl::ToDoubleSeconds(kIdle);
  const double learner_cpu = servers.learner->CpuSeconds();
  for (int p = 0; p < flags.publications; ++p) {
    cpu = server.CpuSeconds();
    const absl::Time published = absl::Now();
    QFLEET_RETURN_IF_ERROR(servers.Publish());
    QFLEET_RETURN_IF_ERROR(subscribers.AwaitEach(2 + p, kPatience));
    measured.publish_seconds.push_back(
        absl::ToDoubleSeconds(absl::Now() - published));
    measured.publish_cpu_ms.push_back((server.CpuSeconds() - cpu) * 1e3);
  }
  measured.learner_cpu_ms =
      (servers.learner->CpuSeconds() - learner_cpu) * 1e3 / flags.publications;
  return measured;
}

absl::StatusOr<std::vector<Row>> Weights(const Flags& flags) {
  const std::string n = absl::StrCat(flags.subscribers, " subscribers");
  Row connect = {absl::StrCat(n, ": connecting, until the first weights"),
                 "ms each",
                 {},
                 {},
                 ""};
  Row resident = {
      absl::StrCat(n, ": memory of the server"), "KiB each", {}, {}, ""};
  Row idle = {
      absl::StrCat(n, ": CPU of the server"), "% of a core", {}, {}, ""};
  Row cpu = {absl::StrCat(n, ": CPU of a publication"), "ms", {}, {}, ""};
  Row seconds = {absl::StrCat(n, ": a publication until the last has it"),
                 "s",
                 {},
                 {},
                 ""};
  std::vector<double> direct_cpu;
  for (bool relay : {false, true}) {
    for (v1::WeightCodec codec : {v1::FP32, v1::INT8}) {
      const std::string name =
          absl::StrCat(relay ? "relay" : "learner's service", ", ",
                       v1::WeightCodec_Name(codec));
      QFLEET_ASSIGN_OR_RETURN(auto servers, WeightServers::Start(flags.places));
      QFLEET_ASSIGN_OR_RETURN(const WeightsMeasured measured,
                              MeasureWeights(flags, *servers, relay, codec));
      connect.sides.push_back({name, {measured.connect_ms}});
      resident.sides.push_back({name, {measured.resident_kib}});
      idle.sides.push_back(
          {absl::StrCat(name, ", silent"), {100 * measured.silent_cpu}});
      idle.sides.push_back({absl::StrCat(name, ", 4 reports/s each"),
                            {100 * measured.reporting_cpu}});
      cpu.sides.push_back({name, measured.publish_cpu_ms});
      seconds.sides.push_back({name, measured.publish_seconds});
      if (!relay) {
        direct_cpu.push_back(Median(measured.publish_cpu_ms));
        resident.checks.push_back({absl::StrCat(name, ": KiB each"),
                                   measured.resident_kib, false, 128});
        continue;
      }
      cpu.sides.push_back({absl::StrCat("learner's service behind it, ",
                                        v1::WeightCodec_Name(codec)),
                           {measured.learner_cpu_ms}});
      cpu.checks.push_back(
          {absl::StrCat("the learner's CPU behind a relay / directly, ",
                        v1::WeightCodec_Name(codec)),
           measured.learner_cpu_ms / direct_cpu[codec == v1::FP32 ? 0 : 1],
           false, 0.2});
    }
  }
  return std::vector<Row>{std::move(connect), std::move(resident),
                          std::move(idle), std::move(cpu), std::move(seconds)};
}

absl::Status Measure(Flags flags) {
  flags.places.bin_dir =
      std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
  const std::string date =
      absl::FormatTime("%Y-%m-%d", absl::Now(), absl::UTCTimeZone());
  std::cout << MachineText() << ", " << date << "\n\n";
  const std::vector<std::string> only =
      absl::StrSplit(flags.only, ',', absl::SkipEmpty());
  Report report;
  for (const std::string name : {"writers", "weights"}) {
    if (!only.empty() && !absl::c_linear_search(only, name)) continue;
    QFLEET_ASSIGN_OR_RETURN(std::vector<Row> rows, name == "writers"
                                                       ? Writers(flags)
                                                       : Weights(flags));
    for (Row& row : rows) report.Add(std::move(row));
  }
  report.PrintChecks();
  return report.Write(flags.out, {{"date", date}});
}

int Main(int argc, char** argv) {
  TuneProcess();
  CLI::App app("What many actors cost", "scale_benchmark");
  Flags flags;
  app.add_option("--work_dir", flags.places.work_dir,
                 "Folder for sockets and logs; its path must be short");
  app.add_option("--rows", flags.only, "writers, weights; none: both");
  app.add_option("--writers", flags.writers)->capture_default_str();
  app.add_option("--steps_per_second", flags.steps_per_second,
                 "Of each environment; a writer has 8")
      ->capture_default_str();
  app.add_option("--seconds", flags.seconds)->capture_default_str();
  app.add_option("--subscribers", flags.subscribers)->capture_default_str();
  app.add_option("--publications", flags.publications)->capture_default_str();
  app.add_option("--out", flags.out, "JSON file");
  app.add_option(
      "--weights_server", flags.weights_server,
      "Be the learner's side of the weights at this address instead");
  app.add_option("--ready_file", flags.ready_file, "Of that server");
  if (int code = ParseFlags(app, argc, argv); code >= 0) return code;
  InitLog("scale_benchmark");
  spdlog::set_level(spdlog::level::err);
  const absl::Status status =
      flags.weights_server.empty()
          ? Measure(flags)
          : ServeWeights(flags.weights_server, flags.ready_file);
  return status.ok() ? kExitReached : Fail("scale_benchmark", status);
}

}  // namespace
}  // namespace qfleet::bench

int main(int argc, char** argv) { return qfleet::bench::Main(argc, argv); }
