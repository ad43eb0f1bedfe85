// A small table, batches for it, and a shard behind a unix socket.

#ifndef QFLEET_TESTS_REPLAY_SERVER_SERVICE_TEST_SHARD_H_
#define QFLEET_TESTS_REPLAY_SERVER_SERVICE_TEST_SHARD_H_

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/grpc.h"
#include "common/metrics.h"
#include "gtest/gtest.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_server/service/replay_service.h"
#include "replay_server/service/shard.h"

namespace qfleet {

// Whether it becomes true within a time that only a hang exceeds.
inline bool Eventually(const std::function<bool()>& condition,
                       absl::Duration timeout = absl::Seconds(20)) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

// One float step column, one int64 item column, views of the first and the
// last step; mass = priority; limited only by one item at least.
inline v1::TableSpec TestTable() {
  v1::TableSpec spec;
  spec.set_name("experience");
  v1::TensorSpec& step = *spec.mutable_signature()->add_step_columns();
  step.set_name("observation");
  step.set_dtype(v1::FLOAT32);
  v1::TensorSpec& item = *spec.mutable_signature()->add_item_columns();
  item.set_name("action");
  item.set_dtype(v1::INT64);
  v1::View& first = *spec.mutable_signature()->add_views();
  first.set_name("observation");
  first.set_column("observation");
  first.set_anchor(v1::View::FIRST);
  v1::View& last = *spec.mutable_signature()->add_views();
  last.set_name("next_observation");
  last.set_column("observation");
  last.set_anchor(v1::View::LAST);
  spec.mutable_selector()->set_alpha(1);
  spec.set_max_items(1000);
  spec.set_max_bytes(4 << 20);
  spec.mutable_rate_limiter()->set_tolerance(1);
  spec.mutable_rate_limiter()->set_min_size(1);
  return spec;
}

// Inserts are held back from inserted - sampled > 3 on, samples below -1.
inline v1::TableSpec LimitedTestTable() {
  v1::TableSpec spec = TestTable();
  spec.mutable_rate_limiter()->set_samples_per_insert(1);
  spec.mutable_rate_limiter()->set_tolerance(2);
  return spec;
}

template <typename T>
void AddValue(T value, v1::Column* column) {
  column->mutable_data()->append(reinterpret_cast<const char*>(&value),
                                 sizeof(value));
}

// Batch `sequence` = 1, 2, ... of a writer whose batches are like this one:
// an episode of two steps in stream 0, and an item over both.
inline v1::AppendBatch OneItemBatch(uint64_t sequence, float priority = 1) {
  v1::AppendBatch batch;
  batch.set_sequence(sequence);
  const uint64_t first = 2 * (sequence - 1);
  batch.add_step_columns();
  batch.add_item_columns();
  for (uint64_t index : {first, first + 1}) {
    batch.add_step_stream(0);
    batch.add_step_index(index);
    batch.add_step_starts_episode(index == first);
    AddValue(static_cast<float>(index), batch.mutable_step_columns(0));
  }
  batch.add_item_stream(0);
  batch.add_item_first(first);
  batch.add_item_last(first + 1);
  batch.add_item_priority(priority);
  AddValue(static_cast<int64_t>(sequence), batch.mutable_item_columns(0));
  return batch;
}

inline v1::SampleDraw DrawOf(uint32_t count, uint32_t timeout_ms = 0) {
  v1::SampleDraw draw;
  draw.set_count(count);
  draw.set_timeout_ms(timeout_ms);
  return draw;
}

// A shard of one table. The server may be stopped and started again over the
// same shard, or over a new one that has lost everything.
class TestShard {
 public:
  explicit TestShard(const v1::TableSpec& spec, uint32_t number = 0,
                     int append_threads = 1)
      : spec_(spec), number_(number), append_threads_(append_threads) {
    std::string folder =
        (std::filesystem::temp_directory_path() / "qfleet_XXXXXX").string();
    folder_ = mkdtemp(folder.data());
    address_ = "unix:" + folder_ + "/shard.sock";
    Forget();
  }
  ~TestShard() {
    Stop();
    std::filesystem::remove_all(folder_);
  }

  // Replaces the shard by an empty one.
  void Forget() { Replace({}); }
  // By one with other options than the table and its number.
  void Replace(Shard::Options options) {
    Stop();
    options.number = number_;
    options.tables = {spec_};
    options.seed = ++lives_;
    auto shard = Shard::Create(options, metrics_);
    ASSERT_TRUE(shard.ok()) << shard.status();
    shard_ = *std::move(shard);
  }
  void Start() {
    service_ =
        std::make_unique<ReplayService>(shard_.get(), calls_, append_threads_);
    server_ = std::make_unique<GrpcServer>();
    server_->Intercept(CountCalls(calls_, ReplayService::CountedMethods()));
    absl::Status status = server_->Start(address_, {service_.get()});
    ASSERT_TRUE(status.ok()) << status;
  }
  // Cuts what is running.
  void Stop() {
    if (server_ != nullptr) server_->Shutdown(absl::ZeroDuration());
    server_.reset();
  }

  Shard& shard() { return *shard_; }
  Metrics& metrics() { return metrics_; }
  const std::string& address() const { return address_; }
  v1::TableInfo Info() const { return shard_->Describe().tables(0); }
  v1::TableStats Stats() const { return Info().stats(); }

 private:
  const v1::TableSpec spec_;
  const uint32_t number_;
  const int append_threads_;
  std::string folder_;
  std::string address_;
  uint64_t lives_ = 0;
  Metrics metrics_;
  const std::shared_ptr<const GrpcServerMetrics> calls_ =
      std::make_shared<const GrpcServerMetrics>(
          metrics_, std::vector<std::string>{v1::Replay::service_full_name()});
  std::unique_ptr<Shard> shard_;
  std::unique_ptr<ReplayService> service_;
  std::unique_ptr<GrpcServer> server_;
};

}  // namespace qfleet

#endif  // QFLEET_TESTS_REPLAY_SERVER_SERVICE_TEST_SHARD_H_
