// Writes checkpoints in a thread of its own, one at a time, so that the loop
// only copies what goes into them.
//
//   CheckpointWriter writer(directory, keep, metrics);
//   if (writer.Idle()) writer.Start(checkpoint, before);  // now and then
//   QFLEET_RETURN_IF_ERROR(writer.status());
//   ...
//   writer.Wait();
//
// Thread-compatible: one loop.

#ifndef QFLEET_LEARNER_CHECKPOINT_WRITER_H_
#define QFLEET_LEARNER_CHECKPOINT_WRITER_H_

#include <functional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/metrics.h"
#include "qfleet/v1/checkpoint.pb.h"

namespace qfleet {

// What is to be written beside a checkpoint, before it, in the writer's thread;
// may complete the checkpoint. Owns all that it needs. Null: nothing.
using WriteBeside = std::function<absl::Status(const std::string& directory,
                                               v1::Checkpoint& checkpoint)>;

class CheckpointWriter {
 public:
  // `metrics` must outlive the writer.
  CheckpointWriter(std::string directory, int keep, Metrics& metrics);
  ~CheckpointWriter();  // Waits.
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Whether none is being written.
  bool Idle() const;

  // Starts to write; waits first if one is being written.
  void Start(v1::Checkpoint checkpoint, WriteBeside beside);

  // Counts one that was due while another was being written.
  void Skip();

  // Until all is written: the path of the last one, or the first error.
  absl::StatusOr<std::string> Wait();

  // The first error so far.
  absl::Status status() const;

 private:
  void Write(v1::Checkpoint checkpoint, const WriteBeside& beside);

  const std::string directory_;
  const int keep_;
  prometheus::Counter& written_;
  prometheus::Counter& skipped_;
  prometheus::Gauge& seconds_;
  std::thread thread_;

  mutable absl::Mutex mutex_;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::string path_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_CHECKPOINT_WRITER_H_
