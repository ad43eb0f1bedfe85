#include "replay_server/service/shard.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/table_spec.h"
#include "replay_server/core/checkpoint.h"
#include "replay_server/core/table_header.h"
#include "replay_server/service/served_table.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

// This thread's work is less urgent than what others wait for. Only advice.
void YieldToOthers() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 10);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Shard>> Shard::Create(const Options& options,
                                                     Metrics& metrics) {
  if (options.tables.empty()) {
    return absl::InvalidArgumentError("tables is empty: allowed is 1 or more");
  }
  std::unique_ptr<Shard> shard(new Shard(options));
  if (!options.data_dir.empty()) {
    QFLEET_ASSIGN_OR_RETURN(shard->directory_,
                            DataDirectory::Lock(options.data_dir));
  }
  std::set<std::string> names;
  for (const v1::TableSpec& spec : options.tables) {
    if (names.insert(spec.name()).second) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "tables.name = \"", spec.name(), "\": allowed is a name used once"));
  }
  if (!options.restore.empty()) {
    // The files themselves are verified when they are copied or read.
    QFLEET_RETURN_IF_ERROR(
        CheckCheckpoint(options.restore, /*contents=*/false).status());
    QFLEET_RETURN_IF_ERROR(shard->Restore());
  }
  for (const v1::TableSpec& spec : options.tables) {
    QFLEET_RETURN_IF_ERROR(shard->OpenTable(spec, metrics));
  }
  shard->verify_ = std::thread([shard = shard.get()] {
    YieldToOthers();
    for (const auto& table : shard->tables_) table->VerifyAll();
  });
  if (shard->directory_ != nullptr || options.storage != nullptr) {
    shard->sync_ = std::thread([shard = shard.get()] { shard->SyncLoop(); });
  }
  return shard;
}

Shard::Shard(const Options& options)
    : options_(options), started_(absl::Now()) {}

Shard::~Shard() {
  Shutdown();
  if (verify_.joinable()) verify_.join();
  if (sync_.joinable()) sync_.join();
}

// To where there is none yet.
absl::Status Shard::Restore() {
  if (directory_ == nullptr) return absl::OkStatus();
  std::vector<RestoredTable> tables;
  for (const v1::TableSpec& spec : options_.tables) {
    RestoredTable& table = tables.emplace_back();
    table.directory = directory_->TablePath(spec.name());
    QFLEET_ASSIGN_OR_RETURN(
        table.wanted,
        MakeTableHeader(spec, options_.number, /*first_generation=*/0));
    if (std::filesystem::exists(table.directory)) tables.pop_back();
  }
  return RestoreTables(options_.restore, tables);
}

absl::Status Shard::OpenTable(const v1::TableSpec& spec, Metrics& metrics) {
  QFLEET_RETURN_IF_ERROR(ValidateTableSpec(spec, "table"));
  const uint64_t seed =
      MixSeed(MixSeed(options_.seed, options_.number), tables_.size() + 1);
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, StorageFor(spec));
  QFLEET_ASSIGN_OR_RETURN(
      std::shared_ptr<ServedTable> table,
      ServedTable::Create(spec, options_.number, std::move(storage), seed,
                          metrics));
  metrics.OnScrape([weak = std::weak_ptr<ServedTable>(table)] {
    if (auto table = weak.lock()) table->ExportMetrics();
  });
  tables_.push_back(std::move(table));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Storage>> Shard::StorageFor(
    const v1::TableSpec& spec) const {
  if (options_.storage != nullptr) return options_.storage(spec);
  if (directory_ == nullptr && options_.restore.empty()) {
    return std::make_unique<AnonymousStorage>();
  }
  if (directory_ == nullptr) {
    return std::make_unique<MappedStorage>(
        absl::StrCat(options_.restore, "/", spec.name()),
        MappedStorage::Mode::kPrivate);
  }
  const std::string path = directory_->TablePath(spec.name());
  return std::make_unique<MappedStorage>(path, MappedStorage::Mode::kServe);
}

void Shard::SyncLoop() {
  bool failed = false;
  for (;;) {
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&stopped_),
                                  options_.sync_interval)) {
        break;
      }
    }
    for (const auto& table : tables_) {
      const absl::Status status = table->Sync();
      if (status.ok() || failed) continue;
      failed = true;
      spdlog::error("{}", status.ToString());
      if (options_.on_storage_failure) options_.on_storage_failure();
    }
  }
  for (const auto& table : tables_) {
    const absl::Status status = table->Sync();
    if (!status.ok()) spdlog::error("{}", status.ToString());
  }
}

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

absl::Status Shard::WriteStatus(int table) const {
  return tables_[table]->WriteStatus();
}

uint64_t Shard::LastSequence(int table, uint64_t writer_id) const {
  return tables_[table]->LastSequence(writer_id);
}

void Shard::Append(int table, const ServedTable::AppendCall& call,
                   AppendInput batch, AppendDone done) {
  tables_[table]->Append(call, std::move(batch), std::move(done));
}

void Shard::CancelAppends(int table, const ServedTable::AppendCall& call) {
  tables_[table]->CancelAppends(call);
}

void Shard::CancelAppends(int table, uint64_t writer_id) {
  tables_[table]->CancelAppends(writer_id);
}

void Shard::FillStats(int table, v1::SampleResponse& response) const {
  response.set_shard(options_.number);
  *response.mutable_stats() = tables_[table]->Stats();
}

absl::Status Shard::Sample(int table, const v1::SampleDraw& draw,
                           v1::SampleResponse& response) {
  response.set_shard(options_.number);
  return tables_[table]->Sample(draw, response);
}

absl::StatusOr<v1::UpdatePrioritiesResponse> Shard::UpdatePriorities(
    const v1::UpdatePrioritiesRequest& request) {
  QFLEET_ASSIGN_OR_RETURN(int table, FindTable(request.table()));
  return tables_[table]->UpdatePriorities(request);
}

absl::StatusOr<v1::SetRateLimiterResponse> Shard::SetRateLimiter(
    const v1::SetRateLimiterRequest& request) {
  QFLEET_ASSIGN_OR_RETURN(int table, FindTable(request.table()));
  QFLEET_RETURN_IF_ERROR(ValidateRateLimiter(request.rate_limiter(),
                                             tables_[table]->spec().selector(),
                                             "rate_limiter"));
  v1::SetRateLimiterResponse response;
  *response.mutable_previous() =
      tables_[table]->SetRateLimiter(request.rate_limiter());
  return response;
}

absl::StatusOr<v1::CheckpointResponse> Shard::Checkpoint(
    const v1::CheckpointRequest& request) {
  if (request.directory().empty()) {
    return absl::InvalidArgumentError(
        "directory = \"\": allowed is a folder on the shard's machine");
  }
  {
    absl::MutexLock lock(&mutex_);
    if (stopped_) return absl::UnavailableError("the shard is shutting down");
    if (checkpointing_) {
      return absl::FailedPreconditionError(
          "another checkpoint is being written: allowed is one at a time");
    }
    checkpointing_ = true;
  }
  const absl::Time start = absl::Now();
  absl::StatusOr<std::string> path;
  std::thread writer([&] {
    YieldToOthers();
    path = WriteCheckpoint(request);
  });
  writer.join();
  {
    absl::MutexLock lock(&mutex_);
    checkpointing_ = false;
  }
  if (!path.ok()) {
    spdlog::error("no checkpoint: {}", path.status().ToString());
    return path.status();
  }
  v1::CheckpointResponse response;
  response.set_path(*path);
  QFLEET_ASSIGN_OR_RETURN(const v1::CheckpointManifest manifest,
                          CheckCheckpoint(*path, /*contents=*/false));
  for (const v1::CheckpointManifest::File& file : manifest.files()) {
    response.set_bytes(response.bytes() + file.bytes());
  }
  response.set_seconds(absl::ToDoubleSeconds(absl::Now() - start));
  spdlog::info("wrote {} ({} bytes) in {:.2f} s", *path, response.bytes(),
               response.seconds());
  return response;
}

absl::StatusOr<std::string> Shard::WriteCheckpoint(
    const v1::CheckpointRequest& request) {
  QFLEET_ASSIGN_OR_RETURN(
      const std::string temporary,
      BeginCheckpoint(request.directory(), options_.number));
  absl::StatusOr<std::string> path = temporary;
  const absl::Status written = WriteTables(temporary);
  if (written.ok()) {
    path = FinishCheckpoint(temporary, options_.number, QFLEET_VERSION,
                            request.keep(), [this] {
                              absl::MutexLock lock(&mutex_);
                              return stopped_;
                            });
  } else {
    path = written;
  }
  std::error_code ignored;
  if (!path.ok()) std::filesystem::remove_all(temporary, ignored);
  return path;
}

absl::Status Shard::WriteTables(const std::string& path) {
  for (const auto& table : tables_) {
    QFLEET_RETURN_IF_ERROR(
        table->WriteSnapshot(absl::StrCat(path, "/", table->spec().name())));
  }
  return absl::OkStatus();
}

v1::DescribeResponse Shard::Describe() const {
  v1::DescribeResponse response;
  response.set_shard(options_.number);
  response.set_version(QFLEET_VERSION);
  response.set_uptime_seconds(absl::ToDoubleSeconds(absl::Now() - started_));
  for (const auto& table : tables_) *response.add_tables() = table->Info();
  return response;
}

void Shard::Shutdown() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  for (const auto& table : tables_) table->Shutdown();
}

}  // namespace qfleet
