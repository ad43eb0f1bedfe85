// The Weights service, for whoever has publications: the learner, or a relay.
//
//   WeightsService service("learner", backend);
//   QFLEET_RETURN_IF_ERROR(server.Start(address, {&service}));
//   QFLEET_RETURN_IF_ERROR(service.Publish(publication));  // Again and again.
//   ...
//   service.CloseSubscriptions();
//   server.Shutdown(grace);
//
// Threads: a callback reactor for each subscriber, no thread each. One thread
// of the service encodes what was published and hands it out, so that Publish
// does not wait for that. A subscriber has one message under way; when it has
// taken it, it gets what is the newest then.

#ifndef QFLEET_WEIGHTS_WEIGHTS_SERVICE_H_
#define QFLEET_WEIGHTS_WEIGHTS_SERVICE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "qfleet/v1/weights.grpc.pb.h"
#include "weights/actors_view.h"
#include "weights/publication_forms.h"

namespace qfleet {

// What the service leaves to others. Each calls `done` once, in any thread,
// perhaps before it returns; the other arguments live until then.
class WeightsBackend {
 public:
  virtual ~WeightsBackend() = default;

  // Of at least one episode, with its policy.
  virtual void RecordEvaluation(const v1::EvaluationReport& evaluation,
                                grpc::CallbackServerContext& context,
                                std::function<void(absl::Status)> done) = 0;
  virtual void Describe(v1::RunReport& run,
                        grpc::CallbackServerContext& context,
                        std::function<void(absl::Status)> done) = 0;
};

// Thread-safe. Its server must be shut down before it is destroyed.
class WeightsService final
    : public v1::Weights::WithRawCallbackMethod_Subscribe<
          v1::Weights::WithCallbackMethod_ReportEvaluation<
              v1::Weights::WithCallbackMethod_Describe<v1::Weights::Service>>> {
 public:
  // `name` ("learner") is what the subscribers are told is shutting down.
  // `backend` must outlive the server.
  WeightsService(const std::string& name, WeightsBackend& backend);
  ~WeightsService() override;

  // From now on this is the newest, whatever its version. Subscribers with
  // another network are refused, and those that want a form that cannot be made
  // of it. `calibrate` and errors: PublicationForms::Make.
  absl::Status Publish(std::shared_ptr<const v1::Publication> publication,
                       std::function<Calibration()> calibrate = nullptr);

  ActorsView Actors() const;

  // Counts on from these totals of an earlier life. Before the server starts.
  void Resume(uint64_t episodes, double return_sum);

  // Ends the subscriptions, now and later, so that the server can shut down at
  // once.
  void CloseSubscriptions();

  struct Stats {
    uint32_t subscribers = 0;  // Now, of all roles.
    uint64_t sent = 0;         // Publications.
    uint64_t sent_bytes = 0;
  };
  Stats stats() const;

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Subscribe(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* ReportEvaluation(
      grpc::CallbackServerContext* context, const v1::EvaluationReport* request,
      v1::ReportEvaluationResponse* response) override;
  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const v1::DescribeRunRequest* request,
                                     v1::RunReport* response) override;

 private:
  class Subscriber;

  // The sender's thread.
  void SendAll();
  bool MustSend(uint64_t sent) const;

  std::shared_ptr<const PublicationForms> newest() const;
  void Add(const std::shared_ptr<Subscriber>& subscriber);
  void Remove(const std::shared_ptr<Subscriber>& subscriber);
  void CountProgress(Subscriber& subscriber,
                     const v1::SubscribeRequest& progress);
  void NoteWeightsFor(Subscriber& subscriber);
  void CountSent(uint64_t bytes);

  const std::string name_;
  WeightsBackend& backend_;

  mutable absl::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<const PublicationForms> newest_ ABSL_GUARDED_BY(mutex_);
  // Shared with the sender while it goes round, and with gRPC until OnDone.
  std::set<std::shared_ptr<Subscriber>> subscribers_ ABSL_GUARDED_BY(mutex_);
  ActorsView totals_ ABSL_GUARDED_BY(mutex_);  // The counts only.
  Stats stats_ ABSL_GUARDED_BY(mutex_);        // The counts only.

  std::thread sender_;  // Last: starts when all else is there.
};

}  // namespace qfleet

#endif  // QFLEET_WEIGHTS_WEIGHTS_SERVICE_H_
