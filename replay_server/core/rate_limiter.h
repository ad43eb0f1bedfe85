// Whether inserts and samples may go on: samples per insert, over the cluster.
// The rule, its units and its source in words stand beside v1.RateLimiter.
//
// A pure function of its parameters and of counts that the caller gives: own
// counts plus those of the other shards. Checked before a request; since the
// two bounds are apart, one of the two sides may always go on.

#ifndef QFLEET_REPLAY_SERVER_CORE_RATE_LIMITER_H_
#define QFLEET_REPLAY_SERVER_CORE_RATE_LIMITER_H_

#include <cstdint>
#include <string>

#include "qfleet/v1/replay.pb.h"

namespace qfleet {

// How the reason begins if items are what is waited for.
inline constexpr char kWaitForItems[] = "items: ";

// Of the whole cluster.
struct ReplayTotals {
  uint64_t inserted = 0;
  uint64_t sampled = 0;
  uint64_t size = 0;
};

// Thread-compatible.
class RateLimiter {
 public:
  explicit RateLimiter(const v1::RateLimiter& spec) : spec_(spec) {}

  bool CanInsert(const ReplayTotals& totals) const {
    if (spec_.samples_per_insert() == 0) return true;
    if (totals.size < spec_.min_size()) return true;
    return Difference(totals) <= Offset() + spec_.tolerance();
  }

  bool CanSample(const ReplayTotals& totals) const {
    if (totals.size == 0 || totals.size < spec_.min_size()) return false;
    if (spec_.samples_per_insert() == 0) return true;
    return Difference(totals) >= Offset() - spec_.tolerance();
  }

  // What must come first, in words; empty if it may.
  std::string WhyNotInsert(const ReplayTotals& totals) const;
  std::string WhyNotSample(const ReplayTotals& totals) const;

  const v1::RateLimiter& spec() const { return spec_; }

 private:
  double Difference(const ReplayTotals& totals) const {
    return static_cast<double>(totals.inserted) * spec_.samples_per_insert() -
           static_cast<double>(totals.sampled);
  }
  double Offset() const {
    return static_cast<double>(spec_.min_size()) * spec_.samples_per_insert();
  }

  v1::RateLimiter spec_;
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_RATE_LIMITER_H_
