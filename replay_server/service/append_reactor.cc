#include "replay_server/service/append_reactor.h"

#include <utility>

#include "common/grpc.h"
#include "common/status_macros.h"

namespace qfleet {

AppendReactor::AppendReactor(const Options& options)
    : options_(options), stream_(&context_) {
  options.queue->Enter();
  context_.AsyncNotifyWhenDone(on_over_.tag());
  grpc::ServerCompletionQueue* const completions = options.queue->completions();
  options.service->RequestAppend(&context_, &stream_, completions, completions,
                                 on_call_.tag());
}

void AppendReactor::OnCall(bool ok) {
  if (!ok) {  // The server shuts down. OnOver never comes.
    delete this;
    return;
  }
  TakeCalls(options_);
  call_.emplace(options_.calls, kMethod, context_);
  Read();
}

void AppendReactor::Read() { stream_.Read(&request_, on_read_.tag()); }

void AppendReactor::OnRead(bool ok) {
  if (!ok) {
    End(absl::OkStatus());
    return;
  }
  call_->Received();
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
  response.set_sequence(options_.shard->LastSequence(table_, writer_id_));
  Answer(response);
}

void AppendReactor::Answer(const v1::AppendResponse& response) {
  response_ = SerializeMessage(response);
  call_->Sent();
  stream_.Write(response_, on_written_.tag());
}

void AppendReactor::End(const absl::Status& status) {
  // Whether a stream that just ended was cancelled is known once it is over.
  if (!status.ok()) call_->End(ToGrpc(status));
  stream_.Finish(ToGrpc(status), on_finished_.tag());
}

absl::Status AppendReactor::Open(const v1::AppendOpen& open) {
  if (open.writer_id() == 0) {
    return absl::InvalidArgumentError(
        "open.writer_id = 0: allowed is a random number that is not 0");
  }
  QFLEET_ASSIGN_OR_RETURN(
      table_,
      options_.shard->Open(open.table(), open.signature(), "the writer"));
  // Not only when its first batch comes: a writer that was let in would wait
  // for this shard instead of going to another.
  QFLEET_RETURN_IF_ERROR(options_.shard->WriteStatus(table_));
  writer_id_ = open.writer_id();
  opened_ = true;
  // The writer is here now: what an earlier connection of it still waits for
  // it will send again.
  options_.shard->CancelAppends(table_, writer_id_);
  return absl::OkStatus();
}

void AppendReactor::Append() {
  // Nothing would tell the shard any more not to wait with this batch.
  if (over_) {
    decoder_.Release();
    End(absl::CancelledError());
    return;
  }
  options_.shard->Append(
      table_, Call(), decoder_.batch(),
      [this](const absl::StatusOr<v1::AppendResponse>& result) {
        OnAppended(result);
      });
}

void AppendReactor::OnAppended(
    const absl::StatusOr<v1::AppendResponse>& result) {
  decoder_.Release();
  if (result.ok()) {
    Answer(*result);
  } else {
    End(result.status());
  }
}

void AppendReactor::OnWritten(bool ok) {
  if (ok) {
    Read();
  } else {
    End(absl::CancelledError());
  }
}

void AppendReactor::OnOver(bool /*ok*/) {
  over_ = true;
  // A batch that the shard holds back.
  if (opened_) options_.shard->CancelAppends(table_, Call());
  DeleteIfDone();
}

void AppendReactor::OnFinished(bool /*ok*/) {
  finished_ = true;
  DeleteIfDone();
}

void AppendReactor::DeleteIfDone() {
  if (!over_ || !finished_) return;
  call_->End(grpc::Status::OK);  // Unless End has counted it.
  delete this;
}

}  // namespace qfleet
