// One Append call, which reacts to what comes to its queue: it reads a batch,
// stores it, acknowledges it and only then reads on. It has no thread; idle, it
// costs a few kilobytes. It decodes messages itself (append_decoder.h), and so
// can tell one that is malformed from the stream's end.

#ifndef QFLEET_REPLAY_SERVER_SERVICE_APPEND_REACTOR_H_
#define QFLEET_REPLAY_SERVER_SERVICE_APPEND_REACTOR_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/call_queue.h"
#include "common/grpc_metrics.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/async_stream.h"
#include "grpcpp/support/byte_buffer.h"
#include "qfleet/v1/replay.grpc.pb.h"
#include "replay_server/service/append_decoder.h"
#include "replay_server/service/shard.h"

namespace qfleet {

// Waits for a call, makes the next one that waits, and deletes itself when its
// call is over. All reactions are of the queue's thread, but for OnAppended,
// which is the last one until the operation that it begins is over.
class AppendReactor {
 public:
  using Service = v1::Replay::WithRawMethod_Append<v1::Replay::Service>;

  static constexpr char kMethod[] = "/qfleet.v1.Replay/Append";

  // All must outlive the server.
  struct Options {
    Service* service = nullptr;
    ServerCallQueue* queue = nullptr;
    Shard* shard = nullptr;
    const GrpcServerMetrics* calls = nullptr;  // Null: not counted.
  };

  // Takes calls until the server is shut down, from then on by itself.
  static void TakeCalls(const Options& options) { new AppendReactor(options); }

 private:
  explicit AppendReactor(const Options& options);
  ~AppendReactor() { options_.queue->Leave(); }

  void OnCall(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  // It was cancelled, or its status is on its way.
  void OnOver(bool ok);

  ServedTable::AppendCall Call() const { return {writer_id_, this}; }
  absl::Status Open(const v1::AppendOpen& open);
  void Append();
  void OnAppended(const absl::StatusOr<v1::AppendResponse>& result);
  void Read();
  void Answer(const v1::AppendResponse& response);
  void End(const absl::Status& status);
  // Once nothing more will come.
  void DeleteIfDone();

  const Options options_;
  Reaction<AppendReactor> on_call_{this, &AppendReactor::OnCall};
  Reaction<AppendReactor> on_read_{this, &AppendReactor::OnRead};
  Reaction<AppendReactor> on_written_{this, &AppendReactor::OnWritten};
  Reaction<AppendReactor> on_finished_{this, &AppendReactor::OnFinished};
  Reaction<AppendReactor> on_over_{this, &AppendReactor::OnOver};
  grpc::ServerContext context_;
  grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer> stream_;
  std::optional<CountedCall> call_;
  grpc::ByteBuffer request_;
  AppendDecoder decoder_;
  grpc::ByteBuffer response_;
  bool opened_ = false;
  int table_ = 0;
  uint64_t writer_id_ = 0;
  bool over_ = false;
  bool finished_ = false;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_SERVICE_APPEND_REACTOR_H_
