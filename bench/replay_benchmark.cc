// A replay shard beside raw gRPC streams of the same bytes in messages of the
// same size, in one run. Servers are processes of their own, on unix sockets.
//
//   replay_benchmark --work_dir=DIR [--data_dir=DIR] [--rows=a,b] [--out=FILE]
//
// bench/replay.sh runs it with folders that are removed afterwards.

#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "bench/cores.h"
#include "bench/raw_grpc.h"
#include "bench/report.h"
#include "bench/rows.h"
#include "common/process.h"
#include "common/status_macros.h"
#include "spdlog/spdlog.h"

namespace qfleet::bench {
namespace {

struct Flags {
  RowOptions rows;
  std::string only;
  std::string out;
  double round_seconds = 0.4;
  std::string raw_server;
  std::string ready_file;
  double soak_seconds = 600;
};

// In memory, and in files if there is a folder for them.
absl::Status MeasureRow(const NamedRow& row, RowOptions options,
                        Report& report) {
  const bool files = !options.places.data_dir.empty();
  std::vector<bool> variants = {false};
  if (row.also_durable && files) variants.push_back(true);
  if (row.measure == Restart || row.measure == Soak) variants = {files};
  for (bool durable : variants) {
    options.durable = durable;
    std::optional<SplitCores> cores;
    if (row.split_cores && options.split_cores) {
      options.places.cores = &cores.emplace();
    }
    QFLEET_ASSIGN_OR_RETURN(Row measured, row.measure(options));
    report.Add(std::move(measured));
  }
  return absl::OkStatus();
}

absl::Status Measure(Flags flags) {
  Places& places = flags.rows.places;
  flags.rows.round = absl::Seconds(flags.round_seconds);
  flags.rows.soak = absl::Seconds(flags.soak_seconds);
  places.bin_dir =
      std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
  if (!places.data_dir.empty() && !ReplayKnowsFlag(places, "--data_dir")) {
    places.data_dir.clear();
    std::cout << "nothing is measured in files: this qfleet-replay has no "
                 "--data_dir\n\n";
  }
  const std::string date =
      absl::FormatTime("%Y-%m-%d", absl::Now(), absl::UTCTimeZone());
  std::cout << MachineText() << ", " << date << ", median of "
            << flags.rows.rounds << " rounds of " << flags.round_seconds
            << " s each side in turn"
            << (flags.rows.split_cores ? "" : ", cores not split") << "\n\n";
  const std::vector<std::string> only =
      absl::StrSplit(flags.only, ',', absl::SkipEmpty());
  Report report;
  for (const NamedRow& row : AllRows()) {
    const bool named = absl::c_linear_search(only, row.name);
    if (!named && (row.by_name || !only.empty())) continue;
    QFLEET_RETURN_IF_ERROR(MeasureRow(row, flags.rows, report));
  }
  report.PrintChecks();
  return report.Write(flags.out, {{"date", date},
                                  {"rounds", flags.rows.rounds},
                                  {"round_seconds", flags.round_seconds},
                                  {"split_cores", flags.rows.split_cores}});
}

int Main(int argc, char** argv) {
  // As qfleet-learner does: glibc gives large blocks back at once, and their
  // pages are then made anew for each message.
  TuneProcess();
  CLI::App app("A replay shard beside raw gRPC", "replay_benchmark");
  Flags flags;
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("--work_dir", flags.rows.places.work_dir,
                 "Folder for sockets and logs; its path must be short");
  app.add_option("--data_dir", flags.rows.places.data_dir,
                 "Folder for durable shards; none: in memory only");
  app.add_option("--rows", flags.only, "Names, by commas; none: all");
  app.add_option("--rounds", flags.rows.rounds)->capture_default_str();
  app.add_flag("--split_cores,!--no_split_cores", flags.rows.split_cores,
               "Clients and servers have cores of their own, for throughput, "
               "cost and TLS");
  app.add_option("--round_seconds", flags.round_seconds)->capture_default_str();
  app.add_option("--certificates", flags.rows.certificates,
                 "Folder of scripts/make_test_certificates.sh, for tls_*");
  app.add_option("--soak_seconds", flags.soak_seconds)->capture_default_str();
  app.add_option("--out", flags.out, "JSON file");
  app.add_option("--raw_server", flags.raw_server,
                 "Be the raw server at this address instead");
  app.add_option("--ready_file", flags.ready_file, "Of the raw server");
  if (int code = ParseFlags(app, argc, argv); code >= 0) return code;
  InitLog("replay_benchmark");
  spdlog::set_level(spdlog::level::err);
  const absl::Status status =
      flags.raw_server.empty() ? Measure(flags)
                               : ServeRaw(flags.raw_server, flags.ready_file);
  return status.ok() ? kExitReached : Fail("replay_benchmark", status);
}

}  // namespace
}  // namespace qfleet::bench

int main(int argc, char** argv) { return qfleet::bench::Main(argc, argv); }
