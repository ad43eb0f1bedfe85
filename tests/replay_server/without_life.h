// What two lives of a table have in common.

#ifndef QFLEET_TESTS_REPLAY_SERVER_WITHOUT_LIFE_H_
#define QFLEET_TESTS_REPLAY_SERVER_WITHOUT_LIFE_H_

#include "qfleet/v1/replay.pb.h"

namespace qfleet {

inline v1::TableStats WithoutLife(v1::TableStats stats) {
  stats.clear_life();
  stats.clear_start_inserted();
  stats.clear_start_sampled();
  stats.clear_start_steps();
  stats.clear_start_episodes();
  return stats;
}

}  // namespace qfleet

#endif  // QFLEET_TESTS_REPLAY_SERVER_WITHOUT_LIFE_H_
