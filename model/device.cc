#include "model/device.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/version.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#ifdef QFLEET_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace qfleet {
namespace {

#if TORCH_VERSION_MAJOR > 2 || \
    (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
void SetAutocast(at::DeviceType type, bool enabled) {
  if (enabled) at::autocast::set_autocast_dtype(type, at::kBFloat16);
  at::autocast::set_autocast_enabled(type, enabled);
}
#else
void SetAutocast(at::DeviceType type, bool enabled) {
  if (type == at::kCPU) {
    at::autocast::set_autocast_cpu_dtype(at::kBFloat16);
    at::autocast::set_cpu_enabled(enabled);
  } else {
    at::autocast::set_autocast_gpu_dtype(at::kBFloat16);
    at::autocast::set_enabled(enabled);
  }
}
#endif

absl::Status NoDevice(absl::string_view name, absl::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat("learner.device = ", name, ": allowed is ", allowed));
}

int CountDevices() {
#ifdef QFLEET_CUDA
  return c10::cuda::device_count();  // 0 where there is no driver.
#else
  return 0;
#endif
}

}  // namespace

absl::StatusOr<at::Device> FindDevice(const std::string& name) {
  if (name == "cpu") return at::Device(at::kCPU);
  int index = 0;
  absl::string_view number = name;
  if (name != "cuda" && !(absl::ConsumePrefix(&number, "cuda:") &&
                          absl::SimpleAtoi(number, &index))) {
    return NoDevice(name, "cpu, cuda or cuda:N");
  }
#ifndef QFLEET_CUDA
  return NoDevice(name, absl::StrCat("cpu, as this build's LibTorch, ",
                                     TORCH_VERSION, ", is one without CUDA"));
#endif
  const int count = CountDevices();
  if (count == 0) {
    return NoDevice(name, "cpu, as this machine has no CUDA device");
  }
  if (const char* rank = std::getenv("LOCAL_RANK");
      name == "cuda" && rank != nullptr) {
    if (!absl::SimpleAtoi(rank, &index) || index < 0 || index >= count) {
      return absl::InvalidArgumentError(absl::StrCat(
          "environment LOCAL_RANK = ", rank, ": allowed is 0 to ", count - 1,
          ", a CUDA device of this machine for each learner on it"));
    }
  }
  if (index < 0 || index >= count) {
    return NoDevice(name, absl::StrCat("cpu or cuda:0 to cuda:", count - 1,
                                       " on this machine"));
  }
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
}

std::string DeviceText(at::Device device) {
#ifdef QFLEET_CUDA
  if (device.is_cuda()) {
    return absl::StrCat(device.str(), " (",
                        at::cuda::getDeviceProperties(device.index())->name,
                        ")");
  }
#endif
  return device.str();
}

Bf16Scope::Bf16Scope(at::Device device, bool enabled)
    : type_(device.type()), enabled_(enabled) {
  if (!enabled_) return;
  at::autocast::set_autocast_cache_enabled(false);
  SetAutocast(type_, true);
}

Bf16Scope::~Bf16Scope() {
  if (enabled_) SetAutocast(type_, false);
}

#ifdef QFLEET_CUDA

// For each slot: `sent` when its inputs have left the host, `done` when its
// outputs are there. `taken`: the inputs that were sent last have been moved on
// to where the function reads them, so that the next may be sent.
struct DevicePipeline::Cuda {
  // Before the capture: libraries choose algorithms and take their memory.
  static constexpr int64_t kWarmUpRuns = 3;

  Cuda(at::Device where, int64_t input_bytes, bool capture)
      : device(where),
        capture(capture),
        copies(c10::cuda::getStreamFromPool(/*isHighPriority=*/false,
                                            where.index())),
        computes(c10::cuda::getStreamFromPool(/*isHighPriority=*/false,
                                              where.index())),
        arrived(at::empty({input_bytes},
                          at::TensorOptions().dtype(at::kByte).device(where))) {
  }

  void Run(const Slot& slot, int index, const at::Tensor& input,
           const at::Tensor& output, int64_t run,
           const std::function<void()>& function) {
    c10::cuda::CUDAGuard on_device(device);
    {
      c10::cuda::CUDAStreamGuard on_stream(copies);
      taken.block(copies);
      arrived.copy_(slot.input, /*non_blocking=*/true);
      sent[index].record(copies);
    }
    c10::cuda::CUDAStreamGuard on_stream(computes);
    sent[index].block(computes);
    input.copy_(arrived, /*non_blocking=*/true);
    taken.record(computes);
    if (!capture || run < kWarmUpRuns) {
      function();
    } else {
      if (graph == nullptr) Capture(function);
      graph->replay();
    }
    slot.output.copy_(output, /*non_blocking=*/true);
    done[index].record(computes);
  }

  void Capture(const std::function<void()>& function) {
    c10::cuda::device_synchronize();
    auto made = std::make_unique<at::cuda::CUDAGraph>();
    made->capture_begin();
    function();  // Records; computes nothing.
    made->capture_end();
    graph = std::move(made);
  }

  const at::Device device;
  const bool capture;
  const c10::cuda::CUDAStream copies;
  const c10::cuda::CUDAStream computes;
  at::Tensor arrived;
  at::cuda::CUDAEvent sent[kSlots];
  at::cuda::CUDAEvent taken;
  at::cuda::CUDAEvent done[kSlots];
  std::unique_ptr<at::cuda::CUDAGraph> graph;
};

#else

struct DevicePipeline::Cuda {};  // Never made.

#endif  // QFLEET_CUDA

DevicePipeline::DevicePipeline(at::Device device, int64_t input_bytes,
                               int64_t output_size,
                               [[maybe_unused]] const Options& options)
#ifdef QFLEET_CUDA
    : cuda_(device.is_cuda()
                ? std::make_unique<Cuda>(device, input_bytes, options.capture)
                : nullptr)
#endif
{
  const bool pinned = cuda_ != nullptr;
  for (Slot& slot : slots_) {
    slot.input = at::empty({input_bytes},
                           at::TensorOptions(at::kByte).pinned_memory(pinned));
    slot.output = at::zeros(
        {output_size}, at::TensorOptions(at::kFloat).pinned_memory(pinned));
  }
  input_ =
      at::empty({input_bytes}, at::TensorOptions(at::kByte).device(device));
  output_ =
      at::zeros({output_size}, at::TensorOptions(at::kFloat).device(device));
#ifdef QFLEET_CUDA
  if (cuda_ != nullptr) {
    // What made the tensors of the function ran on another stream.
    c10::cuda::CUDAGuard on_device(device);
    c10::cuda::device_synchronize();
  }
#endif
}

DevicePipeline::~DevicePipeline() {
  try {
    Wait();
  } catch (const std::exception&) {
    // The device failed, which the run before has said.
  }
}

void DevicePipeline::Run(const std::function<void()>& function) {
  const Slot& slot = slots_[next_slot()];
  if (cuda_ == nullptr) {
    input_.copy_(slot.input);
    function();
    slot.output.copy_(output_);
  } else {
#ifdef QFLEET_CUDA
    cuda_->Run(slot, next_slot(), input_, output_, runs_, function);
#endif
  }
  ++runs_;
}

absl::Span<const float> DevicePipeline::Fetch() {
  const int index = static_cast<int>(fetched_ % kSlots);
#ifdef QFLEET_CUDA
  if (cuda_ != nullptr) cuda_->done[index].synchronize();
#endif
  ++fetched_;
  const at::Tensor& output = slots_[index].output;
  return absl::MakeConstSpan(output.data_ptr<float>(), output.numel());
}

void DevicePipeline::Wait() {
#ifdef QFLEET_CUDA
  if (cuda_ == nullptr) return;
  for (at::cuda::CUDAEvent& event : cuda_->done) event.synchronize();
#endif
}

}  // namespace qfleet
