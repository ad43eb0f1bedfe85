// Where the learner computes, and how work gets there.
//
//   QFLEET_ASSIGN_OR_RETURN(at::Device device, FindDevice("cuda:0"));
//   DevicePipeline pipeline(device, input_bytes, output_size, {});
//   loop:
//     ... fill pipeline.next_input() ...
//     pipeline.Run([&] { /* input() -> output() */ });
//     if (pipeline.in_flight() == 2) Use(pipeline.Fetch());  // The run before.
//
// All that needs CUDA's headers is in device.cc, behind QFLEET_CUDA, which
// CMake sets where LibTorch is a CUDA build.

#ifndef QFLEET_MODEL_DEVICE_H_
#define QFLEET_MODEL_DEVICE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace qfleet {

// "cpu", "cuda" or "cuda:N". "cuda" is device LOCAL_RANK where the environment
// has that (several learners on one host), else device 0. INVALID_ARGUMENT if
// this build or this machine does not have it.
absl::StatusOr<at::Device> FindDevice(const std::string& name);

// For people: "cpu", "cuda:0 (NVIDIA H100 80GB HBM3)".
std::string DeviceText(at::Device device);

// While it lives, this thread's matrix products and convolutions on `device`
// are in bfloat16 (LibTorch's autocast), if `enabled`. Weights are cast in each
// operation: autocast's cache would keep casts of weights that have changed
// since.
class Bf16Scope {
 public:
  Bf16Scope(at::Device device, bool enabled);
  ~Bf16Scope();
  Bf16Scope(const Bf16Scope&) = delete;
  Bf16Scope& operator=(const Bf16Scope&) = delete;

 private:
  const at::DeviceType type_;
  const bool enabled_;
};

// Runs one function again and again on a device, each time with other inputs,
// without waiting for it: while a run computes, the host fills and sends the
// inputs of the next one and reads the outputs of the one before. At most two
// runs are in flight.
//
// On CUDA the inputs are copied from pinned memory on a stream of their own,
// the function is captured as a graph in its fourth run and replayed from then
// on. So it must do the same operations on the same memory every time, and must
// not look at values on the host. On the CPU it is called each time, at once;
// only the order of calls is the same.
//
// Thread-compatible.
class DevicePipeline {
 public:
  struct Options {
    bool capture = true;  // As a CUDA graph; false: queued anew in each run.
  };

  // Waits for what the device is doing, such as making the function's tensors.
  DevicePipeline(at::Device device, int64_t input_bytes, int64_t output_size,
                 const Options& options);
  // Waits for all runs.
  ~DevicePipeline();

  // What the next Run takes, on the host, uint8 [input_bytes]: one of
  // host_input(0) and host_input(1) in turn.
  const at::Tensor& next_input() const { return host_input(next_slot()); }
  int next_slot() const { return static_cast<int>(runs_ % kSlots); }
  const at::Tensor& host_input(int slot) const { return slots_[slot].input; }

  // On the device, the same memory for every run: uint8 [input_bytes], and
  // float32 [output_size], which the function fills.
  const at::Tensor& input() const { return input_; }
  const at::Tensor& output() const { return output_; }

  // Must not be called with two runs in flight.
  void Run(const std::function<void()>& function);

  // Runs whose outputs have not been fetched.
  int in_flight() const { return static_cast<int>(runs_ - fetched_); }
  // Waits for the oldest of them. Valid until the Run after the next.
  absl::Span<const float> Fetch();
  // Waits for all runs; their outputs can still be fetched.
  void Wait();

 private:
  static constexpr int kSlots = 2;

  struct Cuda;  // Streams, events and the graph.
  struct Slot {
    at::Tensor input;
    at::Tensor output;
  };

  const std::unique_ptr<Cuda> cuda_;  // Null on the CPU.
  Slot slots_[kSlots];
  at::Tensor input_;
  at::Tensor output_;
  int64_t runs_ = 0;
  int64_t fetched_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_MODEL_DEVICE_H_
