#include "replay_server/service/served_table.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

constexpr uint32_t kMaxDraw = 65536;
constexpr uint32_t kMaxTimeoutMs = 60000;

absl::Status ShuttingDown() {
  return absl::UnavailableError("the shard is shutting down");
}

absl::Status CheckDraw(const v1::SampleDraw& draw) {
  if (draw.count() > kMaxDraw) {
    return absl::InvalidArgumentError(absl::StrCat(
        "draw.count = ", draw.count(), ": allowed is at most ", kMaxDraw));
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
    const v1::TableSpec& spec, uint64_t seed, Metrics& metrics) {
  auto storage = std::make_unique<AnonymousStorage>();
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Table> table,
                          Table::Create(spec, *storage, seed));
  return std::unique_ptr<ServedTable>(
      new ServedTable(std::move(storage), std::move(table), metrics));
}

ServedTable::ServedTable(std::unique_ptr<Storage> storage,
                         std::unique_ptr<Table> table, Metrics& metrics)
    : storage_(std::move(storage)),
      table_(std::move(table)),
      limiter_(table_->spec().rate_limiter()),
      metrics_(metrics, table_->spec().name()) {}

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

bool ServedTable::CanSample() const {
  const v1::TableStats stats = table_->Stats();
  return stats.mass() > 0 && limiter_.CanSample(Sum(stats, others_));
}

// ----------------------------------------------------------------- append ---

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

void ServedTable::Append(uint64_t writer_id, const v1::AppendBatch& batch,
                         AppendDone done) {
  absl::Status status = table_->CheckBatch(batch);
  if (status.ok() && batch.sequence() == 0) {
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
    } else if (!appends_.contains(writer_id)) {
      settled = Settle(writer_id, batch.sequence());
    }
    if (!settled.has_value()) {
      ++appends_[writer_id];
      queue_.push_back({writer_id, &batch, std::move(done), absl::Now()});
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
                             return !storing_.contains(append.writer_id);
                           });
  if (next == queue_.end()) return std::nullopt;
  QueuedAppend append = std::move(*next);
  queue_.erase(next);
  storing_.insert(append.writer_id);
  items_storing_ += append.batch->item_first_size();
  metrics_.insert_wait_seconds.Increment(SecondsSince(append.since));
  return append;
}

absl::StatusOr<v1::AppendResponse> ServedTable::Store(
    const QueuedAppend& append) {
  const absl::Time start = absl::Now();
  std::unique_ptr<Table::Reservation> reservation;
  {
    absl::MutexLock lock(&mutex_);
    auto settled = Settle(append.writer_id, append.batch->sequence());
    if (settled.has_value()) return *std::move(settled);
    QFLEET_ASSIGN_OR_RETURN(reservation,
                            table_->Reserve(append.writer_id, *append.batch));
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
  storing_.erase(append.writer_id);
  items_storing_ -= append.batch->item_first_size();
  if (--appends_[append.writer_id] == 0) appends_.erase(append.writer_id);
}

void ServedTable::CancelAppend(uint64_t writer_id) {
  std::vector<AppendDone> cancelled;
  {
    absl::MutexLock lock(&mutex_);
    for (auto append = queue_.begin(); append != queue_.end();) {
      if (append->writer_id != writer_id) {
        ++append;
        continue;
      }
      cancelled.push_back(std::move(append->done));
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
  QFLEET_RETURN_IF_ERROR(Reject(CheckDraw(draw)));
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
  table_->Gather(*drawing, response);
  {
    absl::MutexLock lock(&mutex_);
    table_->Release(std::move(drawing));
  }
  metrics_.sample_seconds.Observe(SecondsSince(start));
  Drain();
  return absl::OkStatus();
}

absl::Status ServedTable::AwaitSample(const v1::SampleDraw& draw,
                                      v1::SampleResponse& response) {
  auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopped_ || CanSample();
  };
  if (!ready()) {
    const auto wait = sampler_waits_.insert(absl::Now());
    mutex_.AwaitWithTimeout(absl::Condition(&ready),
                            absl::Milliseconds(draw.timeout_ms()));
    metrics_.sample_wait_seconds.Increment(SecondsSince(*wait));
    sampler_waits_.erase(wait);
  }
  if (stopped_) return ShuttingDown();
  if (!CanSample()) {
    response.set_limited(true);
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

v1::TableInfo ServedTable::Info() const {
  v1::TableInfo info;
  *info.mutable_spec() = table_->spec();
  absl::MutexLock lock(&mutex_);
  *info.mutable_stats() = table_->Stats();
  info.set_waiting_writers(static_cast<uint32_t>(queue_.size()));
  if (!queue_.empty()) {
    info.set_writers_wait_seconds(SecondsSince(queue_.front().since));
  }
  info.set_waiting_samplers(static_cast<uint32_t>(sampler_waits_.size()));
  if (!sampler_waits_.empty()) {
    info.set_samplers_wait_seconds(SecondsSince(*sampler_waits_.begin()));
  }
  return info;
}

void ServedTable::Shutdown() {
  std::deque<QueuedAppend> queue;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    queue.swap(queue_);
    for (const QueuedAppend& append : queue) {
      if (--appends_[append.writer_id] == 0) appends_.erase(append.writer_id);
    }
  }
  for (QueuedAppend& append : queue) append.done(ShuttingDown());
}

}  // namespace qfleet
