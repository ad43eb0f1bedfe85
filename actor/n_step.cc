#include "actor/n_step.h"

#include <algorithm>
#include <cmath>

#include "common/value_rescaling.h"

namespace qfleet {

void NStep::OnObservation(uint64_t index, float max_q,
                          std::vector<NStepItem>& items) {
  if (static_cast<int>(transitions_.size()) < n_) return;
  items.push_back(Make(index, /*terminated=*/false, max_q));
  transitions_.pop_front();
}

void NStep::OnAction(uint64_t index, int action, float q, float reward) {
  if (reward_clip_ > 0) {
    const auto clip = static_cast<float>(reward_clip_);
    reward = std::clamp(reward, -clip, clip);
  }
  transitions_.push_back({index, action, q, reward});
}

void NStep::OnTerminated(uint64_t index, std::vector<NStepItem>& items) {
  while (!transitions_.empty()) {
    items.push_back(Make(index, /*terminated=*/true, 0));
    transitions_.pop_front();
  }
}

void NStep::OnTruncated(uint64_t index, float max_q,
                        std::vector<NStepItem>& items) {
  while (!transitions_.empty()) {
    items.push_back(Make(index, /*terminated=*/false, max_q));
    transitions_.pop_front();
  }
}

void NStep::Save(v1::ActorState::Stream& stream) const {
  for (const Transition& transition : transitions_) {
    v1::ActorState::Transition& saved = *stream.add_transitions();
    saved.set_index(transition.index);
    saved.set_action(transition.action);
    saved.set_q(transition.q);
    saved.set_reward(transition.reward);
  }
}

void NStep::Load(const v1::ActorState::Stream& stream) {
  transitions_.clear();
  for (const v1::ActorState::Transition& saved : stream.transitions()) {
    transitions_.push_back(
        {saved.index(), saved.action(), saved.q(), saved.reward()});
  }
}

NStepItem NStep::Make(uint64_t last, bool terminated, float max_q) const {
  double sum = 0;
  double discount = 1;
  for (const Transition& transition : transitions_) {
    sum += discount * transition.reward;
    discount *= gamma_;
  }
  if (terminated) discount = 0;
  const Transition& first = transitions_.front();
  NStepItem item;
  item.first = first.index;
  item.last = last;
  item.action = first.action;
  item.return_ = static_cast<float>(sum);
  item.discount = static_cast<float>(discount);
  const double target = value_rescaling_
                            ? RescaleValue(sum + discount * UnscaleValue(max_q))
                            : sum + discount * max_q;
  item.priority = static_cast<float>(std::abs(target - first.q));
  return item;
}

}  // namespace qfleet
