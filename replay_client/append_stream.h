// A writer's connection to one shard: batches go out in order, stay here until
// they are acknowledged, and are sent again after a reconnect.
//
// Thread-safe, but made for one thread that sends.

#ifndef QFLEET_REPLAY_CLIENT_APPEND_STREAM_H_
#define QFLEET_REPLAY_CLIENT_APPEND_STREAM_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/call_queue.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "qfleet/v1/replay.grpc.pb.h"
#include "replay_client/batch_builder.h"
#include "replay_client/persistent_stream.h"
#include "replay_client/remote_writer.h"

namespace qfleet {

class AppendStream
    : private PersistentStream<grpc::ByteBuffer, grpc::ByteBuffer>::Handler {
 public:
  struct Options {
    std::string address;
    v1::AppendOpen open;  // writer_id is the stream's own.
    uint64_t max_unacknowledged_bytes = 0;
    uint64_t max_unacknowledged_steps = 0;
    absl::Duration silence_patience = absl::InfiniteDuration();
    CallQueue* queue = nullptr;
    // Becomes true when status() is an error.
    std::atomic<bool>* failed = nullptr;
  };

  // Connects in the background.
  explicit AppendStream(const Options& options);
  ~AppendStream() override = default;

  const std::string& address() const { return options_.address; }

  // True between the shard's answer to `open` and the connection's end.
  bool connected() const { return connected_.load(std::memory_order_relaxed); }

  // Until it is connected, `deadline`, or it never will be.
  void WaitConnected(absl::Time deadline) const;

  // Why nothing will be sent any more, the shard's address first; OK.
  absl::Status status() const;

  // Whether a batch of this size may be added. One always fits in an empty
  // queue.
  bool HasRoom(const BatchSize& size) const;
  // True once it may be added. False once the shard has been away for
  // `away_patience`, however long before this call that began, if there is one
  // `elsewhere` to go to (asked under the stream's mutex): after a lost
  // connection, or a silence (WriterOptions::silence_patience).
  // DEADLINE_EXCEEDED after `patience`, or status().
  absl::StatusOr<bool> WaitForRoom(const BatchSize& size,
                                   absl::Duration patience,
                                   absl::Duration away_patience,
                                   absl::FunctionRef<bool()> elsewhere);

  // When the connection before was lost or fell silent, or when this was made
  // if there was none yet.
  absl::Time away_since() const;

  // The batch's sequence is one more than that of the batch before.
  void Send(v1::AppendBatch batch, const BatchSize& size);

  // Until all that was sent is acknowledged. Errors as WaitForRoom.
  absl::Status WaitAcknowledged(absl::Duration patience);

  void AddTo(WriterStats& stats) const;

  // Ends all waits with CANCELLED.
  void Stop();

 private:
  using Stream = PersistentStream<grpc::ByteBuffer, grpc::ByteBuffer>;

  struct Pending {
    grpc::ByteBuffer request;
    uint64_t sequence;
    uint64_t items;
    BatchSize size;
    bool sent;  // In this connection or one before.
  };

  const grpc::internal::RpcMethod& method() override { return method_; }
  grpc::Channel& channel() override { return *channel_; }
  const grpc::ByteBuffer& OpenRequest() override { return open_; }
  void OnOpen(grpc::ByteBuffer& response) override;
  const grpc::ByteBuffer* NextRequest() override;
  void OnResponse(grpc::ByteBuffer& response) override;
  void OnClose(const absl::Status& status) override;

  bool Fits(const BatchSize& size) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // False, and this has failed, if it is none.
  bool Parse(grpc::ByteBuffer& bytes, v1::AppendResponse& response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Forgets the batches up to `sequence`; returns their items.
  uint64_t Acknowledge(uint64_t sequence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether the shard, whose last batch is `sequence`, has lost some that it
  // had acknowledged: it was restored, or its host lost power.
  bool Forgot(uint64_t sequence) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // Whether the shard answers at all by then; not so either once Stop was
  // called. Without the mutex meanwhile.
  bool Ask(absl::Time deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Answers(grpc::health::v1::Health::Stub& health, absl::Time deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // It did not. Without the mutex for a moment.
  void GiveUp() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Says for what and how long it waited in vain.
  absl::Status TooLate(absl::Duration patience) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  void Fail(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  grpc::ByteBuffer open_;  // Of the queue's thread.
  const std::shared_ptr<grpc::Channel> channel_;
  const grpc::internal::RpcMethod method_;
  // On a connection of its own, made when it is asked: what is sent is not in
  // its way.
  const std::unique_ptr<grpc::health::v1::Health::Stub> health_;

  std::atomic<bool> connected_{false};

  mutable absl::Mutex mutex_;
  std::deque<Pending> pending_ ABSL_GUARDED_BY(mutex_);  // Unacknowledged.
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;  // The first to send of pending_.
  BatchSize pending_size_ ABSL_GUARDED_BY(mutex_);     // Of all of pending_.
  uint64_t acknowledged_ ABSL_GUARDED_BY(mutex_) = 0;  // The last sequence.
  uint64_t opened_ ABSL_GUARDED_BY(mutex_) = 0;        // Connections.
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  absl::Status last_error_ ABSL_GUARDED_BY(mutex_);  // While not connected.
  absl::Time away_since_ ABSL_GUARDED_BY(mutex_);
  // The shard's last word, or when it was asked for one: by a batch for which
  // nothing else was pending, or by Ask.
  absl::Time silent_since_ ABSL_GUARDED_BY(mutex_);
  grpc::ClientContext* asking_ ABSL_GUARDED_BY(mutex_) = nullptr;
  WriterStats stats_ ABSL_GUARDED_BY(mutex_);

  grpc::ByteBuffer sending_;  // What NextRequest gave.

  Stream stream_;  // Last: its thread uses what stands above.
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_CLIENT_APPEND_STREAM_H_
