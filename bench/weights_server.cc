#include "bench/weights_server.h"

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "common/grpc.h"
#include "common/hash.h"
#include "common/process.h"
#include "common/random.h"
#include "common/shutdown.h"
#include "common/status_macros.h"
#include "weights/weights_service.h"

namespace qfleet::bench {
namespace {

class PublishWhatIsReported final : public WeightsBackend {
 public:
  std::function<absl::Status(std::shared_ptr<const v1::Publication>)> publish;

  void RecordEvaluation(const v1::EvaluationReport& evaluation,
                        grpc::CallbackServerContext&,
                        std::function<void(absl::Status)> done) override {
    done(publish(std::make_shared<const v1::Publication>(evaluation.policy())));
  }
  void Describe(v1::RunReport&, grpc::CallbackServerContext&,
                std::function<void(absl::Status)> done) override {
    done(absl::OkStatus());
  }
};

}  // namespace

v1::Publication MakePublication(uint64_t version) {
  v1::Publication publication;
  publication.set_version(version);
  publication.set_network(kBenchNetwork);
  uint64_t elements = 0;
  for (const auto& [inputs, channels] :
       {std::pair(4 * 9, 16), {1024, 128}, {128, 4}}) {
    for (bool bias : {false, true}) {
      v1::WeightSpan& span = *publication.add_layout();
      span.set_size(bias ? channels : inputs * channels);
      span.set_channels(bias ? 0 : channels);
      elements += span.size();
    }
  }
  Random random(version);
  std::vector<float> values(elements);
  for (float& value : values) {
    value = static_cast<float>(random.Uniform(-0.1, 0.1));
  }
  publication.set_parameters(reinterpret_cast<const char*>(values.data()),
                             values.size() * sizeof(float));
  publication.set_hash(Hash64(publication.parameters()));
  return publication;
}

absl::Status ServeWeights(const std::string& address,
                          const std::string& ready_file) {
  ShutdownSignal shutdown;
  PublishWhatIsReported backend;
  WeightsService service("benchmark", backend);
  backend.publish = [&service](auto publication) {
    return service.Publish(std::move(publication));
  };
  QFLEET_RETURN_IF_ERROR(backend.publish(
      std::make_shared<const v1::Publication>(MakePublication(1))));
  GrpcServer server;
  QFLEET_RETURN_IF_ERROR(server.Start(address, {&service}));
  QFLEET_RETURN_IF_ERROR(WriteReadyFile(ready_file, server.address(), ""));
  shutdown.Wait();
  service.CloseSubscriptions();
  server.Shutdown(absl::Seconds(1));
  return absl::OkStatus();
}

}  // namespace qfleet::bench
