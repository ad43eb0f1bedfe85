// The Weights service: a callback reactor for each subscriber, no thread each.

#ifndef QFLEET_LEARNER_WEIGHTS_SERVICE_H_
#define QFLEET_LEARNER_WEIGHTS_SERVICE_H_

#include <cstdint>
#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "learner/publisher.h"
#include "learner/run.h"
#include "qfleet/v1/weights.grpc.pb.h"

namespace qfleet {

// Thread-safe. `publisher` and `run` must outlive it, and its server must be
// shut down before it is destroyed.
class WeightsService : public v1::Weights::CallbackService {
 public:
  WeightsService(Publisher& publisher, Run& run);

  grpc::ServerBidiReactor<v1::SubscribeRequest, v1::Publication>* Subscribe(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* ReportEvaluation(
      grpc::CallbackServerContext* context, const v1::EvaluationReport* request,
      v1::ReportEvaluationResponse* response) override;
  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const v1::DescribeRunRequest* request,
                                     v1::RunReport* response) override;

  ActorsView Actors() const;

  // Counts on from these totals of an earlier life. Before the server starts.
  void Resume(uint64_t episodes, double return_sum);

  // Ends the subscriptions, so that the server can shut down at once.
  void CloseSubscriptions();

 private:
  class Subscriber;

  void SendNewest();
  void Add(Subscriber* subscriber);
  void Remove(Subscriber* subscriber);
  void CountProgress(Subscriber& subscriber,
                     const v1::SubscribeRequest& progress);

  Publisher& publisher_;
  Run& run_;

  mutable absl::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<Subscriber*> subscribers_ ABSL_GUARDED_BY(mutex_);
  uint64_t episodes_ ABSL_GUARDED_BY(mutex_) = 0;
  double return_sum_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_WEIGHTS_SERVICE_H_
