// Threads: each shard has one that receives; a coordinator plans, sends, and
// copies rows to their batches. The plan is under one mutex; payload is copied
// outside it.

#include "replay_client/remote_sampler.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "qfleet/v1/replay.grpc.pb.h"
#include "replay_client/pending_batch.h"
#include "replay_client/persistent_stream.h"
#include "replay_client/priority_updater.h"
#include "replay_client/sample_planner.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

struct SamplerMetrics {
  SamplerMetrics(Metrics& metrics, const std::string& table)
      : batches(metrics.Counter("qfleet_sampler_batches_total",
                                "Batches given to the learner.")),
        wait_seconds(
            metrics.Counter("qfleet_sampler_wait_seconds_total",
                            "Time that the learner waited for a batch.")),
        mass_age(metrics.Gauge(
            "qfleet_sampler_mass_age_seconds",
            "Age of the oldest shard's mass when a batch was last allotted.")),
        connected(metrics.Gauge("qfleet_sampler_shards_connected",
                                "Shards that this sampler is connected to.",
                                {{"table", table}})),
        shards(metrics.Gauge("qfleet_sampler_shards",
                             "Shards that this sampler has.",
                             {{"table", table}})),
        pending(metrics.Gauge(
            "qfleet_sampler_priorities_pending",
            "Priorities that wait for their shards or are on their way.")),
        pending_seconds(
            metrics.Gauge("qfleet_sampler_priorities_pending_seconds",
                          "How long the oldest of these has waited by now.")),
        limited(metrics.Counter(
            "qfleet_sampler_limited_total",
            "Draws that a shard's rate limiter held back until they were "
            "asked again.")),
        dropped(metrics.Counter("qfleet_sampler_priorities_dropped_total",
                                "Priorities that never reached their shard.")) {
  }

  prometheus::Counter& batches;
  prometheus::Counter& wait_seconds;
  prometheus::Gauge& mass_age;
  prometheus::Gauge& connected;
  prometheus::Gauge& shards;
  prometheus::Gauge& pending;
  prometheus::Gauge& pending_seconds;
  prometheus::Counter& limited;
  prometheus::Counter& dropped;
};

class RemoteSamplerImpl : public RemoteSampler {
 public:
  RemoteSamplerImpl(const SamplerOptions& options, Metrics& metrics);
  ~RemoteSamplerImpl() override;

  absl::StatusOr<std::unique_ptr<SampleBatch>> Next() override;
  absl::Status UpdatePriorities(absl::Span<const SampleKey> keys,
                                absl::Span<const float> priorities) override;
  ReplayView View() const override;
  std::vector<v1::KnownShard> Known() const override;
  void Stop() override;

 private:
  using Stream = PersistentStream<v1::SampleRequest, grpc::ByteBuffer>;

  // One shard; its state is guarded by the sampler's mutex_.
  class Link : public Stream::Handler {
   public:
    Link(RemoteSamplerImpl* sampler, int shard);
    ~Link() override = default;

    const grpc::internal::RpcMethod& method() override { return method_; }
    grpc::Channel& channel() override { return *channel_; }
    const v1::SampleRequest& OpenRequest() override { return open_; }
    void OnOpen(grpc::ByteBuffer& response) override;
    const v1::SampleRequest* NextRequest() override;
    void OnResponse(grpc::ByteBuffer& response) override;
    void OnClose(const absl::Status& status) override;

    absl::Status last_error;  // While not connected.
    int unanswered = 0;       // Draws.
    bool given_up = false;    // For want of an answer.
    absl::Time heard;  // When the shard last answered, or was asked anew.
    std::unique_ptr<PriorityUpdater> updater;  // Synchronises itself.
    CallQueue queue;                 // Answers are large: a thread for each.
    std::unique_ptr<Stream> stream;  // Synchronises itself. Goes first.

   private:
    RemoteSamplerImpl* const sampler_;
    const int shard_;
    const std::shared_ptr<grpc::Channel> channel_;
    const grpc::internal::RpcMethod method_;
    v1::SampleRequest open_;
    v1::SampleRequest request_;  // What NextRequest gave.
  };

  // The coordinator's thread.
  void Run();
  // Without the lock: see PersistentStream::Break.
  void GiveUpSilent(absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);
  void FlushPriorities();
  void CopyArrived() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // A shard was connected or lost.
  void NoteConnection() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(int shard, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Who waits for what, in words.
  std::string Explain() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);

  const SamplerOptions options_;
  SamplerMetrics metrics_;

  mutable absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool work_ ABSL_GUARDED_BY(mutex_) = true;     // For the coordinator.
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // A final error.
  SamplePlanner planner_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::unique_ptr<SampleBatch>> ready_ ABSL_GUARDED_BY(mutex_);

  std::vector<std::unique_ptr<Link>> links_;
  std::thread coordinator_;
};

// ------------------------------------------------------------------ links ---

RemoteSamplerImpl::Link::Link(RemoteSamplerImpl* sampler, int shard)
    : sampler_(sampler),
      shard_(shard),
      channel_(MakeChannel(sampler->options_.shards[shard])),
      method_("/qfleet.v1.Replay/Sample",
              grpc::internal::RpcMethod::BIDI_STREAMING, channel_) {
  const SamplerOptions& options = sampler->options_;
  open_.mutable_open()->set_table(options.table);
  *open_.mutable_open()->mutable_signature() = options.signature;
  // A channel of its own: priorities do not queue behind a batch.
  updater = std::make_unique<PriorityUpdater>(
      v1::Replay::NewStub(MakeChannel(options.shards[shard])), options.table,
      sampler->metrics_.dropped);
}

void RemoteSamplerImpl::Link::OnOpen(grpc::ByteBuffer& bytes) {
  const absl::StatusOr<std::shared_ptr<const SampleAnswer>> answer =
      SampleAnswer::Decode(bytes);
  absl::MutexLock lock(&sampler_->mutex_);
  if (!answer.ok()) {
    sampler_->Fail(shard_, answer.status());
    return;
  }
  unanswered = 0;
  last_error = absl::OkStatus();
  spdlog::info("sampler connected to {}", sampler_->options_.shards[shard_]);
  sampler_->planner_.Connect(shard_, (*answer)->lists().stats(), absl::Now());
  sampler_->NoteConnection();
}

const v1::SampleRequest* RemoteSamplerImpl::Link::NextRequest() {
  absl::MutexLock lock(&sampler_->mutex_);
  if (!sampler_->planner_.HasRequest(shard_)) return nullptr;
  sampler_->planner_.NextRequest(shard_, *request_.mutable_draw());
  if (unanswered++ == 0) heard = absl::Now();
  return &request_;
}

void RemoteSamplerImpl::Link::OnResponse(grpc::ByteBuffer& bytes) {
  absl::StatusOr<std::shared_ptr<const SampleAnswer>> answer =
      SampleAnswer::Decode(bytes);
  bytes.Clear();
  absl::Status status = answer.status();
  if (status.ok() && (*answer)->lists().limited()) {
    sampler_->metrics_.limited.Increment();
  }
  absl::MutexLock lock(&sampler_->mutex_);
  --unanswered;
  heard = absl::Now();
  if (status.ok()) {
    status = sampler_->planner_.Answer(shard_, *std::move(answer), absl::Now());
  }
  if (!status.ok()) sampler_->Fail(shard_, status);
  sampler_->work_ = true;
}

void RemoteSamplerImpl::Link::OnClose(const absl::Status& why) {
  absl::MutexLock lock(&sampler_->mutex_);
  absl::Status status = why;
  if (std::exchange(given_up, false)) {
    status = absl::UnavailableError(
        absl::StrCat("no answer within ",
                     absl::FormatDuration(sampler_->options_.shard_patience)));
  }
  if (sampler_->planner_.stats().connected(shard_) && !sampler_->stopped_) {
    spdlog::warn("sampler lost {}: {}", sampler_->options_.shards[shard_],
                 status.ToString());
  }
  last_error = status;
  unanswered = 0;
  sampler_->planner_.Disconnect(shard_);
  sampler_->NoteConnection();
  if (IsFinal(status)) sampler_->Fail(shard_, status);
}

// ------------------------------------------------------------ coordinator ---

RemoteSamplerImpl::RemoteSamplerImpl(const SamplerOptions& options,
                                     Metrics& metrics)
    : options_(options), metrics_(metrics, options.table), planner_(options) {
  metrics_.shards.Set(static_cast<double>(options.shards.size()));
  for (size_t s = 0; s < options.shards.size(); ++s) {
    links_.push_back(std::make_unique<Link>(this, static_cast<int>(s)));
  }
  for (auto& link : links_) {
    link->stream = std::make_unique<Stream>(link.get(), &link->queue);
  }
  coordinator_ = std::thread([this] { Run(); });
}

RemoteSamplerImpl::~RemoteSamplerImpl() {
  Stop();
  coordinator_.join();
  for (auto& link : links_) link->stream.reset();
}

void RemoteSamplerImpl::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  for (auto& link : links_) link->stream->Stop();
}

void RemoteSamplerImpl::Run() {
  absl::MutexLock lock(&mutex_);
  auto due = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return work_ || stopped_ || !status_.ok();
  };
  for (;;) {
    mutex_.AwaitWithTimeout(absl::Condition(&due), planner_.period());
    if (stopped_ || !status_.ok()) return;  // There will be no other batch.
    work_ = false;
    FlushPriorities();
    planner_.Plan(ready_.size(), absl::Now());
    metrics_.mass_age.Set(absl::ToDoubleSeconds(planner_.mass_age()));
    mutex_.Unlock();
    GiveUpSilent(absl::Now());
    for (auto& link : links_) link->stream->Poke();
    mutex_.Lock();
    CopyArrived();
  }
}

// A host that is gone or a process that is stopped does not hang up, and gRPC's
// keepalive takes most of a minute to say so.
void RemoteSamplerImpl::GiveUpSilent(absl::Time now) {
  for (auto& link : links_) {
    {
      absl::MutexLock lock(&mutex_);
      if (link->given_up || link->unanswered == 0 ||
          now - link->heard < options_.shard_patience) {
        continue;
      }
      link->given_up = true;
    }
    // If the shard hung up in this moment the next connection is broken, and
    // made once more.
    link->stream->Break();
  }
}

void RemoteSamplerImpl::FlushPriorities() {
  PriorityUpdater::Backlog all;
  for (auto& link : links_) {
    link->updater->Flush();
    const PriorityUpdater::Backlog backlog = link->updater->backlog();
    all.priorities += backlog.priorities;
    all.seconds = std::max(all.seconds, backlog.seconds);
  }
  metrics_.pending.Set(static_cast<double>(all.priorities));
  metrics_.pending_seconds.Set(all.seconds);
}

void RemoteSamplerImpl::CopyArrived() {
  while (std::optional<ArrivedPart> arrived = planner_.TakeArrived()) {
    std::unique_ptr<SampleBatch> batch;
    mutex_.Unlock();
    AppendRows(*arrived, options_.batch_size);
    if (arrived->last) batch = FinishBatch(*arrived->batch, arrived->size);
    arrived.reset();  // Megabytes: not under the lock.
    mutex_.Lock();
    if (batch == nullptr) continue;
    ready_.push_back(std::move(batch));
    // The rest after all else has had its turn, however quick the shards are.
    work_ = true;
    return;
  }
}

void RemoteSamplerImpl::Fail(int shard, const absl::Status& status) {
  if (!status_.ok()) return;
  status_ = absl::Status(status.code(), absl::StrCat(options_.shards[shard],
                                                     ": ", status.message()));
}

void RemoteSamplerImpl::NoteConnection() {
  metrics_.connected.Set(planner_.stats().View().shards);
  work_ = true;
}

// ------------------------------------------------------------- the learner ---

absl::StatusOr<std::unique_ptr<SampleBatch>> RemoteSamplerImpl::Next() {
  absl::MutexLock lock(&mutex_);
  auto settled = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return !ready_.empty() || stopped_ || !status_.ok();
  };
  const absl::Time start = absl::Now();
  mutex_.AwaitWithTimeout(absl::Condition(&settled), options_.patience);
  metrics_.wait_seconds.Increment(
      std::max(0.0, absl::ToDoubleSeconds(absl::Now() - start)));
  if (stopped_) return absl::CancelledError("the sampler was stopped");
  if (!status_.ok()) return status_;
  if (ready_.empty()) return absl::DeadlineExceededError(Explain());
  std::unique_ptr<SampleBatch> batch = std::move(ready_.front());
  ready_.pop_front();
  if (ready_.size() <= options_.prefetch / 2) work_ = true;  // Room for more.
  metrics_.batches.Increment();
  return batch;
}

std::string RemoteSamplerImpl::Explain() const {
  const ReplayView view = planner_.stats().View();
  std::string text =
      absl::StrCat("no batch of ", options_.batch_size, " within ",
                   absl::FormatDuration(options_.patience), " from ",
                   view.shards, " of ", links_.size(), " shards: ");
  if (view.shards == 0) {
    for (size_t s = 0; s < links_.size(); ++s) {
      absl::StrAppend(&text, s == 0 ? "" : "; ", options_.shards[s], ": ",
                      links_[s]->last_error.ok()
                          ? "not connected yet"
                          : links_[s]->last_error.message());
    }
    return text;
  }
  if (!(view.mass > 0)) return absl::StrCat(text, "they hold no items");
  if (planner_.waits_for_limiter()) {
    return absl::StrCat(text, "the rate limiter holds samples back until ",
                        "writers insert more; ", view.size, " items, ",
                        view.inserted, " inserted, ", view.sampled, " sampled");
  }
  std::vector<std::string> silent;
  for (size_t s = 0; s < links_.size(); ++s) {
    if (planner_.waits_for(static_cast<int>(s)))
      silent.push_back(options_.shards[s]);
  }
  return absl::StrCat(text, "waiting for ", absl::StrJoin(silent, ", "));
}

absl::Status RemoteSamplerImpl::UpdatePriorities(
    absl::Span<const SampleKey> keys, absl::Span<const float> priorities) {
  if (keys.size() != priorities.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "priorities has ", priorities.size(),
        " values: allowed is one for each of ", keys.size(), " keys"));
  }
  std::vector<v1::UpdatePrioritiesRequest> requests(links_.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].shard >= links_.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("keys[", i, "].shard = ", keys[i].shard,
                       ": allowed is less than ", links_.size()));
    }
    if (!std::isfinite(priorities[i]) || priorities[i] < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("priorities[", i, "] = ", priorities[i],
                       ": allowed is a finite number >= 0"));
    }
    v1::UpdatePrioritiesRequest& request = requests[keys[i].shard];
    request.add_slot(keys[i].slot);
    request.add_generation(keys[i].generation);
    request.add_priority(priorities[i]);
  }
  for (size_t s = 0; s < links_.size(); ++s) {
    if (requests[s].slot_size() > 0) links_[s]->updater->Add(requests[s]);
  }
  return absl::OkStatus();
}

std::vector<v1::KnownShard> RemoteSamplerImpl::Known() const {
  absl::MutexLock lock(&mutex_);
  return planner_.stats().Known();
}

ReplayView RemoteSamplerImpl::View() const {
  ReplayView view;
  {
    absl::MutexLock lock(&mutex_);
    view = planner_.stats().View();
  }
  for (const auto& link : links_) {
    const PriorityUpdater::Counts counts = link->updater->counts();
    view.priorities_applied += counts.applied;
    view.priorities_stale += counts.stale;
    view.priorities_unknown += counts.unknown;
  }
  return view;
}

}  // namespace

std::unique_ptr<RemoteSampler> MakeRemoteSampler(const SamplerOptions& options,
                                                 Metrics& metrics) {
  return std::make_unique<RemoteSamplerImpl>(options, metrics);
}

}  // namespace qfleet
