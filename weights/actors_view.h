// The actors as whoever sends them weights knows them.

#ifndef QFLEET_WEIGHTS_ACTORS_VIEW_H_
#define QFLEET_WEIGHTS_ACTORS_VIEW_H_

#include <cstdint>

namespace qfleet {

struct ActorsView {
  uint32_t connected = 0;  // Those behind relays as well.
  // Totals over all, ever.
  uint64_t env_steps = 0;
  uint64_t episodes = 0;
  double return_sum = 0;
  // Of those that are connected; 0: none acts yet. One that has weights but has
  // not said anything counts from then on, without a version.
  uint64_t oldest_policy_version = 0;
  double oldest_policy_seconds = 0;
};

}  // namespace qfleet

#endif  // QFLEET_WEIGHTS_ACTORS_VIEW_H_
