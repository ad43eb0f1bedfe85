#include "learner/algorithms/value_algorithm.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/random.h"
#include "learner/losses.h"

namespace qfleet {
namespace {

constexpr char kNoise[] = "noise.generator";

v1::NamedTensor MakeTensor(const std::string& name, v1::DType dtype,
                           int64_t size, absl::string_view data) {
  v1::NamedTensor tensor;
  tensor.mutable_spec()->set_name(name);
  tensor.mutable_spec()->set_dtype(dtype);
  tensor.mutable_spec()->add_shape(size);
  tensor.set_data(data.data(), data.size());
  return tensor;
}

// Of a flat vector on the CPU.
absl::string_view Bytes(const at::Tensor& values) {
  return absl::string_view(static_cast<const char*>(values.data_ptr()),
                           values.nbytes());
}

const std::string* FindData(const std::vector<v1::NamedTensor>& tensors,
                            absl::string_view name) {
  for (const v1::NamedTensor& tensor : tensors) {
    if (tensor.spec().name() == name) return &tensor.data();
  }
  return nullptr;
}

}  // namespace

ValueAlgorithm::ValueAlgorithm(const v1::Config& config,
                               std::shared_ptr<const Network> network,
                               Collective* collective,
                               const Placement& placement)
    : placement_(placement),
      config_(config.algorithm()),
      optimizer_config_(config.optimizer()),
      network_(placement.device.is_cpu() ? std::move(network)
                                         : network->On(placement.device)),
      online_(*network_, /*trainable=*/true, placement.device),
      target_(*network_, /*trainable=*/false, placement.device),
      optimizer_(MakeOptimizer(config.optimizer(), network_->parameter_count(),
                               placement.device)),
      noise_(*network_, MixSeed(config.seed(), 4)),
      collective_(collective) {
  if (!placement.device.is_cpu() && !placement.staged) {
    throw std::invalid_argument("a device's update is staged");
  }
  Random random(MixSeed(config.seed(), 0));
  online_.Initialize(*network_, random);
  target_.CopyFrom(online_);
}

UpdateResult ValueAlgorithm::Update(const Batch& batch) {
  if (staged()) {
    return collective_ == nullptr ? UpdateOnDevice(batch)
                                  : UpdateTogetherOnDevice(batch);
  }
  passes_.clear();
  const Loss loss = ComputeLoss(batch);
  Backward(loss.loss);

  c10::NoGradGuard no_gradient;
  UpdateResult result;
  result.loss = loss.loss.item<float>();
  if (collective_ != nullptr && !Average(batch.max_weight(), /*has_batch=*/true,
                                         /*stop=*/false, result)) {
    return result;
  }
  Apply(result);
  if (result.skipped) return result;
  result.mean_q = loss.values.amax(1).mean().item<float>();
  const at::Tensor priorities = loss.td.abs().contiguous();
  const float* data = priorities.data_ptr<float>();
  result.priorities.assign(data, data + priorities.numel());
  return result;
}

UpdateResult ValueAlgorithm::TakePart(bool stop) {
  UpdateResult result;
  result.pending = collective_ == nullptr;
  if (result.pending) return result;
  online_.ZeroGradient();
  if (!Average(/*max_weight=*/0, /*has_batch=*/false, stop, result)) {
    result.pending = !result.stopped;  // Nobody had a batch.
    return result;
  }
  if (staged()) {
    ApplyOnDeviceNow(/*loss=*/{}, result);
  } else {
    Apply(result);
  }
  return result;
}

void ValueAlgorithm::Apply(UpdateResult& result) {
  result.gradient_norm = Norm(online_.gradient());
  result.skipped =
      !std::isfinite(result.loss) || !std::isfinite(result.gradient_norm);
  if (result.skipped) return;
  const double limit = config_.max_gradient_norm();
  const double scale = limit > 0 && result.gradient_norm > limit
                           ? limit / result.gradient_norm
                           : 1;
  optimizer_->Step(online_.values(), online_.gradient(), scale,
                   LearningRate(optimizer_config_, updates()));
  Move(MovesAfter(updates()));
}

bool ValueAlgorithm::Average(double max_weight, bool has_batch, bool stop,
                             UpdateResult& result) {
  c10::NoGradGuard no_gradient;
  const at::Tensor& gradient = online_.gradient_tensor();
  const int64_t n = gradient.numel(), ranks = collective_->size();
  // [gradient, each rank's largest weight, batches, stops].
  if (!shared_.defined()) {
    shared_ = at::empty({n + ranks + 2}, gradient.options());
  }
  // A loss that is not finite must stop all, whatever its gradient.
  const float weight = static_cast<float>(
      std::isfinite(result.loss) ? max_weight : result.loss * 0);
  std::vector<float> tail(ranks + 2);
  tail[collective_->rank()] = weight;
  tail[ranks] = has_batch ? 1 : 0;
  tail[ranks + 1] = stop ? 1 : 0;
  const at::Tensor shared_tail = shared_.narrow(0, n, ranks + 2);
  at::Tensor shared_gradient = shared_.narrow(0, 0, n);
  at::mul_out(shared_gradient, gradient, at::scalar_tensor(weight));
  shared_tail.copy_(at::tensor(tail));
  if (absl::Status status = collective_->Sum(shared_); !status.ok()) {
    throw std::runtime_error(std::string(status.message()));
  }
  const at::Tensor host = shared_tail.to(at::kCPU);
  const float* sums = host.data_ptr<float>();
  result.stopped = sums[ranks + 1] > 0;
  if (result.stopped || sums[ranks] == 0) return false;
  float largest = std::accumulate(sums, sums + ranks, 0.0f);
  if (std::isfinite(largest)) largest = *std::max_element(sums, sums + ranks);
  const float scale = 1 / (largest * sums[ranks]);
  at::Tensor average = gradient;
  at::mul_out(average, shared_gradient, at::scalar_tensor(scale));
  return true;
}

ValueAlgorithm::Moves ValueAlgorithm::MovesAfter(int64_t updates) const {
  if (updates % config_.target_period() != 0) return {};
  return {.follow = config_.target_tau()};
}

at::Tensor ValueAlgorithm::Forward(const FlatParameters& parameters,
                                   const at::Tensor& observation, int copy) {
  const Bf16Scope bf16(placement_.device, placement_.bf16);
  at::Tensor output =
      network_->Forward(parameters.views(), observation, NextNoise(), copy);
  return placement_.bf16 ? output.to(at::kFloat) : output;
}

at::Tensor ValueAlgorithm::Target(const Batch& batch, int copy) {
  c10::NoGradGuard no_gradient;
  return Forward(target_, batch["next_observation"], copy);
}

ValueAlgorithm::OnlineOutputs ValueAlgorithm::Online(const Batch& batch,
                                                     int copy) {
  if (!staged()) return TracedOnline(batch, copy);
  OnlineOutputs outputs;
  if (config_.double_q()) {
    c10::NoGradGuard no_gradient;
    outputs.next = Forward(online_, batch["next_observation"], copy);
  }
  outputs.now = Forward(online_, batch["observation"], copy);
  return outputs;
}

// Without noise both observations are one batch: one pass over twice as many
// rows takes less time than two.
ValueAlgorithm::OnlineOutputs ValueAlgorithm::TracedOnline(const Batch& batch,
                                                           int copy) {
  c10::NoGradGuard no_gradient;
  OnlineOutputs outputs;
  Pass pass;
  const auto forward = [&](const at::Tensor& observation,
                           Network::Trace* trace) {
    return network_->Forward(online_.views(), observation, NextNoise(), copy,
                             trace);
  };
  if (config_.double_q() && network_->noise_size() == 0) {
    const at::Tensor both = forward(
        at::cat({batch["observation"], batch["next_observation"]}), &pass.trace);
    outputs.now = both.narrow(0, 0, batch.rows());
    outputs.next = both.narrow(0, batch.rows(), batch.rows());
  } else {
    if (config_.double_q()) {
      outputs.next = forward(batch["next_observation"], nullptr);
    }
    outputs.now = forward(batch["observation"], &pass.trace);
  }
  outputs.now = outputs.now.detach().requires_grad_();
  pass.output = outputs.now;
  passes_.push_back(std::move(pass));
  return outputs;
}

void ValueAlgorithm::Backward(const at::Tensor& loss) {
  loss.backward();
  c10::NoGradGuard no_gradient;
  for (const Pass& pass : passes_) {
    network_->Backward(online_.views(), pass.trace, pass.output.grad(),
                       online_.gradient_views());
  }
}

at::Tensor ValueAlgorithm::ChooseNext(const Batch& batch,
                                      const at::Tensor& target_output,
                                      const OnlineOutputs& online) const {
  return Greedy(network_->Values(config_.double_q() ? online.next
                                                    : target_output),
                batch.Find("next_action_mask"));
}

at::Tensor ValueAlgorithm::ValueTarget(const Batch& batch,
                                       const at::Tensor& next) const {
  // [B], or [B, N]: of each quantile.
  at::Tensor return_ = batch["return"], discount = batch["discount"];
  if (next.dim() == 2) {
    return_ = return_.unsqueeze(1);
    discount = discount.unsqueeze(1);
  }
  if (!config_.value_rescaling()) {
    return BootstrapTarget(return_, discount, next);
  }
  return Rescale(BootstrapTarget(return_, discount, InverseRescale(next)));
}

void ValueAlgorithm::Move(const Moves& moves) {
  const int copies = network_->copies();
  if (moves.follow > 0) {
    for (int k = 0; k < copies; ++k) MoveTarget(k, k, moves.follow);
  }
  if (moves.shift > 0) {
    for (int k = 0; k + 1 < copies; ++k) CopyOnline(k, k + 1);
  }
  if (moves.chain > 0) {
    for (int k = 1; k < copies; ++k) MoveTarget(k, k - 1, 1);
  }
}

void ValueAlgorithm::MoveTarget(int target, int online, double tau) {
  const int64_t size = network_->copy_size();
  absl::Span<float> to = target_.values().subspan(target * size, size);
  absl::Span<const float> from = online_.values().subspan(online * size, size);
  if (tau == 1) {
    std::memcpy(to.data(), from.data(), size * sizeof(float));
    return;
  }
  const float share = static_cast<float>(tau);
  for (int64_t i = 0; i < size; ++i) to[i] += share * (from[i] - to[i]);
}

void ValueAlgorithm::CopyOnline(int to, int from) {
  const int64_t size = network_->copy_size();
  absl::Span<float> values = online_.values();
  std::memcpy(&values[to * size], &values[from * size], size * sizeof(float));
}

std::string ValueAlgorithm::Publish() const {
  if (pipeline_ != nullptr) pipeline_->Wait();
  return std::string(Bytes(online_.tensor().to(at::kCPU)));
}

std::vector<Optimizer::Part> ValueAlgorithm::Parts() {
  std::vector<Optimizer::Part> parts = {{"online", online_.tensor()},
                                        {"target", target_.tensor()}};
  for (const Optimizer::Part& part : optimizer_->State()) {
    parts.push_back(part);
  }
  return parts;
}

std::vector<v1::NamedTensor> ValueAlgorithm::Save() {
  Settle();
  std::vector<v1::NamedTensor> tensors;
  for (const Optimizer::Part& part : Parts()) {
    const at::Tensor host = part.values.to(at::kCPU);
    tensors.push_back(
        MakeTensor(part.name, v1::FLOAT32, host.numel(), Bytes(host)));
  }
  if (network_->noise_size() > 0) {
    const std::string state = noise_.random().Save();
    tensors.push_back(MakeTensor(kNoise, v1::UINT8, state.size(), state));
  }
  return tensors;
}

absl::Status ValueAlgorithm::Load(int64_t updates,
                                  const std::vector<v1::NamedTensor>& tensors) {
  Settle();
  const std::vector<Optimizer::Part> parts = Parts();
  std::vector<const std::string*> found;
  for (const Optimizer::Part& part : parts) {
    const std::string* data = FindData(tensors, part.name);
    if (data == nullptr || data->size() != part.values.nbytes()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "checkpoint tensor ", part.name, ": ",
          data == nullptr ? "missing" : absl::StrCat(data->size(), " bytes"),
          "; allowed is ", part.values.nbytes(), " bytes"));
    }
    found.push_back(data);
  }
  if (network_->noise_size() > 0) {
    const std::string* state = FindData(tensors, kNoise);
    if (state == nullptr || !noise_.random().Load(*state)) {
      return absl::FailedPreconditionError(
          absl::StrCat("checkpoint tensor ", kNoise, ": ",
                       state == nullptr ? "missing" : "not a state",
                       "; allowed is a random generator's state"));
    }
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].values.copy_(at::from_blob(const_cast<char*>(found[i]->data()),
                                        parts[i].values.sizes(), at::kFloat));
  }
  optimizer_->set_steps(updates);
  return absl::OkStatus();
}

}  // namespace qfleet
