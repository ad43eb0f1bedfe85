// Follows the publications of a learner or a relay and tells it how far this
// process is.
//
// Threads: one of its own reads the stream and keeps the newest publication;
// the actor's thread takes it between two steps and reports progress.

#ifndef QFLEET_WEIGHTS_WEIGHT_SUBSCRIBER_H_
#define QFLEET_WEIGHTS_WEIGHT_SUBSCRIBER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "qfleet/v1/weights.grpc.pb.h"
#include "qfleet/v1/weights.pb.h"

namespace qfleet {

struct WeightSubscriberOptions {
  std::string address;
  std::string network;  // Signature; "" from a relay.
  std::string role;     // "actor", "evaluator" or "relay".
  v1::WeightCodec codec = v1::FP32;
  // OK if a publication is whole and what this process can use; others are
  // counted and left alone. In the subscriber's thread.
  std::function<absl::Status(const v1::Publication&)> check;
  // Told of each that is taken, in the subscriber's thread. May be null.
  std::function<void(std::shared_ptr<const v1::Publication>)> on_publication;
};

// Thread-safe. Reconnects by itself for as long as it lives.
class WeightSubscriber {
 public:
  explicit WeightSubscriber(WeightSubscriberOptions options);
  ~WeightSubscriber();

  // The newest publication if it is not version `have` (0: none), else null.
  // Never waits. A restarted learner may begin at version 1 again: what it sent
  // last is the newest. FAILED_PRECONDITION once this process was refused.
  absl::StatusOr<std::shared_ptr<const v1::Publication>> Newest(
      uint64_t have) const;

  // The same, but waits up to `timeout` for one.
  absl::StatusOr<std::shared_ptr<const v1::Publication>> WaitNewest(
      uint64_t have, absl::Duration timeout) const;

  // Sends the fields of `progress` that are not of the first message only.
  // Dropped while not connected: they are totals.
  void Report(const v1::SubscribeRequest& progress);

  // Delivers an evaluation; tried once.
  absl::Status Report(const v1::EvaluationReport& report);

  uint64_t rejected() const;  // Publications that `check` has refused.
  // Whether a publication has come over the connection that there is now.
  bool connected() const;

 private:
  using Stream =
      grpc::ClientReaderWriter<v1::SubscribeRequest, v1::Publication>;

  bool stopped() const;
  void Run();
  absl::Status FollowOnce();
  void Take(v1::Publication publication);

  const WeightSubscriberOptions options_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Weights::Stub> stub_;

  mutable absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool connected_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status fatal_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const v1::Publication> newest_ ABSL_GUARDED_BY(mutex_);
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  uint64_t rejected_ ABSL_GUARDED_BY(mutex_) = 0;

  // Held while writing to the stream, which may block for the network; never
  // together with mutex_.
  absl::Mutex write_mutex_;
  Stream* stream_ ABSL_GUARDED_BY(write_mutex_) = nullptr;

  std::thread thread_;  // Last: starts when all else is there.
};

}  // namespace qfleet

#endif  // QFLEET_WEIGHTS_WEIGHT_SUBSCRIBER_H_
