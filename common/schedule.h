// A number that changes linearly over updates, then stays.

#ifndef QFLEET_COMMON_SCHEDULE_H_
#define QFLEET_COMMON_SCHEDULE_H_

#include <algorithm>
#include <cstdint>

namespace qfleet {

// `begin` at update 0, `end` from update `over` on; `over` = 0: always begin.
inline double Linear(double begin, double end, int64_t over, int64_t at) {
  if (over <= 0) return begin;
  const double share =
      std::min(1.0, static_cast<double>(at) / static_cast<double>(over));
  return begin + share * (end - begin);
}

}  // namespace qfleet

#endif  // QFLEET_COMMON_SCHEDULE_H_
