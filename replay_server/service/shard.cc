#include "replay_server/service/shard.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/table_spec.h"
#include "replay_server/service/served_table.h"

namespace qfleet {

absl::StatusOr<std::unique_ptr<Shard>> Shard::Create(const Options& options,
                                                     Metrics& metrics) {
  if (options.tables.empty()) {
    return absl::InvalidArgumentError("tables is empty: allowed is 1 or more");
  }
  std::unique_ptr<Shard> shard(new Shard(options.number));
  std::set<std::string> names;
  for (const v1::TableSpec& spec : options.tables) {
    if (!names.insert(spec.name()).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tables.name = \"", spec.name(), "\": allowed is a name used once"));
    }
    const uint64_t seed =
        MixSeed(MixSeed(options.seed, options.number), names.size());
    QFLEET_ASSIGN_OR_RETURN(std::shared_ptr<ServedTable> table,
                            ServedTable::Create(spec, seed, metrics));
    metrics.OnScrape([weak = std::weak_ptr<ServedTable>(table)] {
      if (auto table = weak.lock()) table->ExportMetrics();
    });
    shard->tables_.push_back(std::move(table));
  }
  return shard;
}

Shard::Shard(uint32_t number) : number_(number), started_(absl::Now()) {}

Shard::~Shard() { Shutdown(); }

absl::StatusOr<int> Shard::FindTable(const std::string& name) const {
  std::vector<std::string> names;
  for (size_t t = 0; t < tables_.size(); ++t) {
    names.push_back(absl::StrCat("\"", tables_[t]->spec().name(), "\""));
    if (tables_[t]->spec().name() == name) return static_cast<int>(t);
  }
  return absl::NotFoundError(absl::StrCat("table = \"", name, "\": allowed is ",
                                          absl::StrJoin(names, " or ")));
}

absl::StatusOr<int> Shard::Open(const std::string& table,
                                const v1::TableSignature& signature,
                                absl::string_view who) const {
  QFLEET_ASSIGN_OR_RETURN(int number, FindTable(table));
  QFLEET_RETURN_IF_ERROR(
      CheckSameSignature(tables_[number]->spec().signature(), signature, who));
  return number;
}

uint64_t Shard::LastSequence(int table, uint64_t writer_id) const {
  return tables_[table]->LastSequence(writer_id);
}

void Shard::Append(int table, uint64_t writer_id, const v1::AppendBatch& batch,
                   AppendDone done) {
  tables_[table]->Append(writer_id, batch, std::move(done));
}

void Shard::CancelAppend(int table, uint64_t writer_id) {
  tables_[table]->CancelAppend(writer_id);
}

void Shard::FillStats(int table, v1::SampleResponse& response) const {
  response.set_shard(number_);
  *response.mutable_stats() = tables_[table]->Stats();
}

absl::Status Shard::Sample(int table, const v1::SampleDraw& draw,
                           v1::SampleResponse& response) {
  response.set_shard(number_);
  return tables_[table]->Sample(draw, response);
}

absl::StatusOr<v1::UpdatePrioritiesResponse> Shard::UpdatePriorities(
    const v1::UpdatePrioritiesRequest& request) {
  QFLEET_ASSIGN_OR_RETURN(int table, FindTable(request.table()));
  return tables_[table]->UpdatePriorities(request);
}

v1::DescribeResponse Shard::Describe() const {
  v1::DescribeResponse response;
  response.set_shard(number_);
  response.set_version(QFLEET_VERSION);
  response.set_uptime_seconds(absl::ToDoubleSeconds(absl::Now() - started_));
  for (const auto& table : tables_) *response.add_tables() = table->Info();
  return response;
}

void Shard::Shutdown() {
  for (const auto& table : tables_) table->Shutdown();
}

}  // namespace qfleet
