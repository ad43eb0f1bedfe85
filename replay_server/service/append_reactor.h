// One Append call: a reactor that reads a batch, stores it, acknowledges it
// and only then reads on. It has no thread; idle, it costs a few kilobytes. It
// decodes messages itself (append_decoder.h), and so can tell one that is
// malformed from the stream's end.

#ifndef QFLEET_REPLAY_SERVER_SERVICE_APPEND_REACTOR_H_
#define QFLEET_REPLAY_SERVER_SERVICE_APPEND_REACTOR_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/grpc_metrics.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_server/service/append_decoder.h"
#include "replay_server/service/shard.h"

namespace qfleet {

// Deletes itself when the call is over. gRPC runs one reaction at a time, but
// for OnCancel, which may come at any time; and a reaction that runs, or a
// call that was not finished, keeps the reactor alive. The shard calls back
// exactly once for each batch, and the call is finished only after that.
class AppendReactor final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  static constexpr char kMethod[] = "/qfleet.v1.Replay/Append";

  // `shard` and `calls` must outlive the server.
  AppendReactor(Shard* shard, const GrpcServerMetrics* calls,
                const grpc::ServerContextBase& context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { delete this; }

 private:
  ~AppendReactor() override = default;

  ServedTable::AppendCall Call() const { return {writer_id_, this}; }
  absl::Status Open(const v1::AppendOpen& open);
  void Append();
  void OnAppended(const absl::StatusOr<v1::AppendResponse>& result);
  void Answer(const v1::AppendResponse& response);
  void End(const absl::Status& status);

  Shard* const shard_;
  CountedCall call_;
  grpc::ByteBuffer request_;
  AppendDecoder decoder_;
  grpc::ByteBuffer response_;
  bool opened_ = false;
  int table_ = 0;
  uint64_t writer_id_ = 0;
  std::atomic<bool> appending_{false};  // The shard has a batch of this call.
  std::atomic<bool> cancelled_{false};
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_SERVICE_APPEND_REACTOR_H_
