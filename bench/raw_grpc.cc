// Synchronous handlers and Protobuf `bytes`, messages built once and used
// again: the fastest of the straightforward ways on this gRPC.

#include "bench/raw_grpc.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "bench/load.h"
#include "bench/upload.h"
#include "common/grpc.h"
#include "common/process.h"
#include "common/shutdown.h"
#include "common/status_macros.h"
#include "grpcpp/client_context.h"
#include "raw.grpc.pb.h"

namespace qfleet::bench {
namespace {

Payload PayloadOf(uint64_t bytes) {
  Payload payload;
  payload.mutable_data()->assign(bytes, 'x');
  return payload;
}

class RawService : public Raw::Service {
 public:
  grpc::Status Download(grpc::ServerContext*, const DownloadRequest* request,
                        grpc::ServerWriter<Payload>* writer) override {
    const Payload payload = PayloadOf(request->bytes());
    while (writer->Write(payload)) {
    }
    return grpc::Status::OK;
  }

  grpc::Status Upload(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<Acknowledgement, Payload>* stream) override {
    Payload payload;
    Acknowledgement acknowledgement;
    while (stream->Read(&payload)) {
      acknowledgement.set_sequence(acknowledgement.sequence() + 1);
      if (!stream->Write(acknowledgement)) break;
    }
    return grpc::Status::OK;
  }
};

class RawDownloadLoad : public Load {
 public:
  RawDownloadLoad(const std::string& address, uint64_t message_bytes,
                  double items)
      : items_(items), stub_(Raw::NewStub(MakeChannel(address))) {
    request_.set_bytes(message_bytes);
  }

  absl::StatusOr<Moved> Run(absl::Duration duration) override {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    auto reader = stub_->Download(&context, request_);
    Payload payload;
    bool running = reader->Read(&payload);
    const absl::Time start = absl::Now();
    Moved moved;
    do {
      running = running && reader->Read(&payload);
      if (!running) return FromGrpc(reader->Finish());
      moved.items += items_;
    } while (absl::Now() - start < duration);
    moved.seconds = absl::ToDoubleSeconds(absl::Now() - start);
    context.TryCancel();
    reader->Finish();
    return moved;
  }

 private:
  const double items_;
  const std::unique_ptr<Raw::Stub> stub_;
  DownloadRequest request_;
};

class RawUploadLoad : public Load {
 public:
  RawUploadLoad(const std::string& address, uint64_t message_bytes,
                double items, uint64_t window)
      : items_(items),
        window_(window),
        payloads_(window + 1, PayloadOf(message_bytes)),
        stub_(Raw::NewStub(MakeChannel(address))) {}

  absl::StatusOr<Moved> Run(absl::Duration duration) override {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    auto call = stub_->Upload(&context);
    const absl::Time start = absl::Now();
    Moved moved;
    QFLEET_RETURN_IF_ERROR((bench::Upload<Payload, Acknowledgement>(
        *call, window_, [&](uint64_t i) -> const Payload* {
          if (absl::Now() - start >= duration) return nullptr;
          moved.items += items_;
          return &payloads_[i % payloads_.size()];
        })));
    moved.seconds = absl::ToDoubleSeconds(absl::Now() - start);
    return moved;
  }

 private:
  const double items_;
  const uint64_t window_;
  // As many as a sender has to keep that sends again what is not acknowledged.
  const std::vector<Payload> payloads_;
  const std::unique_ptr<Raw::Stub> stub_;
};

}  // namespace

std::unique_ptr<Load> MakeRawDownloadLoad(const std::string& address,
                                          uint64_t message_bytes,
                                          double items) {
  return std::make_unique<RawDownloadLoad>(address, message_bytes, items);
}

std::unique_ptr<Load> MakeRawUploadLoad(const std::string& address,
                                        uint64_t message_bytes, double items,
                                        uint64_t window) {
  return std::make_unique<RawUploadLoad>(address, message_bytes, items, window);
}

absl::Status ServeRaw(const std::string& address,
                      const std::string& ready_file) {
  ShutdownSignal shutdown;
  RawService service;
  GrpcServer server;
  QFLEET_RETURN_IF_ERROR(server.Start(address, {&service}));
  QFLEET_RETURN_IF_ERROR(WriteReadyFile(ready_file, server.address(), ""));
  shutdown.Wait();
  server.Shutdown(absl::ZeroDuration());
  return absl::OkStatus();
}

}  // namespace qfleet::bench
