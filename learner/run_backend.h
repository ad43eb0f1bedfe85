// The run behind the learner's Weights service.

#ifndef QFLEET_LEARNER_RUN_BACKEND_H_
#define QFLEET_LEARNER_RUN_BACKEND_H_

#include <functional>

#include "absl/status/status.h"
#include "learner/run.h"
#include "weights/weights_service.h"

namespace qfleet {

// Thread-safe, as the run is, which must outlive it.
class RunBackend final : public WeightsBackend {
 public:
  explicit RunBackend(Run& run) : run_(run) {}

  void RecordEvaluation(const v1::EvaluationReport& evaluation,
                        grpc::CallbackServerContext&,
                        std::function<void(absl::Status)> done) override {
    run_.RecordEvaluation(evaluation);
    done(absl::OkStatus());
  }

  void Describe(v1::RunReport& run, grpc::CallbackServerContext&,
                std::function<void(absl::Status)> done) override {
    run = run_.Newest();
    done(absl::OkStatus());
  }

 private:
  Run& run_;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_RUN_BACKEND_H_
