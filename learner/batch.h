// A sampled batch as tensors.

#ifndef QFLEET_LEARNER_BATCH_H_
#define QFLEET_LEARNER_BATCH_H_

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "qfleet/v1/replay.pb.h"
#include "replay_client/sampler.h"

namespace qfleet {

// The columns of a batch by name, [B, shape...] each, and the importance
// weights. Thread-compatible.
class Batch {
 public:
  using Columns = std::vector<std::pair<std::string, at::Tensor>>;

  // Over the sample's own memory, which must outlive it.
  Batch(const v1::TableSignature& signature, const SampleBatch& sample,
        double beta);
  // Of tensors, on any device.
  Batch(Columns columns, at::Tensor weights)
      : rows_(static_cast<int>(weights.size(0))),
        columns_(std::move(columns)),
        weights_(std::move(weights)) {}

  // A copy there.
  Batch To(at::Device device) const;

  int rows() const { return rows_; }
  const Columns& columns() const { return columns_; }

  // Throws std::out_of_range for a column that is not there: the algorithm has
  // asked for a table that has it.
  const at::Tensor& operator[](absl::string_view column) const;
  // Undefined for a column that is not there.
  at::Tensor Find(absl::string_view column) const;

  // Importance weights over their maximum, float32 [B], and the maximum (of a
  // sample's).
  const at::Tensor& weights() const { return weights_; }
  double max_weight() const { return max_weight_; }

 private:
  int rows_;
  Columns columns_;
  at::Tensor weights_;
  double max_weight_ = 1;
};

}  // namespace qfleet

#endif  // QFLEET_LEARNER_BATCH_H_
