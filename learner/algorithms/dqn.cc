#include "learner/algorithms/dqn.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/random.h"
#include "learner/losses.h"
#include "learner/schedule.h"

namespace qfleet {

Dqn::Dqn(const v1::Config& config, std::shared_ptr<const Network> network)
    : config_(config.algorithm()),
      optimizer_config_(config.optimizer()),
      network_(std::move(network)),
      online_(*network_, /*trainable=*/true),
      target_(*network_),
      optimizer_({.beta1 = optimizer_config_.adam().beta1(),
                  .beta2 = optimizer_config_.adam().beta2(),
                  .epsilon = optimizer_config_.adam().epsilon()},
                 network_->parameter_count()) {
  Random random(MixSeed(config.seed(), 0));
  online_.Initialize(*network_, random);
  target_.CopyFrom(online_);
}

UpdateResult Dqn::Update(const Batch& batch) {
  const at::Tensor actions = batch["action"].to(at::kLong);  // [B]
  at::Tensor target;                                         // [B]
  {
    c10::NoGradGuard no_gradient;
    at::Tensor q_next =
        network_->Forward(target_.views(), batch["next_observation"]);
    at::Tensor q_choose =
        config_.double_q()
            ? network_->Forward(online_.views(), batch["next_observation"])
            : q_next;  // [B, A]
    target =
        BootstrapTarget(batch["return"], batch["discount"], q_choose, q_next);
  }
  at::Tensor q =
      network_->Forward(online_.views(), batch["observation"]);  // [B, A]
  at::Tensor td = target - ValueOf(q, actions);                  // [B]
  at::Tensor loss = WeightedHuber(td, batch.weights(), config_.dqn().huber_delta());

  online_.ZeroGradient();
  loss.backward();
  UpdateResult result;
  result.gradient_norm = Norm(online_.gradient());
  const double limit = config_.max_gradient_norm();
  const double scale = limit > 0 && result.gradient_norm > limit
                           ? limit / result.gradient_norm
                           : 1;
  optimizer_.Step(online_.values(), online_.gradient(), scale,
                  optimizer_config_.learning_rate() *
                      Linear(1, optimizer_config_.final_learning_rate_share(),
                             optimizer_config_.decay_updates(), updates()));
  if (updates() % config_.target_period() == 0) target_.CopyFrom(online_);

  c10::NoGradGuard no_gradient;
  result.loss = loss.item<float>();
  result.mean_q = std::get<0>(q.max(1)).mean().item<float>();
  const at::Tensor priorities = td.abs().contiguous();
  const float* data = priorities.data_ptr<float>();
  result.priorities.assign(data, data + priorities.numel());
  return result;
}

std::string Dqn::Publish() const {
  absl::Span<const float> values = online_.values();
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(float));
}

std::vector<Dqn::Part> Dqn::Parts() {
  return {{"online", online_.values()},
          {"target", target_.values()},
          {"adam.first_moment", absl::MakeSpan(optimizer_.first_moment())},
          {"adam.second_moment", absl::MakeSpan(optimizer_.second_moment())}};
}

std::vector<v1::NamedTensor> Dqn::Save() {
  std::vector<v1::NamedTensor> tensors;
  for (const Part& part : Parts()) {
    v1::NamedTensor& tensor = tensors.emplace_back();
    tensor.mutable_spec()->set_name(part.name);
    tensor.mutable_spec()->set_dtype(v1::FLOAT32);
    tensor.mutable_spec()->add_shape(part.values.size());
    tensor.set_data(part.values.data(), part.values.size() * sizeof(float));
  }
  return tensors;
}

absl::Status Dqn::Load(int64_t updates,
                       const std::vector<v1::NamedTensor>& tensors) {
  const std::vector<Part> parts = Parts();
  std::vector<const std::string*> found;
  for (const Part& part : parts) {
    const std::string* data = nullptr;
    for (const v1::NamedTensor& tensor : tensors) {
      if (tensor.spec().name() == part.name) data = &tensor.data();
    }
    if (data == nullptr || data->size() != part.values.size() * sizeof(float)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "checkpoint tensor ", part.name, ": ",
          data == nullptr ? "missing" : absl::StrCat(data->size(), " bytes"),
          "; allowed is ", part.values.size() * sizeof(float), " bytes"));
    }
    found.push_back(data);
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    std::memcpy(parts[i].values.data(), found[i]->data(), found[i]->size());
  }
  optimizer_.set_steps(updates);
  return absl::OkStatus();
}

}  // namespace qfleet
