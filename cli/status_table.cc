#include "cli/status_table.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/format.h"
#include "common/proto_json.h"

namespace qfleet {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string Mebibytes(uint64_t bytes) {
  return WithCommas(static_cast<double>(bytes) / (1 << 20), 1);
}

void AddLearner(const ProcessStatus& process, Rows& rows) {
  if (rows.empty()) {
    rows.push_back({"learner", "state", "time [s]", "env steps",
                    "env steps [1/s]", "updates", "updates [1/s]", "policy",
                    "weight age [s]", "loss", "mean Q", "samples/insert",
                    "actors", "shards", "evaluation [return]"});
  }
  const v1::RunReport& run = *process.run;
  rows.push_back(
      {process.address, run.state(), WithCommas(run.wall_seconds(), 1),
       WithCommas(run.env_steps()), WithCommas(run.env_steps_per_second(), 0),
       WithCommas(run.updates()), WithCommas(run.updates_per_second(), 0),
       WithCommas(run.policy_version()),
       absl::StrFormat("%.2f", run.weight_age_seconds()), Short(run.loss()),
       Short(run.mean_q()), absl::StrFormat("%.2f", run.samples_per_insert()),
       absl::StrCat(run.actors()), absl::StrCat(run.shards()),
       run.has_evaluation()
           ? absl::StrFormat("%.1f", run.evaluation().mean_return())
           : ""});
}

void AddShard(const ProcessStatus& process, Rows& rows) {
  if (rows.empty()) {
    rows.push_back({"replay", "shard", "table", "items", "capacity [items]",
                    "used [MiB]", "steps", "inserted", "sampled", "mass",
                    "writers waiting", "longest [s]", "samplers waiting",
                    "longest [s]", "up [s]"});
  }
  const v1::DescribeResponse& shard = *process.shard;
  for (const v1::TableInfo& table : shard.tables()) {
    const v1::TableStats& stats = table.stats();
    rows.push_back({process.address, absl::StrCat(shard.shard()),
                    table.spec().name(), WithCommas(stats.size()),
                    WithCommas(table.spec().max_items()),
                    Mebibytes(stats.bytes()), WithCommas(stats.steps()),
                    WithCommas(stats.inserted()), WithCommas(stats.sampled()),
                    Short(stats.mass()), absl::StrCat(table.waiting_writers()),
                    absl::StrFormat("%.1f", table.writers_wait_seconds()),
                    absl::StrCat(table.waiting_samplers()),
                    absl::StrFormat("%.1f", table.samplers_wait_seconds()),
                    WithCommas(shard.uptime_seconds(), 0)});
  }
}

// What a person should know of a table beside its numbers, a line each.
std::string Remarks(const ProcessStatus& process) {
  std::string text;
  for (const v1::TableInfo& table : process.shard->tables()) {
    const auto remark = [&](const std::string& what) {
      absl::StrAppend(&text, process.address, " ", table.spec().name(), ": ",
                      what, "\n");
    };
    if (table.waiting_writers() > 0) {
      remark(absl::StrCat("writers wait for ", table.writers_wait_for()));
    }
    if (table.waiting_samplers() > 0) {
      remark(absl::StrCat("samplers wait for ", table.samplers_wait_for()));
    }
    const v1::StorageInfo& storage = table.storage();
    if (!storage.failed().empty()) remark(storage.failed());
    const uint64_t items = storage.recovery_dropped() + storage.damaged_items();
    if (storage.damaged_steps() > 0 || items > 0) {
      remark(absl::StrCat("damaged files: ", storage.damaged_steps(),
                          " steps and ", items, " items were dropped"));
    }
    if (storage.verified_steps() < storage.verify_total()) {
      remark(absl::StrCat("verified ", WithCommas(storage.verified_steps()),
                          " of ", WithCommas(storage.verify_total()),
                          " recovered steps so far"));
    }
  }
  return text;
}

void AddError(const ProcessStatus& process, Rows& rows) {
  if (rows.empty()) rows.push_back({"no answer", "error"});
  rows.push_back({process.address, std::string(process.error.message())});
}

}  // namespace

std::string StatusTable(const std::vector<ProcessStatus>& processes) {
  Rows learners;
  Rows shards;
  Rows errors;
  std::string remarks;
  for (const ProcessStatus& process : processes) {
    if (process.run.has_value()) {
      AddLearner(process, learners);
    } else if (process.shard.has_value()) {
      AddShard(process, shards);
      remarks += Remarks(process);
    } else {
      AddError(process, errors);
    }
  }
  std::vector<std::string> tables;
  for (const Rows* rows : {&learners, &shards, &errors}) {
    if (!rows->empty()) tables.push_back(AlignedTable(*rows));
  }
  if (!remarks.empty()) tables.push_back(remarks);
  return absl::StrJoin(tables, "\n");
}

nlohmann::ordered_json StatusJson(const std::vector<ProcessStatus>& processes) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const ProcessStatus& process : processes) {
    nlohmann::ordered_json object = {{"address", process.address}};
    if (process.run.has_value()) {
      object["learner"] = ToJson(*process.run);
    } else if (process.shard.has_value()) {
      object["replay"] = ToJson(*process.shard);
    } else {
      object["error"] = std::string(process.error.message());
    }
    list.push_back(std::move(object));
  }
  return list;
}

}  // namespace qfleet
