// OptimalExecution-v0: sell q0 shares within N periods where each sale moves
// the price (Almgren and Chriss 2000, risk neutral, deterministic).
//
// Selling v_t shares in period t (0 .. N-1) costs
//
//   kappa_t v_t^2 + a v_t (v_0 + ... + v_{t-1})
//
// more than the first price: the temporary impact kappa_t of this sale alone,
// linearly from first_impact to last_impact over the periods, and the permanent
// impact a of all that was sold before.
//
// observation  float32[2]: t / N, shares left / q0. What was sold before is q0
//              less what is left, so that nothing else matters
// actions      0 .. q0: the shares to sell in this period. Illegal: more than
//              are left, and in the last period anything but all of them (taken
//              all the same, what is left is sold)
// reward       the cost of the period, negative; an episode's return is
//              -(sum_t kappa_t v_t^2 + a sum_{s<t} v_s v_t)
// terminated   after N periods, when all is sold
// truncated    never
// optimum      Optimum(): -2.734 for N = 10, q0 = 20, kappa from 0.1 to 0.019
//              and a = 0.005, where equal slices give -3.280. In parts of
//              shares it would be -2.699 there, which is
//              -(a q0^2 / 2 + q0^2 / sum_t 1 / (kappa_t - a / 2)), with v_t
//              proportional to 1 / (kappa_t - a / 2)

#ifndef QFLEET_ENVS_OPTIMAL_EXECUTION_H_
#define QFLEET_ENVS_OPTIMAL_EXECUTION_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "envs/environment.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

class OptimalExecution : public Environment {
 public:
  explicit OptimalExecution(const v1::OptimalExecutionConfig& config);

  const EnvironmentSpec& spec() const override { return spec_; }
  void Seed(uint64_t /*seed*/) override {}  // Nothing is random.
  void Reset(absl::Span<char> observation) override;
  StepResult Step(int action, absl::Span<char> observation) override;
  void ActionMask(absl::Span<uint8_t> mask) const override;
  std::unique_ptr<Environment> Clone() const override;
  absl::StatusOr<std::string> Save() const override;
  absl::Status Load(absl::string_view state) override;

  struct Schedule {
    std::vector<int> shares;  // [N]
    double cost = 0;
  };

  // The schedule of least cost in whole shares, by dynamic programming over
  // periods and shares left: N q0^2 / 2 operations.
  static Schedule Optimum(const v1::OptimalExecutionConfig& config);

  // kappa_t.
  static double Impact(const v1::OptimalExecutionConfig& config, int period);

 private:
  struct State {
    int32_t period = 0;  // Of the next sale.
    int32_t left = 0;    // Shares.
  };

  // Of selling `shares` in `period` if `left` are left.
  static double Cost(const v1::OptimalExecutionConfig& config, int period,
                     int left, int shares);

  void Observe(absl::Span<char> observation) const;

  const v1::OptimalExecutionConfig config_;
  const EnvironmentSpec spec_;
  State state_;
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_OPTIMAL_EXECUTION_H_
