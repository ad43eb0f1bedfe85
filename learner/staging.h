// All inputs of an update in one block of memory, so that they reach a device
// in one copy.
//
//   InputLayout layout(batch, noise_shape, scalars_shape);
//   StagedInputs host = layout.Views(host_block), device = ...(device_block);
//   CopyColumns(batch, host);       // and fill host.noise, host.scalars
//   device_block.copy_(host_block); // device.batch is the batch now

#ifndef QFLEET_LEARNER_STAGING_H_
#define QFLEET_LEARNER_STAGING_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "learner/batch.h"

namespace qfleet {

// Tensors that share a block's memory.
struct StagedInputs {
  Batch batch;
  at::Tensor noise;    // float32
  at::Tensor scalars;  // float32
};

// Where everything stands in a block. Immutable.
class InputLayout {
 public:
  // For batches with the columns of this one, noise and scalars of these
  // shapes.
  InputLayout(const Batch& batch, std::vector<int64_t> noise,
              std::vector<int64_t> scalars);

  int64_t bytes() const { return bytes_; }
  // Whether the batch's columns have the names, types and shapes of the first
  // one's.
  bool Fits(const Batch& batch) const;
  // Over a block, uint8 [bytes()], on any device.
  StagedInputs Views(const at::Tensor& block) const;

 private:
  struct Part {
    std::string name;
    at::ScalarType type;
    std::vector<int64_t> shape;
    int64_t offset;
    int64_t bytes;
  };

  void Add(std::string name, at::ScalarType type, std::vector<int64_t> shape);
  static at::Tensor ViewOf(const Part& part, const at::Tensor& block);

  std::vector<Part> parts_;  // Columns, then weights, noise, scalars.
  int64_t bytes_ = 0;
};

// The batch's columns and weights into memory that its layout gave.
void CopyColumns(const Batch& batch, const StagedInputs& to);

}  // namespace qfleet

#endif  // QFLEET_LEARNER_STAGING_H_
