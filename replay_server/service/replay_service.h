// The gRPC handlers of a shard; replay.proto is their contract.
//
//   ReplayService service(shard.get(), calls);
//   QFLEET_RETURN_IF_ERROR(server.Start("unix:/tmp/a.sock", {&service}));
//
// Append streams come in thousands and are mostly idle: reactors, which share a
// thread or a few. Sample streams are few and heavy: a thread each serves them
// best.
// Both are given bytes: a message that does not parse is INVALID_ARGUMENT.

#ifndef QFLEET_REPLAY_SERVER_SERVICE_REPLAY_SERVICE_H_
#define QFLEET_REPLAY_SERVER_SERVICE_REPLAY_SERVICE_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "common/grpc.h"
#include "common/grpc_metrics.h"
#include "qfleet/v1/replay.grpc.pb.h"
#include "replay_server/service/append_decoder.h"
#include "replay_server/service/append_reactor.h"
#include "replay_server/service/shard.h"

namespace qfleet {

// For one server. Thread-safe.
class ReplayService final : public AppendReactor::Service,
                            public QueuedService {
 public:
  // Of one shard at a time: each has a thread, and memory for an answer. More
  // are UNAVAILABLE.
  static constexpr int kMaxSampleStreams = 256;
  // Of a message that opens a stream or asks for a draw.
  static constexpr size_t kMaxOpenBytes = AppendDecoder::kMaxOpenBytes;

  // `shard` must outlive the server. `calls` has the calls of CountedMethods();
  // null: they are not counted. Appends have so many threads.
  ReplayService(Shard* shard, std::shared_ptr<const GrpcServerMetrics> calls,
                int append_threads = 1);

  int queues() const override { return append_threads_; }
  void TakeCalls(ServerCallQueue* queue) override;

  // "/SERVICE/METHOD": those of which there are many (CountedCall).
  static std::vector<std::string> CountedMethods();

  grpc::Status Describe(grpc::ServerContext* context,
                        const v1::DescribeRequest* request,
                        v1::DescribeResponse* response) override;

  grpc::Status UpdatePriorities(
      grpc::ServerContext* context, const v1::UpdatePrioritiesRequest* request,
      v1::UpdatePrioritiesResponse* response) override;

  grpc::Status SetRateLimiter(grpc::ServerContext* context,
                              const v1::SetRateLimiterRequest* request,
                              v1::SetRateLimiterResponse* response) override;

  grpc::Status Checkpoint(grpc::ServerContext* context,
                          const v1::CheckpointRequest* request,
                          v1::CheckpointResponse* response) override;

 private:
  Shard* const shard_;
  const std::shared_ptr<const GrpcServerMetrics> calls_;
  const int append_threads_;
  std::atomic<int> sample_streams_{0};
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_SERVICE_REPLAY_SERVICE_H_
