#include "replay_server/service/append_reactor.h"

#include <utility>

#include "common/grpc.h"
#include "common/status_macros.h"

namespace qfleet {

AppendReactor::AppendReactor(Shard* shard, const GrpcServerMetrics* calls,
                             const grpc::ServerContextBase& context)
    : shard_(shard), call_(calls, kMethod, context) {
  StartRead(&request_);
}

void AppendReactor::OnReadDone(bool ok) {
  if (!ok) {
    End(absl::OkStatus());
    return;
  }
  call_.Received();
  const absl::Status decoded = decoder_.Decode(request_);
  request_.Clear();
  if (!decoded.ok()) {
    End(decoded);
    return;
  }
  if (opened_) {
    if (decoder_.has_batch()) {
      Append();
    } else {
      End(absl::InvalidArgumentError(
          "payload: allowed after the first message is `batch`"));
    }
    return;
  }
  absl::Status status =
      decoder_.has_open()
          ? Open(decoder_.open())
          : absl::InvalidArgumentError(
                "payload: allowed as the first message is `open`");
  if (!status.ok()) {
    End(status);
    return;
  }
  v1::AppendResponse response;
  response.set_sequence(shard_->LastSequence(table_, writer_id_));
  Answer(response);
}

void AppendReactor::Answer(const v1::AppendResponse& response) {
  response_ = SerializeMessage(response);
  call_.Sent();
  StartWrite(&response_);
}

void AppendReactor::End(const absl::Status& status) {
  Finish(call_.End(ToGrpc(status)));
}

absl::Status AppendReactor::Open(const v1::AppendOpen& open) {
  if (open.writer_id() == 0) {
    return absl::InvalidArgumentError(
        "open.writer_id = 0: allowed is a random number that is not 0");
  }
  QFLEET_ASSIGN_OR_RETURN(
      table_, shard_->Open(open.table(), open.signature(), "the writer"));
  writer_id_ = open.writer_id();
  opened_ = true;
  // The writer is here now: what an earlier connection of it still waits for
  // it will send again.
  shard_->CancelAppends(table_, writer_id_);
  return absl::OkStatus();
}

void AppendReactor::Append() {
  appending_.store(true);
  shard_->Append(table_, Call(), decoder_.batch(),
                 [this](const absl::StatusOr<v1::AppendResponse>& result) {
                   OnAppended(result);
                 });
  // The call may have been cancelled before the batch was queued. If it is
  // over by now, this reaction still keeps the reactor alive.
  if (cancelled_.load()) OnCancel();
}

void AppendReactor::OnAppended(
    const absl::StatusOr<v1::AppendResponse>& result) {
  appending_.store(false);
  decoder_.Release();
  if (!result.ok()) {
    End(result.status());
    return;
  }
  Answer(*result);
}

void AppendReactor::OnWriteDone(bool ok) {
  if (ok) {
    StartRead(&request_);
  } else {
    End(absl::CancelledError());
  }
}

void AppendReactor::OnCancel() {
  cancelled_.store(true);
  if (appending_.load()) shard_->CancelAppends(table_, Call());
}

}  // namespace qfleet
