// One Append call, driven by hand.

#ifndef QFLEET_TESTS_FAULT_APPEND_CALL_H_
#define QFLEET_TESTS_FAULT_APPEND_CALL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpcpp/client_context.h"
#include "qfleet/v1/replay.grpc.pb.h"
#include "tests/fault/experience.h"

namespace qfleet {

class AppendCall {
 public:
  AppendCall(std::unique_ptr<v1::Replay::Stub> stub, Record& record,
             uint64_t writer, const std::string& token = "")
      : experience_(writer, /*seed=*/1, record),
        spec_(record.spec()),
        stub_(std::move(stub)) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(90)));
    if (!token.empty()) {
      context_.AddMetadata("authorization", "Bearer " + token);
    }
    stream_ = stub_->Append(&context_);
  }
  ~AppendCall() {
    context_.TryCancel();
    if (!finished_) stream_->Finish().IgnoreError();
  }

  // Each false if the call has ended.
  bool Open() { return stream_->Write(OpenOf(spec_, experience_.writer())); }
  bool Send() {
    v1::AppendRequest request;
    *request.mutable_batch() = experience_.NextBatch(++sent_);
    return stream_->Write(request);
  }
  bool Acknowledged(uint64_t* sequence = nullptr) {
    v1::AppendResponse response;
    if (!stream_->Read(&response)) return false;
    if (sequence != nullptr) *sequence = response.sequence();
    return true;
  }
  // Opens it and sends one batch, which is acknowledged.
  bool Works() { return Open() && Acknowledged() && Send() && Acknowledged(); }
  void Cancel() { context_.TryCancel(); }
  // How it ended, once one of the above was false.
  grpc::Status Finish() {
    finished_ = true;
    return stream_->Finish();
  }

 private:
  Experience experience_;
  const v1::TableSpec spec_;
  std::unique_ptr<v1::Replay::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<
      grpc::ClientReaderWriter<v1::AppendRequest, v1::AppendResponse>>
      stream_;
  uint64_t sent_ = 0;
  bool finished_ = false;
};

}  // namespace qfleet

#endif  // QFLEET_TESTS_FAULT_APPEND_CALL_H_
