// The sides of a comparison in turn, round after round.

#ifndef QFLEET_BENCH_ALTERNATE_H_
#define QFLEET_BENCH_ALTERNATE_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "bench/load.h"
#include "bench/report.h"
#include "common/status_macros.h"

namespace qfleet::bench {

// Fills sides[i].rounds with measure(i), `rounds` times, after one that is not
// counted, nor what it adds to cost_rounds; every other round in reverse order.
template <typename Measure>
absl::Status Alternate(int rounds, std::vector<Side>& sides,
                       const Measure& measure) {
  for (int round = -1; round < rounds; ++round) {
    if (round == 0) {
      for (Side& side : sides) side.cost_rounds.clear();
    }
    for (size_t i = 0; i < sides.size(); ++i) {
      const size_t side = round % 2 == 0 ? i : sides.size() - 1 - i;
      QFLEET_ASSIGN_OR_RETURN(double value, measure(side));
      if (round >= 0) sides[side].rounds.push_back(value);
    }
  }
  return absl::OkStatus();
}

}  // namespace qfleet::bench

#endif  // QFLEET_BENCH_ALTERNATE_H_
