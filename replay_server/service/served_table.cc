#include "replay_server/service/served_table.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "common/table_spec.h"
#include "replay_server/core/table_header.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

constexpr uint32_t kMaxTimeoutMs = 60000;

// Of a piece that is verified; its rows cannot be overwritten meanwhile.
constexpr uint64_t kVerifySteps = 256;
// Of a snapshot: items that are copied under the lock at once, those that are
// in memory before they are written, and steps that are written at once.
// Inserts wait for the lock no longer than the first take; those that catch up
// with the steps wait until these are written, at the disk's pace.
constexpr uint64_t kItemsUnderLock = 64 << 10;
constexpr uint64_t kItemsInMemory = 64 << 20;
constexpr uint64_t kStepsAtOnce = 256 << 10;

absl::Status ShuttingDown() {
  return absl::UnavailableError("the shard is shutting down");
}

absl::Status CheckDraw(const v1::SampleDraw& draw, uint64_t most) {
  if (draw.count() > most) {
    return absl::InvalidArgumentError(absl::StrCat(
        "draw.count = ", draw.count(), ": allowed is at most ", most));
  }
  if (draw.timeout_ms() > kMaxTimeoutMs) {
    return absl::InvalidArgumentError(
        absl::StrCat("draw.timeout_ms = ", draw.timeout_ms(),
                     ": allowed is at most ", kMaxTimeoutMs));
  }
  return absl::OkStatus();
}

ReplayTotals Sum(const v1::TableStats& own, const ReplayTotals& others) {
  return {own.inserted() + others.inserted, own.sampled() + others.sampled,
          own.size() + others.size};
}

double SecondsSince(absl::Time start) {
  return std::max(0.0, absl::ToDoubleSeconds(absl::Now() - start));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServedTable>> ServedTable::Create(
    const v1::TableSpec& spec, uint32_t shard, std::unique_ptr<Storage> storage,
    uint64_t seed, Metrics& metrics) {
  const absl::Time start = absl::Now();
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Table> table,
                          Table::Create(spec, *storage, seed, shard));
  if (table->recovery().damaged_writers > 0) {
    spdlog::warn(
        "table \"{}\": the files no longer say how far {} writers came; what "
        "these send again may be stored twice",
        spec.name(), table->recovery().damaged_writers);
  }
  return std::unique_ptr<ServedTable>(new ServedTable(
      std::move(storage), std::move(table), SecondsSince(start), metrics));
}

ServedTable::ServedTable(std::unique_ptr<Storage> storage,
                         std::unique_ptr<Table> table, double recovery_seconds,
                         Metrics& metrics)
    : storage_(std::move(storage)),
      table_(std::move(table)),
      metrics_(metrics, table_->spec().name()),
      recovery_seconds_(recovery_seconds),
      max_draw_(MaxDraw(table_->spec().signature())),
      limiter_(table_->spec().rate_limiter()) {}

ServedTable::~ServedTable() = default;

absl::Status ServedTable::Reject(const absl::Status& status) {
  if (absl::IsInvalidArgument(status)) metrics_.rejected.Increment();
  return status;
}

// What is being stored counts already, so that threads which store at the same
// time do not each go beyond the bound.
bool ServedTable::CanInsert() const {
  ReplayTotals totals = Sum(table_->Stats(), others_);
  totals.inserted += items_storing_;
  totals.size += items_storing_;
  return limiter_.CanInsert(totals);
}

bool ServedTable::CanSample(uint32_t count) const {
  return table_->Drawable() >= count &&
         limiter_.CanSample(Sum(table_->Stats(), others_));
}

// ----------------------------------------------------------------- append ---

absl::Status ServedTable::WriteStatus() const {
  absl::MutexLock lock(&mutex_);
  return failed_;
}

uint64_t ServedTable::LastSequence(uint64_t writer_id) const {
  absl::MutexLock lock(&mutex_);
  return table_->LastSequence(writer_id);
}

std::optional<absl::StatusOr<v1::AppendResponse>> ServedTable::Settle(
    uint64_t writer_id, uint64_t sequence) {
  const uint64_t last = table_->LastSequence(writer_id);
  // A writer that is not known goes on where another life of this shard ended.
  if (last == 0 || sequence == last + 1) return std::nullopt;
  if (sequence > last) {
    return absl::OutOfRangeError(
        absl::StrCat("sequence = ", sequence, ": allowed is ", last + 1,
                     ", the next one, or one that is stored"));
  }
  metrics_.batches_duplicate.Increment();
  v1::AppendResponse response;
  response.set_sequence(last);
  return response;
}

void ServedTable::Append(const AppendCall& call, AppendInput batch,
                         AppendDone done) {
  const uint64_t sequence = batch.lists->sequence();
  absl::Status status = table_->CheckBatch(batch);
  if (status.ok() && sequence == 0) {
    status = absl::InvalidArgumentError("sequence = 0: allowed is 1 or more");
  }
  if (!status.ok()) {
    done(Reject(status));
    return;
  }
  std::optional<absl::StatusOr<v1::AppendResponse>> settled;
  {
    absl::MutexLock lock(&mutex_);
    if (stopped_) {
      settled = ShuttingDown();
    } else if (!failed_.ok()) {
      settled = failed_;
    } else if (!appends_.contains(call.writer_id)) {
      settled = Settle(call.writer_id, sequence);
    }
    if (!settled.has_value()) {
      ++appends_[call.writer_id];
      queue_.push_back({call, std::move(batch), std::move(done), absl::Now()});
    }
  }
  if (settled.has_value()) {
    done(*std::move(settled));
  } else {
    Drain();
  }
}

void ServedTable::Drain() {
  for (;;) {
    std::optional<QueuedAppend> append;
    {
      absl::MutexLock lock(&mutex_);
      auto may_store = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return !quiescing_;
      };
      mutex_.Await(absl::Condition(&may_store));
      append = TakeRunnable();
    }
    if (!append.has_value()) return;
    absl::StatusOr<v1::AppendResponse> result = Store(*append);
    NoteStored(*append);
    if (!result.ok()) Reject(result.status()).IgnoreError();
    append->done(std::move(result));
  }
}

std::optional<ServedTable::QueuedAppend> ServedTable::TakeRunnable() {
  if (queue_.empty() || !CanInsert()) return std::nullopt;
  // A writer's batches are stored one after another.
  auto next = std::find_if(queue_.begin(), queue_.end(),
                           [this](const QueuedAppend& append) {
                             return !storing_.contains(append.call.writer_id);
                           });
  if (next == queue_.end()) return std::nullopt;
  QueuedAppend append = std::move(*next);
  queue_.erase(next);
  storing_.insert(append.call.writer_id);
  items_storing_ += append.batch.lists->item_first_size();
  metrics_.insert_wait_seconds.Increment(SecondsSince(append.since));
  return append;
}

absl::StatusOr<v1::AppendResponse> ServedTable::Store(
    const QueuedAppend& append) {
  const absl::Time start = absl::Now();
  std::unique_ptr<Table::Reservation> reservation;
  {
    absl::MutexLock lock(&mutex_);
    if (!failed_.ok()) return failed_;
    auto settled =
        Settle(append.call.writer_id, append.batch.lists->sequence());
    if (settled.has_value()) return *std::move(settled);
    QFLEET_ASSIGN_OR_RETURN(
        reservation, table_->Reserve(append.call.writer_id, append.batch));
    auto writable = [this, &reservation] {
      return table_->Writable(*reservation);
    };
    mutex_.Await(absl::Condition(&writable));
  }
  table_->Write(*reservation);
  v1::AppendResponse response;
  {
    absl::MutexLock lock(&mutex_);
    response = table_->Commit(std::move(reservation));
  }
  metrics_.append_seconds.Observe(SecondsSince(start));
  return response;
}

void ServedTable::NoteStored(const QueuedAppend& append) {
  absl::MutexLock lock(&mutex_);
  storing_.erase(append.call.writer_id);
  items_storing_ -= append.batch.lists->item_first_size();
  if (--appends_[append.call.writer_id] == 0)
    appends_.erase(append.call.writer_id);
}

void ServedTable::CancelAppends(const AppendCall& call) {
  CancelIf([&call](const AppendCall& queued) {
    return queued.connection == call.connection;
  });
}

void ServedTable::CancelAppends(uint64_t writer_id) {
  CancelIf([writer_id](const AppendCall& queued) {
    return queued.writer_id == writer_id;
  });
}

void ServedTable::CancelIf(
    const std::function<bool(const AppendCall&)>& chosen) {
  std::vector<AppendDone> cancelled;
  {
    absl::MutexLock lock(&mutex_);
    for (auto append = queue_.begin(); append != queue_.end();) {
      if (!chosen(append->call)) {
        ++append;
        continue;
      }
      cancelled.push_back(std::move(append->done));
      const uint64_t writer_id = append->call.writer_id;
      append = queue_.erase(append);
      if (--appends_[writer_id] == 0) appends_.erase(writer_id);
    }
  }
  for (AppendDone& done : cancelled) {
    done(absl::CancelledError("the writer's connection was given up"));
  }
}

// ----------------------------------------------------------------- sample ---

absl::Status ServedTable::Sample(const v1::SampleDraw& draw,
                                 v1::SampleResponse& response) {
  QFLEET_RETURN_IF_ERROR(Reject(CheckDraw(draw, max_draw_)));
  {
    absl::MutexLock lock(&mutex_);
    if (stopped_) return ShuttingDown();
    others_ = {draw.others_inserted(), draw.others_sampled(),
               draw.others_size()};
    if (draw.count() == 0) *response.mutable_stats() = table_->Stats();
  }
  Drain();  // The totals may have freed the inserts that this draw waits for.
  if (draw.count() == 0) return absl::OkStatus();
  absl::Time start;
  std::unique_ptr<Table::Drawing> drawing;
  {
    absl::MutexLock lock(&mutex_);
    QFLEET_RETURN_IF_ERROR(AwaitSample(draw, response));
    if (response.limited()) return absl::OkStatus();
    start = absl::Now();
    QFLEET_ASSIGN_OR_RETURN(drawing, table_->Draw(draw.count()));
  }
  {
    // Also if there is no memory for the rows.
    absl::Cleanup release = [this, &drawing] {
      absl::MutexLock lock(&mutex_);
      table_->Release(std::move(drawing));
    };
    table_->Gather(*drawing, response);
  }
  metrics_.sample_seconds.Observe(SecondsSince(start));
  Drain();
  return absl::OkStatus();
}

absl::Status ServedTable::AwaitSample(const v1::SampleDraw& draw,
                                      v1::SampleResponse& response) {
  auto ready = [this, &draw]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopped_ || CanSample(draw.count());
  };
  if (!ready()) {
    const auto wait = sampler_waits_.insert(absl::Now());
    mutex_.AwaitWithTimeout(absl::Condition(&ready),
                            absl::Milliseconds(draw.timeout_ms()));
    metrics_.sample_wait_seconds.Increment(SecondsSince(*wait));
    sampler_waits_.erase(wait);
  }
  if (stopped_) return ShuttingDown();
  if (!CanSample(draw.count())) {
    response.set_limited(true);
    response.set_too_few(table_->Drawable() < draw.count());
    *response.mutable_stats() = table_->Stats();
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::UpdatePrioritiesResponse> ServedTable::UpdatePriorities(
    const v1::UpdatePrioritiesRequest& request) {
  absl::StatusOr<v1::UpdatePrioritiesResponse> result;
  {
    absl::MutexLock lock(&mutex_);
    if (stopped_) return ShuttingDown();
    if (!failed_.ok()) return failed_;
    result = table_->UpdatePriorities(request);
  }
  if (!result.ok()) return Reject(result.status());
  metrics_.priorities_applied.Increment(result->applied());
  metrics_.priorities_stale.Increment(result->stale());
  metrics_.priorities_unknown.Increment(result->unknown());
  return result;
}

// --------------------------------------------------------------- the rest ---

v1::TableStats ServedTable::Stats() const {
  absl::MutexLock lock(&mutex_);
  return table_->Stats();
}

std::string ServedTable::WritersWaitFor() const {
  if (queue_.empty()) return "";
  return limiter_.WhyNotInsert(Sum(table_->Stats(), others_));
}

std::string ServedTable::SamplersWaitFor() const {
  if (sampler_waits_.empty()) return "";
  const std::string limited =
      limiter_.WhyNotSample(Sum(table_->Stats(), others_));
  if (!limited.empty()) return limited;
  return absl::StrCat(kWaitForItems,
                      "the table has fewer to draw than asked for");
}

v1::TableInfo ServedTable::Info() const {
  v1::TableInfo info;
  *info.mutable_spec() = table_->spec();
  v1::StorageInfo& storage = *info.mutable_storage();
  storage.set_directory(storage_->directory());
  storage.set_recovery_seconds(recovery_seconds_);
  absl::MutexLock lock(&mutex_);
  *info.mutable_spec()->mutable_rate_limiter() = limiter_.spec();
  *info.mutable_stats() = table_->Stats();
  info.set_waiting_writers(static_cast<uint32_t>(queue_.size()));
  info.set_writers_wait_for(WritersWaitFor());
  if (!queue_.empty()) {
    info.set_writers_wait_seconds(SecondsSince(queue_.front().since));
  }
  info.set_waiting_samplers(static_cast<uint32_t>(sampler_waits_.size()));
  info.set_samplers_wait_for(SamplersWaitFor());
  if (!sampler_waits_.empty()) {
    info.set_samplers_wait_seconds(SecondsSince(*sampler_waits_.begin()));
  }
  const Table::Recovery& recovery = table_->recovery();
  storage.set_recovered(recovery.recovered);
  storage.set_recovered_items(recovery.items);
  storage.set_recovery_dropped(recovery.dropped);
  const Table::Verified& verified = table_->verified();
  storage.set_verified_steps(verified.steps);
  storage.set_verify_total(verified.total);
  storage.set_damaged_steps(recovery.damaged_steps + verified.damaged_steps);
  storage.set_damaged_items(verified.damaged_items);
  storage.set_failed(std::string(failed_.message()));
  storage.set_seconds_since_sync(synced_.has_value() ? SecondsSince(*synced_)
                                                     : -1);
  return info;
}

v1::RateLimiter ServedTable::SetRateLimiter(const v1::RateLimiter& limiter) {
  v1::RateLimiter previous;
  {
    absl::MutexLock lock(&mutex_);
    previous = limiter_.spec();
    limiter_ = RateLimiter(limiter);
  }
  Drain();  // Waiting samplers look again as the lock is released.
  return previous;
}

// ---------------------------------------------------------------- storage ---

absl::Status ServedTable::Sync() {
  const absl::Time start = absl::Now();
  const absl::Status status = storage_->Sync();
  metrics_.sync_seconds.Observe(SecondsSince(start));
  absl::MutexLock lock(&mutex_);
  if (status.ok()) {
    // What the disk forgot then it has not remembered since.
    if (failed_.ok()) synced_ = start;
  } else if (failed_.ok()) {
    failed_ = absl::UnavailableError(
        absl::StrCat("table \"", spec().name(),
                     "\" takes no more writes: ", status.message()));
  }
  return failed_;
}

void ServedTable::VerifyAll() {
  for (;;) {
    std::unique_ptr<Table::VerifyPiece> piece;
    {
      absl::MutexLock lock(&mutex_);
      if (stopped_) return;
      piece = table_->BeginVerify(kVerifySteps);
    }
    if (piece == nullptr) return;
    const std::vector<uint64_t> damaged = table_->Verify(*piece);
    absl::MutexLock lock(&mutex_);
    table_->EndVerify(std::move(piece), damaged);
  }
}

absl::Status ServedTable::WriteSnapshot(const std::string& directory) {
  std::unique_ptr<Table::Snapshot> snapshot;
  {
    absl::MutexLock lock(&mutex_);
    quiescing_ = true;
    auto quiet = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return storing_.empty();
    };
    mutex_.Await(absl::Condition(&quiet));
    snapshot = table_->BeginSnapshot();
    quiescing_ = false;
  }
  // To memory first: what inserts overwrite meanwhile is kept there as well.
  std::vector<Table::Piece> items;
  const absl::StatusOr<bool> more = CopyItems(*snapshot, items);
  TableFilesWriter files;
  absl::Status status = more.status();
  if (status.ok()) status = files.Open(directory, snapshot->header);
  if (status.ok()) {
    status = WriteRows(*snapshot, *more, std::move(items), files);
  }
  if (status.ok()) {
    status = files.Write(kStateRegion, 0, snapshot->state.data(),
                         snapshot->state.size());
  }
  if (status.ok()) {
    status = files.Write(kWritersRegion, 0, snapshot->writers.data(),
                         snapshot->writers.size());
  }
  {
    absl::MutexLock lock(&mutex_);
    table_->EndSnapshot(std::move(snapshot));
  }
  return status.ok() ? files.Sync() : status;
}

absl::Status ServedTable::WriteRows(Table::Snapshot& snapshot, bool more,
                                    std::vector<Table::Piece> items,
                                    TableFilesWriter& files) {
  while (more) {
    QFLEET_RETURN_IF_ERROR(WriteItems(items, files));
    items.clear();
    QFLEET_ASSIGN_OR_RETURN(more, CopyItems(snapshot, items));
  }
  // Inserts may wait for steps, and for those items not any more.
  QFLEET_RETURN_IF_ERROR(WriteSteps(snapshot, files));
  return WriteItems(items, files);
}

absl::StatusOr<bool> ServedTable::CopyItems(Table::Snapshot& snapshot,
                                            std::vector<Table::Piece>& items) {
  bool more = true;
  std::vector<Table::Piece> kept;
  for (uint64_t bytes = 0; more && bytes < kItemsInMemory;
       bytes += kItemsUnderLock) {
    absl::MutexLock lock(&mutex_);
    if (stopped_) return absl::CancelledError("the shard is shutting down");
    more = table_->CopyItems(snapshot, kItemsUnderLock, items);
    if (!more) table_->ItemsCopied(snapshot, kept);
  }
  // They overwrite their slots' rows; in order, which is quickest.
  std::sort(kept.begin(), kept.end(),
            [](const auto& a, const auto& b) { return a.offset < b.offset; });
  for (Table::Piece& piece : kept) items.push_back(std::move(piece));
  return more;
}

absl::Status ServedTable::WriteItems(const std::vector<Table::Piece>& items,
                                     TableFilesWriter& files) {
  for (const Table::Piece& piece : items) {
    QFLEET_RETURN_IF_ERROR(files.Write(kItemsRegion, piece.offset,
                                       piece.data.data(), piece.data.size()));
  }
  return absl::OkStatus();
}

absl::Status ServedTable::WriteSteps(Table::Snapshot& snapshot,
                                     TableFilesWriter& files) {
  Table::StepRows rows;
  while (table_->NextSteps(snapshot, kStepsAtOnce, rows)) {
    QFLEET_RETURN_IF_ERROR(files.Write(kStepsRegion, rows.header_offset,
                                       rows.headers, rows.header_bytes));
    QFLEET_RETURN_IF_ERROR(files.Write(kPayloadRegion, rows.payload_offset,
                                       rows.payload, rows.payload_bytes));
    absl::MutexLock lock(&mutex_);
    if (stopped_) return absl::CancelledError("the shard is shutting down");
    table_->StepsCopied(snapshot, rows);
  }
  return absl::OkStatus();
}

void ServedTable::Shutdown() {
  std::deque<QueuedAppend> queue;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    queue.swap(queue_);
    for (const QueuedAppend& append : queue) {
      if (--appends_[append.call.writer_id] == 0)
        appends_.erase(append.call.writer_id);
    }
  }
  for (QueuedAppend& append : queue) append.done(ShuttingDown());
}

}  // namespace qfleet
