#include "replay_server/service/table_metrics.h"

#include <cstdint>
#include <vector>

#include "absl/strings/match.h"
#include "replay_server/core/rate_limiter.h"

namespace qfleet {
namespace {

constexpr char kPrioritiesHelp[] =
    "Priority updates by what became of them (stale: the item was removed).";
constexpr char kWaitHelp[] =
    "Time that requests were held back by the rate limiter.";
constexpr char kWaitingHelp[] =
    "Requests that are held back now until there are more of what `reason` "
    "says.";

constexpr char kLongestHelp[] =
    "How long the request that waits longest has been held back by now.";

const std::vector<double>& SyncBuckets() {
  static const auto* const buckets =
      new std::vector<double>{1e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10, 30};
  return *buckets;
}

const std::vector<double>& LatencyBuckets() {
  static const auto* const buckets = new std::vector<double>{
      1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1};
  return *buckets;
}

}  // namespace

TableMetrics::TableMetrics(Metrics& metrics, const std::string& table)
    : priorities_applied(
          metrics.Counter("qfleet_replay_priorities_total", kPrioritiesHelp,
                          {{"table", table}, {"result", "applied"}})),
      priorities_stale(
          metrics.Counter("qfleet_replay_priorities_total", kPrioritiesHelp,
                          {{"table", table}, {"result", "stale"}})),
      priorities_unknown(
          metrics.Counter("qfleet_replay_priorities_total", kPrioritiesHelp,
                          {{"table", table}, {"result", "unknown"}})),
      insert_wait_seconds(
          metrics.Counter("qfleet_replay_wait_seconds_total", kWaitHelp,
                          {{"table", table}, {"side", "insert"}})),
      sample_wait_seconds(
          metrics.Counter("qfleet_replay_wait_seconds_total", kWaitHelp,
                          {{"table", table}, {"side", "sample"}})),
      batches_duplicate(metrics.Counter(
          "qfleet_replay_batches_duplicate_total",
          "Batches sent again that were stored already.", {{"table", table}})),
      rejected(metrics.Counter("qfleet_replay_rejected_total",
                               "Batches, draws and priority updates refused "
                               "as malformed.",
                               {{"table", table}})),
      append_seconds(metrics.Histogram(
          "qfleet_replay_append_seconds",
          "Time to store a batch, without waiting for the rate limiter.",
          LatencyBuckets(), {{"table", table}})),
      sample_seconds(metrics.Histogram(
          "qfleet_replay_sample_seconds",
          "Time to draw and gather items, without waiting for the rate "
          "limiter.",
          LatencyBuckets(), {{"table", table}})),
      sync_seconds(metrics.Histogram("qfleet_replay_sync_seconds",
                                     "Time to sync the table's files.",
                                     SyncBuckets(), {{"table", table}})),
      inserted_(metrics.Counter("qfleet_replay_items_inserted_total",
                                "Items inserted.", {{"table", table}})),
      sampled_(metrics.Counter("qfleet_replay_items_sampled_total",
                               "Items drawn.", {{"table", table}})),
      steps_(metrics.Counter("qfleet_replay_steps_total", "Steps appended.",
                             {{"table", table}})),
      episodes_(metrics.Counter("qfleet_replay_episodes_total",
                                "Episodes begun.", {{"table", table}})),
      skipped_(metrics.Counter("qfleet_replay_items_skipped_total",
                               "Items refused because their steps were gone.",
                               {{"table", table}})),
      items_(metrics.Gauge("qfleet_replay_items", "Items held.",
                           {{"table", table}})),
      max_items_(metrics.Gauge("qfleet_replay_max_items",
                               "Items that this shard may hold.",
                               {{"table", table}})),
      min_items_(metrics.Gauge(
          "qfleet_replay_min_items",
          "Items that the cluster must hold before it is sampled.",
          {{"table", table}})),
      bytes_(metrics.Gauge("qfleet_replay_bytes",
                           "Bytes in use by live steps and items.",
                           {{"table", table}})),
      max_bytes_(metrics.Gauge("qfleet_replay_max_bytes",
                               "Bytes that this shard's steps and items may "
                               "use.",
                               {{"table", table}})),
      target_(metrics.Gauge(
          "qfleet_replay_samples_per_insert_target_ratio",
          "Samples per insert that the rate limiter holds to; 0: none.",
          {{"table", table}})),
      tolerance_(metrics.Gauge(
          "qfleet_replay_samples_per_insert_tolerance",
          "Samples that may be missing or too many for that.",
          {{"table", table}})),
      mass_(metrics.Gauge("qfleet_replay_mass",
                          "Sum of the masses of all items.",
                          {{"table", table}})),
      waiting_inserts_(metrics.Gauge(
          "qfleet_replay_waiting", kWaitingHelp,
          {{"table", table}, {"side", "insert"}, {"reason", "samples"}})),
      waiting_samples_(metrics.Gauge(
          "qfleet_replay_waiting", kWaitingHelp,
          {{"table", table}, {"side", "sample"}, {"reason", "inserts"}})),
      waiting_for_items_(metrics.Gauge(
          "qfleet_replay_waiting", kWaitingHelp,
          {{"table", table}, {"side", "sample"}, {"reason", "items"}})),
      insert_wait_(metrics.Gauge("qfleet_replay_longest_wait_seconds",
                                 kLongestHelp,
                                 {{"table", table}, {"side", "insert"}})),
      sample_wait_(metrics.Gauge("qfleet_replay_longest_wait_seconds",
                                 kLongestHelp,
                                 {{"table", table}, {"side", "sample"}})),
      storage_failed_(metrics.Gauge(
          "qfleet_replay_storage_failed",
          "1 if a sync failed and no write is accepted any more, else 0.",
          {{"table", table}})),
      since_sync_(metrics.Gauge(
          "qfleet_replay_since_sync_seconds",
          "Age of what a power failure cannot lose; -1: nothing was synced "
          "yet.",
          {{"table", table}})),
      recovered_(metrics.Gauge("qfleet_replay_recovered_items",
                               "Items that an earlier life had left.",
                               {{"table", table}})),
      recovery_seconds_(metrics.Gauge("qfleet_replay_recovery_seconds",
                                      "Time to map the files and derive the "
                                      "rest.",
                                      {{"table", table}})),
      unverified_(metrics.Gauge("qfleet_replay_unverified_steps",
                                "Recovered steps whose checksum was not "
                                "looked at yet.",
                                {{"table", table}})),
      damaged_steps_(metrics.Gauge("qfleet_replay_damaged_steps",
                                   "Recovered steps whose checksum did not "
                                   "match.",
                                   {{"table", table}})),
      dropped_items_(metrics.Gauge("qfleet_replay_dropped_items",
                                   "Recovered items that were dropped because "
                                   "of damage.",
                                   {{"table", table}})) {}

void TableMetrics::Export(const v1::TableInfo& info) {
  absl::MutexLock lock(&mutex_);
  const v1::TableStats& stats = info.stats();
  RaiseTo(static_cast<double>(stats.inserted()), inserted_);
  RaiseTo(static_cast<double>(stats.sampled()), sampled_);
  RaiseTo(static_cast<double>(stats.steps()), steps_);
  RaiseTo(static_cast<double>(stats.episodes()), episodes_);
  RaiseTo(static_cast<double>(stats.skipped()), skipped_);
  items_.Set(static_cast<double>(stats.size()));
  bytes_.Set(static_cast<double>(stats.bytes()));
  max_items_.Set(static_cast<double>(info.spec().max_items()));
  max_bytes_.Set(static_cast<double>(info.spec().max_bytes()));
  const v1::RateLimiter& limiter = info.spec().rate_limiter();
  min_items_.Set(static_cast<double>(limiter.min_size()));
  target_.Set(limiter.samples_per_insert());
  tolerance_.Set(limiter.tolerance());
  mass_.Set(stats.mass());
  waiting_inserts_.Set(info.waiting_writers());
  const bool for_items =
      absl::StartsWith(info.samplers_wait_for(), kWaitForItems);
  waiting_samples_.Set(for_items ? 0 : info.waiting_samplers());
  waiting_for_items_.Set(for_items ? info.waiting_samplers() : 0);
  insert_wait_.Set(info.writers_wait_seconds());
  sample_wait_.Set(info.samplers_wait_seconds());
  const v1::StorageInfo& storage = info.storage();
  storage_failed_.Set(storage.failed().empty() ? 0 : 1);
  since_sync_.Set(storage.seconds_since_sync());
  recovered_.Set(static_cast<double>(storage.recovered_items()));
  recovery_seconds_.Set(storage.recovery_seconds());
  unverified_.Set(
      static_cast<double>(storage.verify_total() - storage.verified_steps()));
  damaged_steps_.Set(static_cast<double>(storage.damaged_steps()));
  dropped_items_.Set(static_cast<double>(storage.recovery_dropped() +
                                         storage.damaged_items()));
}

}  // namespace qfleet
