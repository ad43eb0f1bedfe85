#include "replay_client/remote_writer.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <deque>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/call_queue.h"
#include "common/status_macros.h"
#include "replay_client/append_stream.h"
#include "replay_client/batch_builder.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

// A shard takes at most half its ring of steps in a batch, and the smallest
// ring has 1024.
constexpr uint64_t kMaxBatchSteps = 512;

// An item ends at most so many steps before its stream's newest one.
constexpr uint64_t kMaxItemLag = 4096;

// The steps of a stream, numbered for the caller without a gap, are spread
// over shards episode by episode, and each shard wants its part without a gap
// too. A segment is a run of steps on one shard, with the difference between
// the two numbers; or the rest of an episode that was given up, which is on no
// shard and has no numbers there.
struct Segment {
  uint64_t first;        // The caller's index of its first step.
  int shard;             // Or kDropped.
  uint64_t shard_first;  // The shard's index of the same step.
};

constexpr int kDropped = -1;

struct StreamState {
  uint64_t next = 0;
  std::vector<uint64_t> next_on_shard;
  std::deque<Segment> segments;  // Oldest first; old ones are dropped.
};

// Where an item belongs.
struct Placement {
  int shard;       // kDropped if one of its steps was.
  uint64_t shift;  // Modular; from the caller's indices to the shard's.
};

absl::StatusOr<Placement> Place(uint32_t stream, const StreamState& state,
                                uint64_t first, uint64_t last) {
  const Segment* segment = nullptr;  // That holds step `first`.
  const Segment* next = nullptr;     // The one after it.
  // The steps from `end` on are on another shard, or not there yet. The
  // dropped rest of an episode is no end.
  uint64_t end = state.next;
  for (auto it = state.segments.rbegin(); it != state.segments.rend(); ++it) {
    if (it->first <= first) {
      segment = &*it;
      break;
    }
    next = &*it;
    if (next->shard != kDropped) end = next->first;
  }
  if (segment == nullptr || first > last || last >= end ||
      last + kMaxItemLag + 1 < state.next) {
    return absl::InvalidArgumentError(absl::StrCat(
        "item [", first, ", ", last, "] of stream ", stream,
        ": allowed is a span of one episode's steps, of which the newest is ",
        static_cast<int64_t>(state.next) - 1, " and the last at most ",
        kMaxItemLag, " steps older"));
  }
  if (last - first > kMaxItemLag) {
    return absl::InvalidArgumentError(absl::StrCat(
        "item [", first, ", ", last, "] of stream ", stream,
        ": allowed is a span of at most ", kMaxItemLag + 1, " steps"));
  }
  const bool dropped = next != nullptr && last >= next->first;
  return Placement{dropped ? kDropped : segment->shard,
                   segment->shard_first - segment->first};
}

class RemoteWriterImpl : public RemoteWriter {
 public:
  explicit RemoteWriterImpl(const WriterOptions& options);

  absl::StatusOr<uint64_t> AppendStep(
      uint32_t stream, bool starts_episode,
      absl::Span<const ColumnRow> columns) override;
  absl::Status AppendItem(uint32_t stream, uint64_t first, uint64_t last,
                          absl::Span<const ColumnRow> columns,
                          float priority) override;
  absl::Status Poll() override;
  absl::Status Flush() override;
  WriterStats Stats() const override;
  void Stop() override;

 private:
  struct ShardState {
    std::unique_ptr<AppendStream> stream;
    BatchBuilder builder;
    absl::Time started;  // When the builder got its first row.
    uint64_t last_sequence = 0;
    absl::Time logged_loss;  // See Abandon.
  };

  absl::Status CheckShards() const;
  // Before the first step.
  absl::Status WaitForShards();
  int ChooseShard(uint32_t stream) const;
  StreamState& FindStream(uint32_t stream);
  bool Full(const ShardState& shard) const;
  // The shard of the episode that begins, ready for a step.
  absl::StatusOr<int> ShardForEpisode(uint32_t stream);
  // The shard of the one that goes on, likewise; kDropped if that was given up.
  absl::StatusOr<int> ShardOfEpisode(uint32_t stream, StreamState& state);
  // Makes the builder ready for one more row: true. False if the shard is away,
  // for longer than `away_patience`, and another one is there. On an error
  // nothing changed.
  absl::StatusOr<bool> MakeRoom(ShardState& shard,
                                absl::Duration away_patience);
  bool OtherConnected(const ShardState& shard) const;
  // Gives the episode up that the stream is in.
  void Abandon(uint32_t stream, StreamState& state);
  void NoteRow(ShardState& shard);
  bool TrySend(ShardState& shard);
  void Send(ShardState& shard);

  const WriterOptions options_;
  // Of the streams: one look for each step, not one at each of them.
  std::atomic<bool> any_failed_{false};
  CallQueue queue_;
  std::vector<ShardState> shards_;
  const absl::Time connect_deadline_;
  absl::flat_hash_map<uint32_t, StreamState> streams_;
  std::atomic<uint64_t> steps_dropped_{0};
  std::atomic<uint64_t> items_dropped_{0};
};

RemoteWriterImpl::RemoteWriterImpl(const WriterOptions& options)
    : options_(options),
      connect_deadline_(absl::Now() + options.connect_patience) {
  AppendStream::Options link;
  link.open.set_table(options.table);
  *link.open.mutable_signature() = options.signature;
  link.max_unacknowledged_bytes = options.max_unacknowledged_bytes;
  link.max_unacknowledged_steps = options.max_unacknowledged_steps;
  link.silence_patience = options.silence_patience;
  link.queue = &queue_;
  link.failed = &any_failed_;
  for (const std::string& address : options.shards) {
    link.address = address;
    shards_.push_back({std::make_unique<AppendStream>(link),
                       BatchBuilder(options.signature), absl::Time()});
  }
}

absl::Status RemoteWriterImpl::CheckShards() const {
  if (shards_.empty()) {
    return absl::InvalidArgumentError("shards is empty: allowed is 1 or more");
  }
  if (!any_failed_.load(std::memory_order_acquire)) return absl::OkStatus();
  for (const ShardState& shard : shards_) {
    QFLEET_RETURN_IF_ERROR(shard.stream->status());
  }
  return absl::OkStatus();
}

absl::Status RemoteWriterImpl::WaitForShards() {
  if (!streams_.empty()) return absl::OkStatus();
  for (const ShardState& shard : shards_) {
    shard.stream->WaitConnected(connect_deadline_);
  }
  return CheckShards();
}

// A stream has its shard, and moves on to another while that is away.
int RemoteWriterImpl::ChooseShard(uint32_t stream) const {
  const size_t home =
      (uint64_t{options_.first_stream} + stream) % shards_.size();
  for (size_t i = 0; i < shards_.size(); ++i) {
    const size_t shard = (home + i) % shards_.size();
    if (shards_[shard].stream->connected()) return static_cast<int>(shard);
  }
  return static_cast<int>(home);
}

StreamState& RemoteWriterImpl::FindStream(uint32_t stream) {
  StreamState& state = streams_[stream];
  if (state.next_on_shard.empty()) state.next_on_shard.resize(shards_.size());
  return state;
}

absl::StatusOr<uint64_t> RemoteWriterImpl::AppendStep(
    uint32_t stream, bool starts_episode, absl::Span<const ColumnRow> columns) {
  QFLEET_RETURN_IF_ERROR(CheckShards());
  QFLEET_RETURN_IF_ERROR(WaitForShards());
  StreamState& state = FindStream(stream);
  if (state.segments.empty() && !starts_episode) {
    return absl::InvalidArgumentError(absl::StrCat(
        "step 0 of stream ", stream,
        " has starts_episode = false: a stream begins with an episode"));
  }
  QFLEET_ASSIGN_OR_RETURN(const int s, starts_episode
                                           ? ShardForEpisode(stream)
                                           : ShardOfEpisode(stream, state));
  if (s == kDropped) {
    steps_dropped_.fetch_add(1, std::memory_order_relaxed);
    return state.next++;
  }
  ShardState& shard = shards_[s];
  QFLEET_RETURN_IF_ERROR(shard.builder.AddStep(stream, state.next_on_shard[s],
                                               starts_episode, columns));
  if (state.segments.empty() || state.segments.back().shard != s) {
    state.segments.push_back({state.next, s, state.next_on_shard[s]});
  }
  while (state.segments.size() > 1 &&
         state.segments[1].first + kMaxItemLag < state.next) {
    state.segments.pop_front();
  }
  ++state.next_on_shard[s];
  NoteRow(shard);
  return state.next++;
}

absl::StatusOr<int> RemoteWriterImpl::ShardForEpisode(uint32_t stream) {
  for (;;) {
    const int s = ChooseShard(stream);
    // Nothing is lost by going elsewhere: no patience with one that is away.
    QFLEET_ASSIGN_OR_RETURN(const bool ready,
                            MakeRoom(shards_[s], absl::ZeroDuration()));
    if (ready) return s;
  }
}

absl::StatusOr<int> RemoteWriterImpl::ShardOfEpisode(uint32_t stream,
                                                     StreamState& state) {
  const int s = state.segments.back().shard;
  if (s == kDropped) return kDropped;
  QFLEET_ASSIGN_OR_RETURN(const bool ready,
                          MakeRoom(shards_[s], options_.shard_patience));
  if (ready) return s;
  Abandon(stream, state);
  return kDropped;
}

void RemoteWriterImpl::Abandon(uint32_t stream, StreamState& state) {
  ShardState& shard = shards_[state.segments.back().shard];
  state.segments.push_back({state.next, kDropped, 0});
  // One line for the loss, not one for each stream.
  const absl::Time lost = shard.stream->away_since();
  if (shard.logged_loss == lost) return;
  shard.logged_loss = lost;
  spdlog::warn(
      "{} has been away for {}: dropping the rest of the episodes that it has "
      "the beginning of (first of stream {}); new ones go to other shards",
      shard.stream->address(), absl::FormatDuration(absl::Now() - lost),
      stream);
}

absl::Status RemoteWriterImpl::AppendItem(uint32_t stream, uint64_t first,
                                          uint64_t last,
                                          absl::Span<const ColumnRow> columns,
                                          float priority) {
  QFLEET_RETURN_IF_ERROR(CheckShards());
  StreamState& state = FindStream(stream);
  QFLEET_ASSIGN_OR_RETURN(const Placement item,
                          Place(stream, state, first, last));
  if (!std::isfinite(priority) || priority < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "priority = ", priority, ": allowed is a finite number >= 0"));
  }
  bool keep = item.shard != kDropped;
  if (keep) {
    QFLEET_ASSIGN_OR_RETURN(
        keep, MakeRoom(shards_[item.shard], options_.shard_patience));
    if (!keep && state.segments.back().shard == item.shard) {
      Abandon(stream, state);
    }
  }
  if (!keep) {
    items_dropped_.fetch_add(1, std::memory_order_relaxed);
    return absl::OkStatus();
  }
  ShardState& shard = shards_[item.shard];
  QFLEET_RETURN_IF_ERROR(shard.builder.AddItem(
      stream, first + item.shift, last + item.shift, columns, priority));
  NoteRow(shard);
  return absl::OkStatus();
}

bool RemoteWriterImpl::Full(const ShardState& shard) const {
  const BatchSize size = shard.builder.size();
  return size.bytes >= options_.batch_bytes ||
         size.steps >= std::min<uint64_t>(options_.batch_steps, kMaxBatchSteps);
}

absl::StatusOr<bool> RemoteWriterImpl::MakeRoom(ShardState& shard,
                                                absl::Duration away_patience) {
  if (!Full(shard) || TrySend(shard)) return true;
  // The caller will be held up: let the other shards have what there is.
  for (ShardState& other : shards_) TrySend(other);
  QFLEET_ASSIGN_OR_RETURN(
      const bool ready,
      shard.stream->WaitForRoom(shard.builder.size(), options_.patience,
                                away_patience,
                                [&] { return OtherConnected(shard); }));
  if (ready) Send(shard);
  return ready;
}

bool RemoteWriterImpl::OtherConnected(const ShardState& shard) const {
  return absl::c_any_of(shards_, [&shard](const ShardState& other) {
    return &other != &shard && other.stream->connected();
  });
}

// After a row was added.
void RemoteWriterImpl::NoteRow(ShardState& shard) {
  if (shard.started == absl::Time()) shard.started = absl::Now();
  if (Full(shard)) TrySend(shard);
}

bool RemoteWriterImpl::TrySend(ShardState& shard) {
  if (shard.builder.empty()) return true;
  if (!shard.stream->HasRoom(shard.builder.size())) return false;
  Send(shard);
  return true;
}

void RemoteWriterImpl::Send(ShardState& shard) {
  const BatchSize size = shard.builder.size();
  shard.stream->Send(shard.builder.Take(++shard.last_sequence), size);
  shard.started = absl::Time();
}

absl::Status RemoteWriterImpl::Poll() {
  QFLEET_RETURN_IF_ERROR(CheckShards());
  const absl::Time now = absl::Now();
  for (ShardState& shard : shards_) {
    if (shard.builder.empty()) continue;
    if (now - shard.started >= options_.batch_age) TrySend(shard);
  }
  return absl::OkStatus();
}

absl::Status RemoteWriterImpl::Flush() {
  QFLEET_RETURN_IF_ERROR(CheckShards());
  const absl::Time deadline = absl::Now() + options_.patience;
  // First what needs no wait: it must not be behind a shard that is away.
  for (ShardState& shard : shards_) TrySend(shard);
  for (ShardState& shard : shards_) {
    if (TrySend(shard)) continue;
    // A flush drops nothing: whether there is another shard is no matter.
    QFLEET_RETURN_IF_ERROR(
        shard.stream
            ->WaitForRoom(shard.builder.size(), deadline - absl::Now(),
                          absl::InfiniteDuration(), [] { return false; })
            .status());
    Send(shard);
  }
  for (ShardState& shard : shards_) {
    QFLEET_RETURN_IF_ERROR(
        shard.stream->WaitAcknowledged(deadline - absl::Now()));
  }
  return absl::OkStatus();
}

WriterStats RemoteWriterImpl::Stats() const {
  WriterStats stats;
  stats.steps_dropped = steps_dropped_.load(std::memory_order_relaxed);
  stats.items_dropped = items_dropped_.load(std::memory_order_relaxed);
  for (const ShardState& shard : shards_) shard.stream->AddTo(stats);
  return stats;
}

void RemoteWriterImpl::Stop() {
  for (ShardState& shard : shards_) shard.stream->Stop();
}

}  // namespace

std::unique_ptr<RemoteWriter> MakeRemoteWriter(const WriterOptions& options) {
  return std::make_unique<RemoteWriterImpl>(options);
}

}  // namespace qfleet
