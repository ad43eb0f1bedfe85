// What Prometheus sees of a table. Every metric has the label table.

#ifndef QFLEET_REPLAY_SERVER_SERVICE_TABLE_METRICS_H_
#define QFLEET_REPLAY_SERVER_SERVICE_TABLE_METRICS_H_

#include <string>

#include "absl/synchronization/mutex.h"
#include "common/metrics.h"
#include "qfleet/v1/replay.pb.h"

namespace qfleet {

// Thread-safe.
class TableMetrics {
 public:
  // `metrics` must outlive it.
  TableMetrics(Metrics& metrics, const std::string& table);

  // Brings those that follow from a table's state up to it.
  void Export(const v1::TableInfo& info);

  // The others are changed where things happen.
  prometheus::Counter& priorities_applied;
  prometheus::Counter& priorities_stale;
  prometheus::Counter& priorities_unknown;
  prometheus::Counter& insert_wait_seconds;
  prometheus::Counter& sample_wait_seconds;
  prometheus::Counter& batches_duplicate;
  prometheus::Counter& rejected;
  prometheus::Histogram& append_seconds;
  prometheus::Histogram& sample_seconds;
  prometheus::Histogram& sync_seconds;

 private:
  absl::Mutex mutex_;  // One export at a time: counters rise by differences.
  prometheus::Counter& inserted_;
  prometheus::Counter& sampled_;
  prometheus::Counter& steps_;
  prometheus::Counter& episodes_;
  prometheus::Counter& skipped_;
  prometheus::Gauge& items_;
  prometheus::Gauge& max_items_;
  prometheus::Gauge& min_items_;
  prometheus::Gauge& bytes_;
  prometheus::Gauge& max_bytes_;
  prometheus::Gauge& target_;
  prometheus::Gauge& tolerance_;
  prometheus::Gauge& mass_;
  prometheus::Gauge& waiting_inserts_;
  prometheus::Gauge& waiting_samples_;    // For inserts ...
  prometheus::Gauge& waiting_for_items_;  // ... or for items to draw.
  prometheus::Gauge& insert_wait_;
  prometheus::Gauge& sample_wait_;
  prometheus::Gauge& storage_failed_;
  prometheus::Gauge& since_sync_;
  prometheus::Gauge& recovered_;
  prometheus::Gauge& recovery_seconds_;
  prometheus::Gauge& unverified_;
  prometheus::Gauge& damaged_steps_;
  prometheus::Gauge& dropped_items_;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_SERVICE_TABLE_METRICS_H_
