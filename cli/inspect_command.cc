// qfleet inspect: what the files of a shard, or of its checkpoint, hold.

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "common/process.h"
#include "common/proto_json.h"
#include "common/status_macros.h"
#include "common/table_spec.h"
#include "nlohmann/json.hpp"
#include "replay_server/core/checkpoint.h"
#include "replay_server/core/data_directory.h"
#include "replay_server/core/inspect.h"

namespace qfleet {
namespace {

struct InspectFlags {
  std::string directory;
  bool json = false;
};

struct Inspected {
  std::string name;
  absl::StatusOr<TableReport> report = absl::UnknownError("");
};

absl::StatusOr<std::vector<Inspected>> Inspect(const std::string& directory) {
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<DataDirectory> lock,
                          DataDirectory::LockForReading(directory));
  if (std::filesystem::exists(directory + "/MANIFEST")) {
    QFLEET_RETURN_IF_ERROR(
        CheckCheckpoint(directory, /*contents=*/true).status());
  }
  std::vector<Inspected> tables;
  for (const std::string& name : ListTables(directory)) {
    tables.push_back({name, InspectTable(absl::StrCat(directory, "/", name))});
  }
  if (tables.empty()) {
    return absl::NotFoundError(
        absl::StrCat(directory,
                     " holds no tables: allowed is a shard's --data_dir or a "
                     "checkpoint of one"));
  }
  return tables;
}

std::string Columns(
    const google::protobuf::RepeatedPtrField<v1::TensorSpec>& specs) {
  return absl::StrJoin(
      specs, ", ", [](std::string* out, const v1::TensorSpec& spec) {
        absl::StrAppend(out, spec.name(), " ", TensorTypeName(spec));
      });
}

std::string Health(const TableReport& report) {
  if (report.intact()) {
    return absl::StrCat("intact: ", WithCommas(report.verified.total),
                        " steps and ", WithCommas(report.stats.size()),
                        " items verified");
  }
  const uint64_t writers = report.recovery.damaged_writers;
  return absl::StrCat(
      "DAMAGED: ",
      report.recovery.damaged_steps + report.verified.damaged_steps,
      " steps and ", report.recovery.dropped + report.verified.damaged_items,
      " items are lost",
      writers == 0 ? ""
                   : absl::StrCat(", and how far ", writers,
                                  " writers came: what they send again may be "
                                  "stored twice"));
}

void Print(const std::string& name, const TableReport& report) {
  const v1::TableSpec& spec = report.header.spec();
  const v1::TableStats& stats = report.stats;
  const auto line = [](absl::string_view what, const std::string& value) {
    std::cout << "  " << PadRight(what, 14) << value << "\n";
  };
  std::cout << "table " << name << "\n";
  line("health", Health(report));
  line("shard", absl::StrCat(report.header.shard(), ", format ",
                             report.header.format()));
  line("items", absl::StrCat(WithCommas(stats.size()), " of ",
                             WithCommas(spec.max_items()), ", mass ",
                             Short(stats.mass())));
  line("steps", absl::StrCat(WithCommas(report.verified.total), " of ",
                             WithCommas(report.header.step_capacity())));
  line("counters",
       absl::StrCat(WithCommas(stats.inserted()), " items inserted, ",
                    WithCommas(stats.sampled()), " sampled, ",
                    WithCommas(stats.skipped()), " skipped, ",
                    WithCommas(stats.steps()), " steps, ",
                    WithCommas(stats.episodes()), " episodes"));
  line("writers", WithCommas(report.writers));
  line("files", Bytes(report.file_bytes));
  line("step columns", Columns(spec.signature().step_columns()));
  line("item columns", Columns(spec.signature().item_columns()));
}

nlohmann::ordered_json Json(const std::string& name,
                            const TableReport& report) {
  return {{"table", name},
          {"intact", report.intact()},
          {"shard", report.header.shard()},
          {"format", report.header.format()},
          {"spec", ToJson(report.header.spec())},
          {"stats", ToJson(report.stats)},
          {"step_capacity", report.header.step_capacity()},
          {"verified_steps", report.verified.steps},
          {"damaged_steps",
           report.recovery.damaged_steps + report.verified.damaged_steps},
          {"damaged_items",
           report.recovery.dropped + report.verified.damaged_items},
          {"writers", report.writers},
          {"damaged_writers", report.recovery.damaged_writers},
          {"file_bytes", report.file_bytes}};
}

int RunInspect(const InspectFlags& flags) {
  absl::StatusOr<std::vector<Inspected>> tables = Inspect(flags.directory);
  if (!tables.ok()) return Fail("qfleet", tables.status());
  bool intact = true;
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Inspected& table : *tables) {
    if (!table.report.ok()) {
      intact = false;
      Fail("qfleet", table.report.status());
    } else if (flags.json) {
      list.push_back(Json(table.name, *table.report));
    } else {
      Print(table.name, *table.report);
    }
    intact = intact && table.report.ok() && table.report->intact();
  }
  if (flags.json) std::cout << list.dump(2) << "\n";
  std::cout << std::flush;
  return intact && std::cout.good() ? kExitReached : kExitFailed;
}

}  // namespace

void AddInspectCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "inspect", "Verify a shard's files and print what they hold");
  auto flags = std::make_shared<InspectFlags>();
  command
      ->add_option("DATA_DIR", flags->directory,
                   "A shard's --data_dir, or a checkpoint of one")
      ->required();
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, &exit_code] { exit_code = RunInspect(*flags); });
}

}  // namespace qfleet
