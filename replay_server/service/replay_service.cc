#include "replay_server/service/replay_service.h"

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/column_encoder.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

// A stream whose messages are counted.
class SampleStream {
 public:
  using Stream = grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

  SampleStream(Stream& stream, CountedCall& call)
      : stream_(stream), call_(call) {}

  bool Read(grpc::ByteBuffer* bytes) {
    const bool read = stream_.Read(bytes);
    if (read) call_.Received();
    return read;
  }
  bool Write(v1::SampleResponse response) {
    ColumnEncoder columns;
    columns.Take(v1::SampleResponse::kItemColumnsFieldNumber,
                 response.mutable_item_columns());
    columns.Take(v1::SampleResponse::kViewsFieldNumber,
                 response.mutable_views());
    call_.Sent();
    return stream_.Write(
        std::move(columns).Encode(response.SerializeAsString()));
  }

 private:
  Stream& stream_;
  CountedCall& call_;
};

// Of the service's methods in replay.proto.
constexpr int kSampleMethod = 2;

constexpr char kSample[] = "/qfleet.v1.Replay/Sample";
constexpr char kUpdatePriorities[] = "/qfleet.v1.Replay/UpdatePriorities";

// False at the end of the stream.
absl::StatusOr<bool> ReadRequest(SampleStream& stream,
                                 v1::SampleRequest& request) {
  grpc::ByteBuffer bytes;
  if (!stream.Read(&bytes)) return false;
  if (bytes.Length() > ReplayService::kMaxOpenBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a request of ", bytes.Length(), " bytes: allowed is at most ",
        ReplayService::kMaxOpenBytes));
  }
  QFLEET_RETURN_IF_ERROR(ParseMessage(bytes, request));
  return true;
}

// The table of the first message, which is answered with its stats.
absl::StatusOr<int> OpenSample(Shard& shard, SampleStream& stream) {
  v1::SampleRequest request;
  QFLEET_ASSIGN_OR_RETURN(const bool read, ReadRequest(stream, request));
  if (!read) return absl::CancelledError("no first message");
  if (!request.has_open()) {
    return absl::InvalidArgumentError(
        "payload: allowed as the first message is `open`");
  }
  QFLEET_ASSIGN_OR_RETURN(
      int table, shard.Open(request.open().table(), request.open().signature(),
                            "the sampler"));
  v1::SampleResponse response;
  shard.FillStats(table, response);
  if (!stream.Write(std::move(response)))
    return absl::CancelledError("hung up");
  return table;
}

absl::Status ServeSample(Shard& shard, SampleStream& stream) {
  QFLEET_ASSIGN_OR_RETURN(int table, OpenSample(shard, stream));
  v1::SampleRequest request;
  for (;;) {
    QFLEET_ASSIGN_OR_RETURN(const bool read, ReadRequest(stream, request));
    if (!read) break;
    if (!request.has_draw()) {
      return absl::InvalidArgumentError(
          "payload: allowed after the first message is `draw`");
    }
    v1::SampleResponse response;
    QFLEET_RETURN_IF_ERROR(shard.Sample(table, request.draw(), response));
    if (!stream.Write(std::move(response))) break;
  }
  return absl::OkStatus();
}

absl::Status TooManyStreams() {
  return absl::UnavailableError(absl::StrCat("sample streams: allowed are ",
                                             ReplayService::kMaxSampleStreams,
                                             " at a time"));
}

template <typename Response>
grpc::Status Answer(absl::StatusOr<Response> result, Response& response) {
  if (!result.ok()) return ToGrpc(result.status());
  response = *std::move(result);
  return grpc::Status::OK;
}

}  // namespace

// There is no generated class for a synchronous stream of bytes; the call is
// what those for streamed unary methods make.
ReplayService::ReplayService(Shard* shard,
                             std::shared_ptr<const GrpcServerMetrics> calls,
                             int append_threads)
    : shard_(shard), calls_(std::move(calls)), append_threads_(append_threads) {
  using Handler =
      grpc::internal::BidiStreamingHandler<ReplayService, grpc::ByteBuffer,
                                           grpc::ByteBuffer>;
  MarkMethodStreamed(
      kSampleMethod,
      new Handler(
          [](ReplayService* service, grpc::ServerContext* context,
             SampleStream::Stream* stream) {
            CountedCall call(service->calls_.get(), kSample, *context);
            SampleStream counted(*stream, call);
            absl::Status status = TooManyStreams();
            // Also if there is no memory for an answer, which is thrown.
            const absl::Cleanup leave = [service] {
              --service->sample_streams_;
            };
            if (++service->sample_streams_ <= kMaxSampleStreams) {
              status = ServeSample(*service->shard_, counted);
            }
            return call.End(ToGrpc(status));
          },
          this));
}

std::vector<std::string> ReplayService::CountedMethods() {
  return {AppendReactor::kMethod, kSample, kUpdatePriorities};
}

grpc::Status ReplayService::Describe(grpc::ServerContext*,
                                     const v1::DescribeRequest*,
                                     v1::DescribeResponse* response) {
  *response = shard_->Describe();
  return grpc::Status::OK;
}

void ReplayService::TakeCalls(ServerCallQueue* queue) {
  AppendReactor::TakeCalls({this, queue, shard_, calls_.get()});
}

grpc::Status ReplayService::UpdatePriorities(
    grpc::ServerContext* context, const v1::UpdatePrioritiesRequest* request,
    v1::UpdatePrioritiesResponse* response) {
  CountedCall call(calls_.get(), kUpdatePriorities, *context);
  call.Received();
  const grpc::Status status =
      Answer(shard_->UpdatePriorities(*request), *response);
  if (status.ok()) call.Sent();
  return call.End(status);
}

grpc::Status ReplayService::SetRateLimiter(
    grpc::ServerContext*, const v1::SetRateLimiterRequest* request,
    v1::SetRateLimiterResponse* response) {
  return Answer(shard_->SetRateLimiter(*request), *response);
}

grpc::Status ReplayService::Checkpoint(grpc::ServerContext*,
                                       const v1::CheckpointRequest* request,
                                       v1::CheckpointResponse* response) {
  return Answer(shard_->Checkpoint(*request), *response);
}

}  // namespace qfleet
