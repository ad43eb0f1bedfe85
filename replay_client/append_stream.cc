#include "replay_client/append_stream.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "replay_client/append_encoder.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

// How often a wait for a shard that is away looks for another one: those are
// under other mutexes, so that no condition can tell.
constexpr absl::Duration kElsewherePeriod = absl::Milliseconds(20);

uint64_t RandomWriterId() {
  std::random_device device;
  uint64_t id = 0;
  while (id == 0) id = (uint64_t{device()} << 32) | device();
  return id;
}

// As a writer that the shard does not know.
grpc::ByteBuffer OpenRequestOf(const v1::AppendOpen& open) {
  v1::AppendRequest request;
  *request.mutable_open() = open;
  request.mutable_open()->set_writer_id(RandomWriterId());
  return SerializeMessage(request);
}

}  // namespace

AppendStream::AppendStream(const Options& options)
    : options_(options),
      open_(OpenRequestOf(options.open)),
      channel_(MakeChannel(options.address)),
      method_("/qfleet.v1.Replay/Append",
              grpc::internal::RpcMethod::BIDI_STREAMING, channel_),
      health_(grpc::health::v1::Health::NewStub(MakeChannel(options.address))),
      away_since_(absl::Now()),
      stream_(this, options.queue) {}

void AppendStream::WaitConnected(absl::Time deadline) const {
  absl::MutexLock lock(&mutex_);
  auto settled = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return connected() || !status_.ok();
  };
  mutex_.AwaitWithDeadline(absl::Condition(&settled), deadline);
}

absl::Status AppendStream::status() const {
  absl::MutexLock lock(&mutex_);
  return status_;
}

bool AppendStream::Fits(const BatchSize& size) const {
  return pending_.empty() || (pending_size_.bytes + size.bytes <=
                                  options_.max_unacknowledged_bytes &&
                              pending_size_.steps + size.steps <=
                                  options_.max_unacknowledged_steps);
}

bool AppendStream::HasRoom(const BatchSize& size) const {
  absl::MutexLock lock(&mutex_);
  return Fits(size);
}

absl::StatusOr<bool> AppendStream::WaitForRoom(
    const BatchSize& size, absl::Duration patience,
    absl::Duration away_patience, absl::FunctionRef<bool()> elsewhere) {
  absl::MutexLock lock(&mutex_);
  const absl::Time start = absl::Now();
  absl::StatusOr<bool> result = true;
  for (;;) {
    const absl::Time now = absl::Now();
    const bool was_connected = connected();
    const absl::Time enough = away_since_ + away_patience;
    if (!status_.ok()) {
      result = status_;
    } else if (Fits(size)) {
      result = true;
    } else if (!was_connected && now >= enough && elsewhere()) {
      result = false;
    } else if (now - start >= patience) {
      result = TooLate(patience);
    } else if (was_connected &&
               now - silent_since_ >= options_.silence_patience) {
      silent_since_ = now;
      const absl::Time answer_by = now + options_.silence_patience;
      // Nobody to go to, or no time: it may as well be waited for.
      if (!elsewhere() || answer_by > start + patience) continue;
      if (!Ask(answer_by) && silent_since_ == now) GiveUp();
      continue;
    } else {
      auto changed = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return !status_.ok() || Fits(size) || connected() != was_connected;
      };
      absl::Time wake = start + patience;
      wake = std::min(wake, was_connected
                                ? silent_since_ + options_.silence_patience
                                : std::max(enough, now + kElsewherePeriod));
      mutex_.AwaitWithDeadline(absl::Condition(&changed), wake);
      continue;
    }
    break;
  }
  stats_.waited_seconds += absl::ToDoubleSeconds(absl::Now() - start);
  return result;
}

bool AppendStream::Ask(absl::Time deadline) {
  // No more connections may be open, nor more calls on one: so both are asked.
  // A host that is cut off has no route after some seconds.
  const absl::Time now = absl::Now();
  return Answers(*health_, now + (deadline - now) / 2) ||
         Answers(*grpc::health::v1::Health::NewStub(channel_), deadline);
}

bool AppendStream::Answers(grpc::health::v1::Health::Stub& health,
                           absl::Time deadline) {
  if (!status_.ok()) return false;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  asking_ = &context;
  mutex_.Unlock();
  grpc::health::v1::HealthCheckResponse response;
  const grpc::Status status = health.Check(&context, {}, &response);
  mutex_.Lock();
  asking_ = nullptr;
  // Whatever it says, it is there. (UNAVAILABLE is gRPC's own word.)
  return status_.ok() && status.error_code() != grpc::DEADLINE_EXCEEDED &&
         status.error_code() != grpc::UNAVAILABLE;
}

void AppendStream::GiveUp() {
  if (!status_.ok() || !connected_.exchange(false)) return;
  away_since_ = silent_since_;
  last_error_ = absl::UnavailableError(absl::StrCat(
      "no answer within ", absl::FormatDuration(options_.silence_patience)));
  spdlog::warn("writer gave {} up: {}", options_.address,
               last_error_.ToString());
  // The next connection, which may be on the same dead wire, counts once it was
  // answered. If the shard hung up in this moment that one is made once more.
  mutex_.Unlock();
  stream_.Break();
  mutex_.Lock();
}

absl::Status AppendStream::WaitAcknowledged(absl::Duration patience) {
  absl::MutexLock lock(&mutex_);
  auto empty = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return !status_.ok() || pending_.empty();
  };
  if (mutex_.AwaitWithTimeout(absl::Condition(&empty), patience)) {
    return status_;
  }
  return TooLate(patience);
}

absl::Status AppendStream::TooLate(absl::Duration patience) const {
  return absl::DeadlineExceededError(absl::StrCat(
      options_.address, ": waited ", absl::FormatDuration(patience), " for ",
      pending_.size(), " batches (", pending_size_.bytes,
      " bytes) to be acknowledged; ",
      connected() ? std::string("connected, the rate limiter may hold them")
                  : absl::StrCat("not connected: ", last_error_.message())));
}

absl::Time AppendStream::away_since() const {
  absl::MutexLock lock(&mutex_);
  return away_since_;
}

void AppendStream::Send(v1::AppendBatch batch, const BatchSize& size) {
  const uint64_t sequence = batch.sequence();
  const auto items = static_cast<uint64_t>(batch.item_first_size());
  grpc::ByteBuffer request = EncodeAppend(std::move(batch));
  {
    absl::MutexLock lock(&mutex_);
    if (pending_.empty()) silent_since_ = absl::Now();
    pending_.push_back({std::move(request), sequence, items, size, false});
    pending_size_.bytes += size.bytes;
    pending_size_.steps += size.steps;
  }
  stream_.Poke();
}

void AppendStream::AddTo(WriterStats& stats) const {
  absl::MutexLock lock(&mutex_);
  stats.items_stored += stats_.items_stored;
  stats.items_skipped += stats_.items_skipped;
  stats.items_unconfirmed += stats_.items_unconfirmed;
  stats.batches_resent += stats_.batches_resent;
  stats.reconnects += opened_ > 1 ? opened_ - 1 : 0;
  stats.unacknowledged_bytes += pending_size_.bytes;
  stats.shards_connected += connected() ? 1 : 0;
  stats.waited_seconds += stats_.waited_seconds;
}

void AppendStream::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    Fail(absl::CancelledError("the writer was stopped"));
    if (asking_ != nullptr) asking_->TryCancel();
  }
  stream_.Stop();
}

void AppendStream::Fail(const absl::Status& status) {
  if (!status_.ok()) return;  // The first reason stays.
  status_ = status;
  options_.failed->store(true, std::memory_order_release);
}

bool AppendStream::Parse(grpc::ByteBuffer& bytes,
                         v1::AppendResponse& response) {
  const absl::Status parsed = ParseMessage(bytes, response);
  if (parsed.ok()) return true;
  Fail(absl::InternalError(
      absl::StrCat(options_.address, ": ", parsed.message())));
  return false;
}

void AppendStream::OnOpen(grpc::ByteBuffer& bytes) {
  {
    absl::MutexLock lock(&mutex_);
    v1::AppendResponse response;
    if (!Parse(bytes, response)) return;
    if (!Forgot(response.sequence())) {
      ++opened_;
      acknowledged_ = std::max(acknowledged_, response.sequence());
      // Their own acknowledgement, which was lost with the connection, would
      // have said which were stored.
      stats_.items_unconfirmed += Acknowledge(response.sequence());
      next_ = 0;
      silent_since_ = absl::Now();
      last_error_ = absl::OkStatus();
      connected_.store(true, std::memory_order_relaxed);
      spdlog::info("writer connected to {}", options_.address);
      return;
    }
    spdlog::warn(
        "{} has lost batches {} to {}, which it had acknowledged: it was "
        "restored, or its host lost power; going on as a new writer",
        options_.address, response.sequence() + 1, acknowledged_);
    acknowledged_ = 0;
  }
  // The shard would wait for those for ever. Of a writer that it does not know
  // it takes what comes, each stream from its next episode on.
  open_ = OpenRequestOf(options_.open);
  stream_.Break();
}

bool AppendStream::Forgot(uint64_t sequence) const {
  // All of them: it does not know the writer any more.
  return sequence != 0 && sequence < acknowledged_;
}

const grpc::ByteBuffer* AppendStream::NextRequest() {
  absl::MutexLock lock(&mutex_);
  if (!status_.ok() || !connected() || next_ >= pending_.size()) return nullptr;
  Pending& pending = pending_[next_++];
  if (pending.sent) ++stats_.batches_resent;
  pending.sent = true;
  sending_ = pending.request;
  return &sending_;
}

void AppendStream::OnResponse(grpc::ByteBuffer& bytes) {
  absl::MutexLock lock(&mutex_);
  v1::AppendResponse response;
  if (!Parse(bytes, response)) return;
  silent_since_ = absl::Now();
  stats_.items_stored += response.items_stored();
  stats_.items_skipped += response.items_skipped();
  acknowledged_ = std::max(acknowledged_, response.sequence());
  Acknowledge(response.sequence());
}

uint64_t AppendStream::Acknowledge(uint64_t sequence) {
  uint64_t items = 0;
  while (!pending_.empty() && pending_.front().sequence <= sequence) {
    items += pending_.front().items;
    pending_size_.bytes -= pending_.front().size.bytes;
    pending_size_.steps -= pending_.front().size.steps;
    pending_.pop_front();
    if (next_ > 0) --next_;
  }
  return items;
}

void AppendStream::OnClose(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (connected_.exchange(false)) {
    away_since_ = absl::Now();
    if (status_.ok()) {
      spdlog::warn("writer lost {}: {}", options_.address, status.ToString());
    }
  }
  // A break of our own says less than why.
  if (!absl::IsCancelled(status) || last_error_.ok()) last_error_ = status;
  if (IsFinal(status)) {
    Fail(absl::Status(status.code(),
                      absl::StrCat(options_.address, ": ", status.message())));
  }
}

}  // namespace qfleet
