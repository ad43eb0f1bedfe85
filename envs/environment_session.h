// One session of qfleet/v1/environment.proto, the actor's side of it: what is
// asked, and replies that are what the protocol says they are, or an error.
//
//   EnvironmentSession session(std::move(socket), absl::Seconds(60));
//   QFLEET_RETURN_IF_ERROR(session.Make(request));    // session.spec()
//   session.StartStep(actions);
//   QFLEET_RETURN_IF_ERROR(session.FinishStep());     // session.reply()
//
// Errors are of two kinds. What another session may be spared: UNAVAILABLE (the
// other side has gone), DEADLINE_EXCEEDED (it hangs), ABORTED (the environment
// failed). What would be the same again: INVALID_ARGUMENT.

#ifndef QFLEET_ENVS_ENVIRONMENT_SESSION_H_
#define QFLEET_ENVS_ENVIRONMENT_SESSION_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "envs/environment.h"
#include "envs/framed_socket.h"
#include "qfleet/v1/environment.pb.h"

namespace qfleet {

// Whether a new session may do better.
bool IsLoss(const absl::Status& status);

// Thread-compatible. Not to be used after an error.
class EnvironmentSession {
 public:
  static constexpr absl::Duration kMakePatience = absl::Seconds(60);

  // A reply may take `deadline` from when it is waited for, that to Make at
  // least kMakePatience: there the other side may have to start.
  EnvironmentSession(FramedSocket socket, absl::Duration deadline)
      : socket_(std::move(socket)), deadline_(deadline) {}

  // Makes request.count() environments, whose first observations are in
  // reply(). Sets the request's protocol.
  absl::Status Make(v1::MakeRequest request);
  const EnvironmentSpec& spec() const { return spec_; }

  // A step in two parts; the first one's error is given by the second.
  void StartStep(absl::Span<const int> actions);
  absl::Status FinishStep();

  // Sizes and counts are right, numbers finite, masks 0 or 1 with a legal
  // action. Where the spec has masks and the reply has none, all actions are
  // legal.
  const v1::EnvironmentReply& reply() const { return reply_; }

 private:
  absl::Status Send();
  absl::Status Receive(size_t max_bytes, absl::Duration patience);
  absl::Status TakeSpec(const v1::MakeReply& made);
  absl::Status CheckState() const;
  absl::Status CheckStep() const;

  FramedSocket socket_;
  const absl::Duration deadline_;
  EnvironmentSpec spec_;
  size_t row_bytes_ = 0;
  size_t count_ = 0;
  absl::Status sent_;
  // Kept for their memory.
  v1::EnvironmentRequest request_;
  v1::EnvironmentReply reply_;
  std::string message_;
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_ENVIRONMENT_SESSION_H_
