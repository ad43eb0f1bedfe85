#include "replay_server/core/rate_limiter.h"

#include "absl/strings/str_cat.h"

namespace qfleet {

std::string RateLimiter::WhyNotInsert(const ReplayTotals& totals) const {
  if (CanInsert(totals)) return "";
  return absl::StrCat("samples: ", totals.sampled, " of ",
                      Difference(totals) + static_cast<double>(totals.sampled) -
                          Offset() - spec_.tolerance(),
                      " that ", totals.inserted, " inserts call for");
}

std::string RateLimiter::WhyNotSample(const ReplayTotals& totals) const {
  if (CanSample(totals)) return "";
  if (totals.size == 0 || totals.size < spec_.min_size()) {
    return absl::StrCat(kWaitForItems, totals.size,
                        " of min_size = ", spec_.min_size());
  }
  return absl::StrCat("inserts: ", totals.inserted, ", and ", totals.sampled,
                      " sampled, at ", spec_.samples_per_insert(),
                      " samples per insert");
}

}  // namespace qfleet
