// What the tests of the MinAtar games look at: a cell by its number in
// [channels, 10, 10].

#ifndef QFLEET_TESTS_ENVS_MINATAR_CELLS_H_
#define QFLEET_TESTS_ENVS_MINATAR_CELLS_H_

#include <cstring>
#include <set>
#include <vector>

#include "absl/types/span.h"
#include "envs/minatar_games.h"
#include "gtest/gtest.h"

namespace qfleet::minatar {

// The numbers of an observation's cells that are 1; the rest must be 0.
inline std::set<int> Cells(absl::Span<const char> observation) {
  std::vector<float> values(observation.size() / sizeof(float));
  std::memcpy(values.data(), observation.data(), observation.size());
  std::set<int> cells;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] == 1) cells.insert(static_cast<int>(i));
    EXPECT_TRUE(values[i] == 0 || values[i] == 1) << values[i];
  }
  return cells;
}

template <typename Game>
std::set<int> Observe(const Game& game) {
  std::vector<char> row(Game::kChannels * kSize * kSize * sizeof(float));
  game.Observe(Planes(row.data()));
  return Cells(row);
}

// Those of one channel, the channel's first being 0.
inline std::set<int> Channel(const std::set<int>& cells, int channel) {
  std::set<int> result;
  for (int cell : cells) {
    if (cell / 100 == channel) result.insert(cell % 100);
  }
  return result;
}

// A Draw.
inline int Zero(int /*n*/) { return 0; }

}  // namespace qfleet::minatar

#endif  // QFLEET_TESTS_ENVS_MINATAR_CELLS_H_
