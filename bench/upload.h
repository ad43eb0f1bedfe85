// Writes messages to a bidirectional call that acknowledges each, with a bound
// on how many are in flight: one thread writes, one reads.

#ifndef QFLEET_BENCH_UPLOAD_H_
#define QFLEET_BENCH_UPLOAD_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/grpc.h"
#include "grpcpp/support/sync_stream.h"

namespace qfleet::bench {

// `next` gives message 0, 1, 2, ..., nullptr at the end. A response's sequence
// says how many are acknowledged. Returns once all are, and finishes the call.
template <typename Request, typename Response>
absl::Status Upload(grpc::ClientReaderWriter<Request, Response>& call,
                    uint64_t window,
                    const std::function<const Request*(uint64_t)>& next) {
  struct {
    absl::Mutex mutex;
    uint64_t acknowledged ABSL_GUARDED_BY(mutex) = 0;
    bool ended ABSL_GUARDED_BY(mutex) = false;
  } state;
  std::thread reader([&call, &state] {
    Response response;
    while (call.Read(&response)) {
      absl::MutexLock lock(&state.mutex);
      state.acknowledged = response.sequence();
    }
    absl::MutexLock lock(&state.mutex);
    state.ended = true;
  });
  uint64_t sent = 0;
  bool broken = false;
  while (const Request* request = broken ? nullptr : next(sent)) {
    {
      absl::MutexLock lock(&state.mutex);
      auto room = [&state, sent, window] {
        return state.ended || sent - state.acknowledged < window;
      };
      state.mutex.Await(absl::Condition(&room));
    }
    broken = !call.Write(*request);
    sent += broken ? 0 : 1;
  }
  call.WritesDone();
  reader.join();
  absl::Status status = FromGrpc(call.Finish());
  if (!status.ok()) return status;
  absl::MutexLock lock(&state.mutex);
  if (state.acknowledged == sent) return absl::OkStatus();
  return absl::InternalError("the server hung up");
}

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_UPLOAD_H_
