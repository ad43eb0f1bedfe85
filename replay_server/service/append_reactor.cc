#include "replay_server/service/append_reactor.h"

#include <utility>

#include "common/grpc.h"
#include "common/status_macros.h"

namespace qfleet {

AppendReactor::AppendReactor(Shard* shard) : shard_(shard) {
  StartRead(&request_bytes_);
}

void AppendReactor::OnReadDone(bool ok) {
  if (!ok) {
    Finish(grpc::Status::OK);
    return;
  }
  absl::Status status = Take();
  if (!status.ok()) Finish(ToGrpc(status));
}

absl::Status AppendReactor::Take() {
  QFLEET_RETURN_IF_ERROR(ParseMessage(request_bytes_, request_));
  if (!opened_) {
    if (!request_.has_open()) {
      return absl::InvalidArgumentError(
          "payload: allowed as the first message is `open`");
    }
    QFLEET_RETURN_IF_ERROR(Open(request_.open()));
    v1::AppendResponse response;
    response.set_sequence(shard_->LastSequence(table_, writer_id_));
    Answer(response);
    return absl::OkStatus();
  }
  if (!request_.has_batch()) {
    return absl::InvalidArgumentError(
        "payload: allowed after the first message is `batch`");
  }
  Append(request_.batch());  // Answers, or finishes the call, by itself.
  return absl::OkStatus();
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

void AppendReactor::Append(const v1::AppendBatch& batch) {
  appending_.store(true);
  shard_->Append(table_, Call(), batch,
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
  if (!result.ok()) {
    Finish(ToGrpc(result.status()));
    return;
  }
  Answer(*result);
}

void AppendReactor::Answer(const v1::AppendResponse& response) {
  response_bytes_ = SerializeMessage(response);
  StartWrite(&response_bytes_);
}

void AppendReactor::OnWriteDone(bool ok) {
  if (ok) {
    StartRead(&request_bytes_);
  } else {
    Finish(grpc::Status::CANCELLED);
  }
}

void AppendReactor::OnCancel() {
  cancelled_.store(true);
  if (appending_.load()) shard_->CancelAppends(table_, Call());
}

}  // namespace qfleet
