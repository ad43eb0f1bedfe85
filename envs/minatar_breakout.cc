#include <algorithm>

#include "envs/minatar_games.h"

namespace qfleet::minatar {

void Breakout::Reset(Draw draw) {
  *this = Breakout();
  const bool from_right = draw(2) == 1;
  paddle = 4;
  row = last_row = 3;
  column = last_column = from_right ? kSize - 1 : 0;
  down = 1;
  right = from_right ? -1 : 1;
  for (auto& brick_row : bricks) brick_row.fill(1);
}

StepResult Breakout::Step(int action, bool /*ramping*/, Draw /*draw*/) {
  if (action == kLeft) paddle = std::max(paddle - 1, 0);
  if (action == kRight) paddle = std::min(paddle + 1, kSize - 1);

  StepResult result;
  last_row = row;
  last_column = column;
  bool hits = false;
  column += right;
  if (!IsWithin(column, 0, kSize - 1)) {
    column = last_column;
    right = -right;
  }
  row = std::min(row + down, kSize - 1);
  if (row < 0) {
    row = 0;
    down = -down;
  } else if (int32_t* brick = BrickAt(row, column);
             brick != nullptr && *brick == 1) {
    hits = true;
    // In a run of hits only the first breaks a brick and turns the ball.
    if (is_hitting == 0) {
      result.reward = 1;
      *brick = 0;
      row = last_row;
      down = -down;
    }
  } else if (row == kSize - 1) {
    const bool none_left =
        std::all_of(bricks.begin(), bricks.end(), [](const auto& brick_row) {
          return std::count(brick_row.begin(), brick_row.end(), 1) == 0;
        });
    if (none_left) {
      for (auto& brick_row : bricks) brick_row.fill(1);
    }
    if (last_column == paddle) {
      row = last_row;
      down = -down;
    } else if (column == paddle) {
      row = last_row;
      down = -down;
      right = -right;
    } else {
      result.terminated = true;
    }
  }
  is_hitting = hits ? 1 : 0;
  return result;
}

void Breakout::Observe(Planes planes) const {
  planes.Set(0, kSize - 1, paddle);
  planes.Set(1, row, column);
  planes.Set(2, last_row, last_column);
  for (int i = 0; i < kBrickRows; ++i) {
    for (int j = 0; j < kSize; ++j) {
      planes.Set(3, kFirstBrickRow + i, j, bricks[i][j] == 1);
    }
  }
}

bool Breakout::IsValid() const {
  for (int cell : {paddle, row, column, last_row, last_column}) {
    if (!IsWithin(cell, 0, kSize - 1)) return false;
  }
  for (const auto& brick_row : bricks) {
    for (int32_t brick : brick_row) {
      if (!IsWithin(brick, 0, 1)) return false;
    }
  }
  return (down == 1 || down == -1) && (right == 1 || right == -1) &&
         IsWithin(is_hitting, 0, 1);
}

int32_t* Breakout::BrickAt(int at_row, int at_column) {
  const int i = at_row - kFirstBrickRow;
  return IsWithin(i, 0, kBrickRows - 1) ? &bricks[i][at_column] : nullptr;
}

}  // namespace qfleet::minatar
