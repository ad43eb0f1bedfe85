#include "replay_client/sample_planner.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "common/table_spec.h"

namespace qfleet {
namespace {

// How long a shard may hold a draw back before it is asked again with newer
// totals of the others: while it waits, only its own inserts can free it.
constexpr uint32_t kDrawTimeoutMs = 20;

// Of one answer: what many rows are cut into, and the most. A row is copied
// four times on its way (gathered, into and out of the socket, to its batch),
// with TLS ten times: an answer that fits into the caches makes that cheap,
// lets the shard gather the next one meanwhile, and needs no block of memory so
// large that the allocators of both sides give it back each time. One that is
// much smaller costs more in wake-ups.
constexpr uint64_t kAnswerBytes = 2 << 20;
constexpr uint64_t kMaxAnswerBytes = 4 << 20;

uint32_t RowsIn(uint64_t bytes, const v1::TableSignature& signature) {
  return static_cast<uint32_t>(std::clamp<uint64_t>(
      bytes / (SampledRowBytes(signature) + 1), 1, MaxDraw(signature)));
}

// A shard with nothing to answer is asked for its stats so often while some
// batch waits (for masses, or for inserts that went to another shard) ...
constexpr absl::Duration kBusyPeriod = absl::Milliseconds(5);
// ... and else, so that its rate limiter knows what the others do.
constexpr absl::Duration kIdlePeriod = absl::Milliseconds(100);

}  // namespace

uint32_t AnswerRows(const v1::TableSignature& signature) {
  return RowsIn(kAnswerBytes, signature);
}

SamplePlanner::SamplePlanner(const SamplerOptions& options)
    : options_(options),
      stats_(static_cast<int>(options.shards.size()), options.known),
      answer_rows_(AnswerRows(options.signature)),
      max_answer_rows_(RowsIn(kMaxAnswerBytes, options.signature)),
      random_(options.seed),
      shards_(options.shards.size()) {
  for (Shard& shard : shards_) shard.most_rows = answer_rows_;
}

void SamplePlanner::Connect(int shard, const v1::TableStats& stats,
                            absl::Time now) {
  stats_.Update(shard, stats, now);
}

void SamplePlanner::Disconnect(int shard) {
  stats_.Disconnect(shard);
  Shard& lost = shards_[shard];
  for (const Request& request : lost.in_flight) {
    for (const Ask& ask : request) Unallot(ask);
  }
  for (const Ask& ask : lost.to_send) Unallot(ask);
  lost.in_flight.clear();
  lost.to_send.clear();
}

void SamplePlanner::Unallot(const Ask& ask) {
  if (ask.batch == nullptr) return;
  ask.batch->unallotted += ask.count();
}

void SamplePlanner::NextRequest(int shard, v1::SampleDraw& draw) {
  Shard& asked = shards_[shard];
  Request& request = asked.in_flight.emplace_back();
  uint32_t count = 0;
  while (!asked.to_send.empty() &&
         (request.empty() ||
          count + asked.to_send.front().count() <= asked.most_rows)) {
    count += asked.to_send.front().count();
    request.push_back(std::move(asked.to_send.front()));
    asked.to_send.pop_front();
  }
  draw.set_count(count);
  draw.set_timeout_ms(kDrawTimeoutMs);
  stats_.FillOthers(shard, draw);
}

absl::Status SamplePlanner::Answer(int shard,
                                   std::shared_ptr<const SampleAnswer> answer,
                                   absl::Time now) {
  Shard& asked = shards_[shard];
  if (asked.in_flight.empty()) {
    return absl::InternalError("an answer without a request");
  }
  const Request request = std::move(asked.in_flight.front());
  asked.in_flight.pop_front();
  const v1::SampleResponse& lists = answer->lists();
  stats_.Update(shard, lists.stats(), now);
  uint32_t count = 0;
  for (const Ask& ask : request) count += ask.count();
  if (count == 0) return absl::OkStatus();
  if (lists.limited()) {
    if (lists.too_few()) asked.most_rows = std::max(1u, count / 2);
    AskAgain(asked, request, lists);
    return absl::OkStatus();
  }
  QFLEET_RETURN_IF_ERROR(CheckAnswer(options_.signature, count, *answer));
  // Each item may be drawn once at least.
  if (lists.stats().size() / 2 >= asked.most_rows) {
    asked.most_rows = std::min(answer_rows_, 2 * asked.most_rows);
  }
  Deal(request, answer);
  return absl::OkStatus();
}

// The same shard again, or shards that are held back would be drawn from less;
// but not if it has not enough to draw.
void SamplePlanner::AskAgain(Shard& asked, const Request& request,
                             const v1::SampleResponse& answer) {
  const bool has_items = answer.stats().mass() > 0 && !answer.too_few();
  for (const Ask& ask : request) {
    if (ask.count() == 0) continue;
    ask.batch->limited = true;
    if (has_items) {
      asked.to_send.push_back(ask);
    } else {
      Unallot(ask);
    }
  }
}

void SamplePlanner::Deal(const Request& request,
                         const std::shared_ptr<const SampleAnswer>& answer) {
  const uint64_t size = stats_.size();
  uint32_t row = 0;
  for (const Ask& ask : request) {
    if (ask.count() == 0) continue;
    ask.batch->missing -= ask.count();
    const bool last = ask.batch->missing == 0;
    arrived_.push_back({ask.batch, ask.part, answer, row, size, last});
    row += ask.count();
    if (!last) continue;
    pending_.erase(std::find(pending_.begin(), pending_.end(), ask.batch));
  }
}

void SamplePlanner::Plan(size_t ready, absl::Time now) {
  // Batches whose last rows are here, but not taken.
  const auto complete = static_cast<size_t>(
      std::count_if(arrived_.begin(), arrived_.end(),
                    [](const ArrivedPart& part) { return part.last; }));
  const size_t have = pending_.size() + complete + ready;
  if (have + std::max(1u, options_.prefetch / 2) <= options_.prefetch) {
    for (size_t i = have; i < options_.prefetch; ++i) {
      auto batch = std::make_shared<PendingBatch>();
      batch->unallotted = batch->missing = options_.batch_size;
      pending_.push_back(std::move(batch));
    }
  }
  for (const auto& batch : pending_) {
    if (batch->unallotted > 0) AllotRows(batch, now);
  }
  Refresh(now);
}

void SamplePlanner::AllotRows(const std::shared_ptr<PendingBatch>& batch,
                              absl::Time now) {
  const std::vector<double> masses = stats_.Masses();
  double sum = 0;
  for (double mass : masses) sum += mass;
  if (!(sum > 0)) return;  // No items yet; Refresh asks on.
  const std::vector<uint32_t> counts =
      Allot(masses, batch->unallotted, random_);
  batch->unallotted = 0;
  mass_age_ = absl::ZeroDuration();
  for (size_t s = 0; s < shards_.size(); ++s) {
    if (!stats_.connected(s)) continue;
    mass_age_ = std::max(mass_age_, now - stats_.updated_at(s));
    if (counts[s] > 0) {
      AddParts(batch, static_cast<int>(s), counts[s], masses[s] / sum);
    } else if (shards_[s].idle()) {
      shards_[s].to_send.push_back({});  // Keeps its mass fresh.
    }
  }
}

void SamplePlanner::AddParts(const std::shared_ptr<PendingBatch>& batch,
                             int shard, uint32_t count, double share) {
  // In smaller parts where a queue is short: its writers may be waiting for
  // these to be drawn.
  const uint32_t queue = shards_[shard].most_rows;
  const uint32_t most = queue < answer_rows_ ? queue : max_answer_rows_;
  while (count > 0) {
    const uint32_t rows = count <= most ? count : std::min(queue, answer_rows_);
    shards_[shard].to_send.push_back({batch, {shard, rows, share}});
    count -= rows;
  }
}

void SamplePlanner::Refresh(absl::Time now) {
  for (size_t s = 0; s < shards_.size(); ++s) {
    if (stats_.connected(s) && shards_[s].idle() &&
        now - stats_.updated_at(s) >= period()) {
      shards_[s].to_send.push_back({});
    }
  }
}

std::optional<ArrivedPart> SamplePlanner::TakeArrived() {
  if (arrived_.empty()) return std::nullopt;
  ArrivedPart arrived = std::move(arrived_.front());
  arrived_.pop_front();
  return arrived;
}

absl::Duration SamplePlanner::period() const {
  return pending_.empty() ? kIdlePeriod : kBusyPeriod;
}

bool SamplePlanner::waits_for_limiter() const {
  return !pending_.empty() && pending_.front()->limited;
}

}  // namespace qfleet
