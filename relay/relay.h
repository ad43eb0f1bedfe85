// Between a learner and its actors: one subscriber of the learner's, which
// serves the Weights service to as many as come.
//
//   QFLEET_ASSIGN_OR_RETURN(
//       std::unique_ptr<Relay> relay,
//       Relay::Start({.learner = "host:7301", .listen = "unix:/tmp/r"},
//       metrics));
//   while (!shutdown.WaitFor(period)) QFLEET_RETURN_IF_ERROR(relay->Report());
//
// Publications come in FP32 and are encoded here, so that each subscriber has
// the form that it asks for, whoever else is there. They are served for as long
// as the relay lives, whether the learner does or not. Upwards go the totals of
// all actors that there ever were, and the policy that is the oldest in use;
// evaluations and questions about the run are handed on.
//
// Threads: the subscriber's, the service's; Report is the caller's.

#ifndef QFLEET_RELAY_RELAY_H_
#define QFLEET_RELAY_RELAY_H_

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/grpc.h"
#include "common/metrics.h"
#include "qfleet/v1/weights.grpc.pb.h"
#include "weights/weight_subscriber.h"
#include "weights/weights_service.h"

namespace qfleet {

// Thread-safe.
class Relay {
 public:
  struct Options {
    std::string learner;  // Or another relay.
    std::string listen;
    // In which it takes the weights. Of FP32 it serves every form, rounded to
    // nearest; of another one only that.
    v1::WeightCodec codec = v1::FP32;
  };

  // UNAVAILABLE or INVALID_ARGUMENT if it cannot listen there. Does not wait
  // for the learner. `metrics` must outlive the relay.
  static absl::StatusOr<std::unique_ptr<Relay>> Start(const Options& options,
                                                      Metrics& metrics);
  ~Relay();

  // Tells the learner how far the actors are, and the metrics how the relay is;
  // several times a second. FAILED_PRECONDITION if what is at the learner's
  // address has refused the relay.
  absl::Status Report();

  // Where it listens.
  const std::string& address() const { return server_.address(); }
  // What its health service answers: whether it has weights to give.
  std::shared_ptr<const std::atomic<bool>> serving() const {
    return server_.serving();
  }
  const WeightsService& service() const { return *service_; }

 private:
  class Backend;
  struct Exported;

  Relay(const Options& options, Metrics& metrics);
  void Take(std::shared_ptr<const v1::Publication> publication);

  const std::unique_ptr<Exported> exported_;
  const std::unique_ptr<Backend> backend_;
  const std::unique_ptr<WeightsService> service_;
  GrpcServer server_;
  // The subscriber's thread's own.
  std::shared_ptr<const v1::Publication> taken_;
  std::unique_ptr<WeightSubscriber> subscriber_;
};

}  // namespace qfleet

#endif  // QFLEET_RELAY_RELAY_H_
