// ChannelHopping-v0: transmit on one of C channels while a jammer occupies one
// of them in each step (anti-jamming by frequency hopping).
//
// The jammer SWEEP takes one channel after another, 0 .. C-1 and from the
// beginning again; RANDOM any of them, uniformly and independently each step.
//
// observation  float32[2 C]: 1 at the agent's channel, then 1 at the channel
//              that was jammed in the last step, else 0. At the start of an
//              episode both are random, uniformly: a step before it
// actions      0 .. C-1: the channel to transmit on in this step
// reward       1 if that channel is not jammed in this step, else 0; less
//              switching_cost if it is not the channel of the step before
// terminated   never
// truncated    after `steps` steps; the observation does not show them
// optimum      OptimalReturn(): by default (SWEEP, 8 channels, 100 steps, cost
//              0.1) 98.575: a sweep can be avoided always, with a change every
//              C - 1 steps. RANDOM: steps (C - 1) / C = 87.5, without changes

#ifndef QFLEET_ENVS_CHANNEL_HOPPING_H_
#define QFLEET_ENVS_CHANNEL_HOPPING_H_

#include <memory>
#include <string>

#include "absl/types/span.h"
#include "common/random.h"
#include "envs/environment.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

class ChannelHopping : public Environment {
 public:
  explicit ChannelHopping(const v1::ChannelHoppingConfig& config);

  const EnvironmentSpec& spec() const override { return spec_; }
  void Seed(uint64_t seed) override { random_ = Random(seed); }
  void Reset(absl::Span<char> observation) override;
  StepResult Step(int action, absl::Span<char> observation) override;
  std::unique_ptr<Environment> Clone() const override;
  absl::StatusOr<std::string> Save() const override;
  absl::Status Load(absl::string_view state) override;

  // The largest expected return of an episode, over its random start too, by
  // dynamic programming over the steps left and how far the agent's channel is
  // from the jammer's. Whoever reaches it may know the steps left.
  static double OptimalReturn(const v1::ChannelHoppingConfig& config);

 private:
  // What Save writes before the random sequence.
  struct State {
    int32_t channel = 0;  // The agent's.
    int32_t jammed = 0;   // In the last step.
    int32_t steps = 0;
  };

  void Observe(absl::Span<char> observation) const;

  const v1::ChannelHoppingConfig config_;
  const EnvironmentSpec spec_;
  Random random_{0};
  State state_;
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_CHANNEL_HOPPING_H_
