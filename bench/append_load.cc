#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "bench/load.h"
#include "bench/upload.h"
#include "common/grpc.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "grpcpp/client_context.h"
#include "qfleet/v1/replay.grpc.pb.h"
#include "replay_client/remote_writer.h"

namespace qfleet::bench {
namespace {

// Between two looks at the clock.
constexpr int kLook = 64;

std::unique_ptr<RemoteWriter> MakeWriter(
    const Shape& shape, const std::vector<std::string>& addresses,
    const AppendOptions& options) {
  WriterOptions writer;
  writer.table = "replay";
  writer.signature = shape.signature;
  writer.shards = addresses;
  writer.batch_bytes = options.batch_bytes;
  writer.batch_steps = options.batch_steps;
  writer.max_unacknowledged_steps = options.max_unacknowledged_steps;
  writer.patience = absl::Seconds(20);
  return MakeRemoteWriter(writer);
}

class WriterLoad : public Load {
 public:
  WriterLoad(const Shape& shape, const std::vector<std::string>& addresses,
             const AppendOptions& options)
      : experience_(shape, options.streams),
        writer_(MakeWriter(shape, addresses, options)) {}

  absl::StatusOr<Moved> Run(absl::Duration duration) override {
    const absl::Time start = absl::Now();
    Moved moved;
    do {
      for (int i = 0; i < kLook; ++i) {
        QFLEET_ASSIGN_OR_RETURN(bool has_item, Add());
        moved.items += has_item ? 1 : 0;
      }
      QFLEET_RETURN_IF_ERROR(writer_->Poll());
    } while (absl::Now() - start < duration);
    QFLEET_RETURN_IF_ERROR(writer_->Flush());
    moved.seconds = absl::ToDoubleSeconds(absl::Now() - start);
    return moved;
  }

  absl::Status Write(uint64_t steps) {
    for (uint64_t i = 0; i < steps; ++i) {
      QFLEET_RETURN_IF_ERROR(Add().status());
    }
    return writer_->Flush();
  }

 private:
  // A step, and the item that ends there: whether there is one.
  absl::StatusOr<bool> Add() {
    const Experience::Step& step = experience_.Next();
    QFLEET_RETURN_IF_ERROR(
        writer_->AppendStep(step.stream, step.starts_episode, step.step_columns)
            .status());
    if (!step.has_item) return false;
    QFLEET_RETURN_IF_ERROR(writer_->AppendItem(step.stream, step.item_first,
                                               step.index, step.item_columns,
                                               step.priority));
    return true;
  }

  Experience experience_;
  const std::unique_ptr<RemoteWriter> writer_;
};

// Sends the same requests again and again, each time as a new writer whose
// streams begin with them.
class BareAppendLoad : public Load {
 public:
  BareAppendLoad(const Shape& shape, const std::string& address,
                 const AppendOptions& options)
      : signature_(shape.signature),
        window_(options.Window(shape)),
        requests_(BuildRequests(shape, options.streams,
                                StepsAtOnce(shape, options),
                                options.StepsInBatch(shape))),
        stub_(v1::Replay::NewStub(MakeChannel(address))) {
    for (const v1::AppendRequest& request : requests_) {
      items_ += request.batch().item_first_size();
    }
  }

  absl::StatusOr<Moved> Run(absl::Duration duration) override {
    const absl::Time start = absl::Now();
    Moved moved;
    do {
      QFLEET_RETURN_IF_ERROR(SendAll());
      moved.items += items_;
    } while (absl::Now() - start < duration);
    moved.seconds = absl::ToDoubleSeconds(absl::Now() - start);
    return moved;
  }

 private:
  // About 64 MiB, but whole batches.
  static uint64_t StepsAtOnce(const Shape& shape,
                              const AppendOptions& options) {
    const uint64_t steps =
        std::min<uint64_t>((64 << 20) / shape.AppendedBytes(), 1 << 19);
    return steps / options.StepsInBatch(shape) * options.StepsInBatch(shape);
  }

  absl::Status SendAll() {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    auto call = stub_->Append(&context);
    v1::AppendRequest open;
    open.mutable_open()->set_table("replay");
    open.mutable_open()->set_writer_id(random_.Bits() | 1);
    *open.mutable_open()->mutable_signature() = signature_;
    v1::AppendResponse response;
    if (!call->Write(open) || !call->Read(&response)) {
      return FromGrpc(call->Finish());
    }
    return Upload<v1::AppendRequest, v1::AppendResponse>(
        *call, window_, [this](uint64_t i) {
          return i < requests_.size() ? &requests_[i] : nullptr;
        });
  }

  const v1::TableSignature signature_;
  const uint64_t window_;
  const std::vector<v1::AppendRequest> requests_;
  const std::unique_ptr<v1::Replay::Stub> stub_;
  Random random_{7};
  double items_ = 0;
};

}  // namespace

uint64_t AppendOptions::StepsInBatch(const Shape& shape) const {
  // BatchBuilder's estimate of a step with its item.
  const uint64_t bytes = shape.AppendedBytes() + 24;
  return std::clamp<uint64_t>((batch_bytes + bytes - 1) / bytes, 1,
                              batch_steps);
}

uint64_t AppendOptions::Window(const Shape& shape) const {
  return std::max<uint64_t>(1, max_unacknowledged_steps / StepsInBatch(shape));
}

uint64_t BatchWireBytes(const Shape& shape, const AppendOptions& options) {
  const uint64_t steps = options.StepsInBatch(shape);
  // The last of several: an item for each step, indices that are not 0.
  return BuildRequests(shape, options.streams, 100 * steps, steps)
      .back()
      .ByteSizeLong();
}

std::unique_ptr<Load> MakeWriterLoad(const Shape& shape,
                                     const std::vector<std::string>& addresses,
                                     const AppendOptions& options) {
  return std::make_unique<WriterLoad>(shape, addresses, options);
}

std::unique_ptr<Load> MakeBareAppendLoad(const Shape& shape,
                                         const std::string& address,
                                         const AppendOptions& options) {
  return std::make_unique<BareAppendLoad>(shape, address, options);
}

absl::Status Fill(const Shape& shape, const std::vector<std::string>& addresses,
                  uint64_t steps) {
  const AppendOptions options = {.streams = 64,
                                 .batch_bytes = 512 << 10,
                                 .batch_steps = 512,
                                 .max_unacknowledged_steps = 4096};
  return WriterLoad(shape, addresses, options).Write(steps);
}

}  // namespace qfleet::bench
