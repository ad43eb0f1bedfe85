// The update of ValueAlgorithm as a function of tensors on a device.

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "absl/types/span.h"
#include "learner/algorithms/value_algorithm.h"

namespace qfleet {

int64_t ValueAlgorithm::forward_passes() const {
  // The target's, the online network's of the next observation, its own.
  return network_->copies() * (config_.double_q() ? 3 : 2);
}

void ValueAlgorithm::DrawNoise(const at::Tensor& to) {
  if (network_->noise_size() == 0) return;
  for (int64_t pass = 0; pass < forward_passes(); ++pass) {
    noise_.Sample(to[pass].data_ptr<float>());
  }
}

at::Tensor ValueAlgorithm::NextNoise() {
  if (!staged()) return noise_.Sample();
  if (network_->noise_size() == 0) return {};
  return noise_input_[pass_++];
}

std::vector<float> ValueAlgorithm::ScalarsOf(int64_t update) const {
  std::vector<float> scalars;
  for (float value : optimizer_->Scalars(
           update, LearningRate(optimizer_config_, update - 1))) {
    scalars.push_back(value);
  }
  const Moves moves = MovesAfter(update);
  for (double share : {moves.follow, moves.shift, moves.chain}) {
    scalars.push_back(static_cast<float>(share));
  }
  return scalars;
}

UpdateResult ValueAlgorithm::UpdateOnDevice(const Batch& batch) {
  if (!layout_ || !layout_->Fits(batch)) SetUp(batch);
  const StagedInputs& host = host_inputs_[pipeline_->next_slot()];
  CopyColumns(batch, host);
  DrawNoise(host.noise);
  // The number of this update if the run before is skipped, and if it is not.
  const int64_t update = updates() + 1;
  const int64_t numbers[2] = {update - pipeline_->in_flight(), update};
  for (int i = 0; i < 2; ++i) {
    const std::vector<float> scalars = ScalarsOf(numbers[i]);
    std::copy(scalars.begin(), scalars.end(),
              host.scalars[i].data_ptr<float>());
  }
  pipeline_->Run([this] { Compute(); });
  optimizer_->set_steps(update);
  if (settled_) return *std::exchange(settled_, std::nullopt);
  if (pipeline_->in_flight() < 2) return {.pending = true};
  return Fetch();
}

UpdateResult ValueAlgorithm::Finish() {
  Settle();
  if (!settled_) return {.pending = true};
  return *std::exchange(settled_, std::nullopt);
}

void ValueAlgorithm::Settle() {
  // Update leaves one run in flight at most, and nothing settled then.
  if (pipeline_ == nullptr || pipeline_->in_flight() == 0) return;
  settled_ = Fetch();
}

void ValueAlgorithm::SetUp(const Batch& batch) {
  Settle();
  pipeline_ = nullptr;
  layout_.emplace(
      batch, std::vector<int64_t>{forward_passes(), network_->noise_size()},
      std::vector<int64_t>{2, kScalars});
  finite_before_ =
      at::ones({}, at::TensorOptions(at::kBool).device(placement_.device));
  pipeline_ = std::make_unique<DevicePipeline>(
      placement_.device, layout_->bytes(), kOutputs + batch.rows(),
      DevicePipeline::Options{.capture = placement_.capture});
  host_inputs_ = {layout_->Views(pipeline_->host_input(0)),
                  layout_->Views(pipeline_->host_input(1))};
  inputs_ = layout_->Views(pipeline_->input());
}

void ValueAlgorithm::Compute() {
  noise_input_ = inputs_->noise;
  pass_ = 0;
  online_.ZeroGradient();
  const Loss loss = ComputeLoss(inputs_->batch);
  loss.loss.backward();

  c10::NoGradGuard no_gradient;
  const at::Tensor scalars =
      at::where(finite_before_, inputs_->scalars[1], inputs_->scalars[0]);
  const Applied applied = ApplyOnDevice(loss.loss, scalars);
  finite_before_.copy_(applied.finite);
  const at::Tensor& output = pipeline_->output();
  output.narrow(0, 0, kOutputs)
      .copy_(at::stack({loss.loss, applied.norm, applied.finite,
                        loss.values.amax(1).mean()}));
  output.narrow(0, kOutputs, loss.td.size(0)).copy_(loss.td.abs());
}

ValueAlgorithm::Applied ValueAlgorithm::ApplyOnDevice(
    const at::Tensor& loss, const at::Tensor& scalars) {
  const at::Tensor& gradient = online_.gradient_tensor();
  // In double precision, as on the CPU.
  const at::Tensor norm =
      at::linalg_vector_norm(gradient, 2, /*dim=*/c10::nullopt,
                             /*keepdim=*/false, at::kDouble);
  at::Tensor finite = norm.isfinite();
  if (loss.defined()) finite = finite.logical_and(loss.isfinite());
  at::Tensor scaled = gradient;
  if (const double limit = config_.max_gradient_norm(); limit > 0) {
    scaled = gradient * (limit / norm).clamp_max(1).to(at::kFloat);
  }
  // Zero times infinity is no zero: a gradient that is not finite is replaced.
  scaled = at::where(finite, scaled, at::zeros({}, gradient.options()));
  const at::Tensor applies = finite.to(at::kFloat);
  optimizer_->StepTensors(online_.tensor(), scaled, applies,
                          scalars.narrow(0, 0, Optimizer::kScalars));
  MoveOnDevice(scalars.narrow(0, Optimizer::kScalars, 3) * applies);
  return {.norm = norm.to(at::kFloat), .finite = applies};
}

// lerp gives its first argument at 0 and its second at 1, exactly.
void ValueAlgorithm::MoveOnDevice(const at::Tensor& moves) {
  const int64_t copies = network_->copies();
  const at::Tensor online =
      online_.tensor().view({copies, network_->copy_size()});
  const at::Tensor target =
      target_.tensor().view({copies, network_->copy_size()});
  target.lerp_(online, moves[0]);
  if (copies == 1) return;
  const at::Tensor all_but_last = online.narrow(0, 0, copies - 1);
  all_but_last.lerp_(online.narrow(0, 1, copies - 1).clone(), moves[1]);
  target.narrow(0, 1, copies - 1).lerp_(all_but_last, moves[2]);
}

UpdateResult ValueAlgorithm::Fetch() {
  const absl::Span<const float> output = pipeline_->Fetch();
  UpdateResult result;
  result.loss = output[kLoss];
  result.gradient_norm = output[kNorm];
  result.skipped = output[kFinite] == 0;
  if (result.skipped) {
    optimizer_->set_steps(optimizer_->steps() - 1);
    return result;
  }
  result.mean_q = output[kMeanQ];
  result.priorities.assign(output.begin() + kOutputs, output.end());
  return result;
}

UpdateResult ValueAlgorithm::UpdateTogetherOnDevice(const Batch& batch) {
  at::Tensor noise =
      at::empty({forward_passes(), network_->noise_size()}, at::kFloat);
  DrawNoise(noise);
  noise_input_ = noise.to(placement_.device);
  pass_ = 0;
  online_.ZeroGradient();
  const Loss loss = ComputeLoss(batch.To(placement_.device));
  loss.loss.backward();

  c10::NoGradGuard no_gradient;
  UpdateResult result;
  result.loss = loss.loss.item<float>();
  if (!Average(batch.max_weight(), /*has_batch=*/true, /*stop=*/false,
               result)) {
    return result;
  }
  ApplyOnDeviceNow(loss.loss, result);
  if (result.skipped) return result;
  result.mean_q = loss.values.amax(1).mean().item<float>();
  const at::Tensor priorities = loss.td.abs().to(at::kCPU).contiguous();
  const float* data = priorities.data_ptr<float>();
  result.priorities.assign(data, data + priorities.numel());
  return result;
}

void ValueAlgorithm::ApplyOnDeviceNow(const at::Tensor& loss,
                                      UpdateResult& result) {
  c10::NoGradGuard no_gradient;
  const Applied applied = ApplyOnDevice(
      loss, at::tensor(ScalarsOf(updates() + 1)).to(placement_.device));
  result.gradient_norm = applied.norm.item<float>();
  result.skipped = applied.finite.item<float>() == 0;
  if (!result.skipped) optimizer_->set_steps(updates() + 1);
}

}  // namespace qfleet
