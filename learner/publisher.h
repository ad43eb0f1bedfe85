// The newest policy, for whoever wants it; in FP32, of which other forms are
// made on their way out (weights/publication.h).

#ifndef QFLEET_LEARNER_PUBLISHER_H_
#define QFLEET_LEARNER_PUBLISHER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "qfleet/v1/weights.pb.h"
#include "weights/codec.h"

namespace qfleet {

// Thread-safe.
class Publisher {
 public:
  // Of the network with this signature and this layout of its parameters.
  Publisher(std::string network, WeightLayout layout)
      : network_(std::move(network)), layout_(std::move(layout)) {}

  // Goes on after this publication: it is the newest, and the next one's
  // version is one higher. Before the first Publish.
  void Resume(v1::Publication newest);

  // Makes the next version of these parameters: 1, 2, ... `calibrate`: see
  // PublicationForms::Make.
  void Publish(std::string parameters, uint64_t updates, uint64_t env_steps = 0,
               std::function<Calibration()> calibrate = nullptr);

  // Null before the first.
  std::shared_ptr<const v1::Publication> newest() const;
  uint64_t version() const;

  // Called with each publication, in Publish's thread. Set before the first.
  using Listener = std::function<void(std::shared_ptr<const v1::Publication>,
                                      std::function<Calibration()> calibrate)>;
  void OnPublish(Listener listener) { listener_ = std::move(listener); }

 private:
  const std::string network_;
  const WeightLayout layout_;
  Listener listener_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<const v1::Publication> newest_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_PUBLISHER_H_
