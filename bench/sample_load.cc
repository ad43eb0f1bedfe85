#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "bench/load.h"
#include "common/grpc.h"
#include "common/metrics.h"
#include "common/status_macros.h"
#include "grpcpp/client_context.h"
#include "qfleet/v1/replay.grpc.pb.h"
#include "replay_client/remote_sampler.h"
#include "replay_client/sample_planner.h"

namespace qfleet::bench {
namespace {

class SamplerLoad : public Load {
 public:
  SamplerLoad(const Shape& shape, const std::vector<std::string>& addresses,
              uint32_t batch_size, uint32_t prefetch)
      : prefetch_(prefetch) {
    SamplerOptions options;
    options.table = "replay";
    options.signature = shape.signature;
    options.shards = addresses;
    options.batch_size = batch_size;
    options.prefetch = prefetch;
    options.patience = absl::Seconds(20);
    sampler_ = MakeRemoteSampler(options, metrics_);
  }

  absl::StatusOr<Moved> Run(absl::Duration duration) override {
    // Those that were made while nobody measured.
    for (uint32_t i = 0; i < prefetch_; ++i) {
      QFLEET_RETURN_IF_ERROR(sampler_->Next().status());
    }
    const absl::Time start = absl::Now();
    Moved moved;
    do {
      QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<SampleBatch> batch,
                              sampler_->Next());
      moved.items += batch->rows();
    } while (absl::Now() - start < duration);
    moved.seconds = absl::ToDoubleSeconds(absl::Now() - start);
    return moved;
  }

 private:
  const uint32_t prefetch_;
  Metrics metrics_;
  std::unique_ptr<RemoteSampler> sampler_;
};

class BareSampleLoad : public Load {
 public:
  BareSampleLoad(const Shape& shape, const std::string& address,
                 uint32_t batch_size)
      : stub_(v1::Replay::NewStub(MakeChannel(address))) {
    open_.mutable_open()->set_table("replay");
    *open_.mutable_open()->mutable_signature() = shape.signature;
    draw_.mutable_draw()->set_count(batch_size);
  }

  absl::StatusOr<Moved> Run(absl::Duration duration) override {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    auto call = stub_->Sample(&context);
    v1::SampleResponse response;
    bool running = call->Write(open_) && call->Read(&response) &&
                   call->Write(draw_) && call->Write(draw_) &&
                   call->Read(&response);
    const absl::Time start = absl::Now();
    Moved moved;
    do {
      running = running && call->Write(draw_) && call->Read(&response);
      if (!running) return FromGrpc(call->Finish());
      moved.items += response.slot_size();
    } while (absl::Now() - start < duration);
    moved.seconds = absl::ToDoubleSeconds(absl::Now() - start);
    call->WritesDone();
    while (call->Read(&response)) {
    }
    QFLEET_RETURN_IF_ERROR(FromGrpc(call->Finish()));
    return moved;
  }

 private:
  const std::unique_ptr<v1::Replay::Stub> stub_;
  v1::SampleRequest open_;
  v1::SampleRequest draw_;
};

}  // namespace

std::unique_ptr<Load> MakeSamplerLoad(const Shape& shape,
                                      const std::vector<std::string>& addresses,
                                      uint32_t batch_size, uint32_t prefetch) {
  return std::make_unique<SamplerLoad>(shape, addresses, batch_size, prefetch);
}

uint32_t RowsInAnswer(const Shape& shape, uint32_t batch_size,
                      uint32_t prefetch) {
  // It asks for half its batches at once, and for large rows in several
  // answers.
  return std::min(batch_size * (prefetch / 2), AnswerRows(shape.signature));
}

uint64_t SampleWireBytes(const Shape& shape) {
  constexpr uint64_t kKeyBytes = 16;  // Slot, generation, mass.
  return shape.SampledBytes() + kKeyBytes;
}

std::unique_ptr<Load> MakeBareSampleLoad(const Shape& shape,
                                         const std::string& address,
                                         uint32_t batch_size) {
  return std::make_unique<BareSampleLoad>(shape, address, batch_size);
}

}  // namespace qfleet::bench
