#include <algorithm>

#include "envs/minatar_games.h"

namespace qfleet::minatar {
namespace {

// How many are in a column.
int CountColumn(const SpaceInvaders::Board& board, int column) {
  int count = 0;
  for (const auto& row : board) count += row[column];
  return count;
}

int Count(const SpaceInvaders::Board& board) {
  int count = 0;
  for (int column = 0; column < kSize; ++column) {
    count += CountColumn(board, column);
  }
  return count;
}

}  // namespace

void SpaceInvaders::Reset(Draw /*draw*/) {
  *this = SpaceInvaders();
  cannon = 5;
  right = -1;
  alien_shot_timer = kAlienShotPeriod;
  move_period = move_timer = kMovePeriod;
  PlaceAliens();
}

StepResult SpaceInvaders::Step(int action, bool ramping, Draw /*draw*/) {
  if (action == kFire && shot_timer == 0) {
    bullets[kSize - 1][cannon] = 1;
    shot_timer = kShotPeriod;
  }
  if (action == kLeft) cannon = std::max(cannon - 1, 0);
  if (action == kRight) cannon = std::min(cannon + 1, kSize - 1);

  StepResult result;
  std::move(bullets.begin() + 1, bullets.end(), bullets.begin());
  bullets.back() = {};
  std::move_backward(alien_bullets.begin(), alien_bullets.end() - 1,
                     alien_bullets.end());
  alien_bullets.front() = {};
  if (alien_bullets.back()[cannon] == 1) result.terminated = true;

  if (aliens.back()[cannon] == 1) result.terminated = true;
  if (move_timer == 0) MoveAliens(&result);
  if (alien_shot_timer == 0) {
    alien_shot_timer = kAlienShotPeriod;
    Shoot();
  }
  for (int i = 0; i < kSize; ++i) {
    for (int j = 0; j < kSize; ++j) {
      if (aliens[i][j] == 0 || bullets[i][j] == 0) continue;
      aliens[i][j] = bullets[i][j] = 0;
      result.reward += 1;
    }
  }
  shot_timer = std::max(shot_timer - 1, 0);
  --move_timer;
  --alien_shot_timer;
  if (Count(aliens) == 0) {
    if (ramping) move_period = std::max(move_period - 1, kMinMovePeriod);
    PlaceAliens();
  }
  return result;
}

void SpaceInvaders::Observe(Planes planes) const {
  planes.Set(0, kSize - 1, cannon);
  for (int i = 0; i < kSize; ++i) {
    for (int j = 0; j < kSize; ++j) {
      planes.Set(1, i, j, aliens[i][j] == 1);
      planes.Set(right == 1 ? 3 : 2, i, j, aliens[i][j] == 1);
      planes.Set(4, i, j, bullets[i][j] == 1);
      planes.Set(5, i, j, alien_bullets[i][j] == 1);
    }
  }
}

bool SpaceInvaders::IsValid() const {
  for (const Board* board : {&aliens, &bullets, &alien_bullets}) {
    for (const auto& row : *board) {
      for (int32_t cell : row) {
        if (!IsWithin(cell, 0, 1)) return false;
      }
    }
  }
  return IsWithin(cannon, 0, kSize - 1) && (right == 1 || right == -1) &&
         IsWithin(shot_timer, 0, kShotPeriod) &&
         IsWithin(alien_shot_timer, 0, kAlienShotPeriod) &&
         IsWithin(move_period, kMinMovePeriod, kMovePeriod) &&
         IsWithin(move_timer, 0, kMovePeriod);
}

void SpaceInvaders::PlaceAliens() {
  for (int i = 0; i < kAlienRows; ++i) {
    for (int j = kFirstAlienColumn; j <= kLastAlienColumn; ++j) {
      aliens[i][j] = 1;
    }
  }
}

void SpaceInvaders::MoveAliens(StepResult* result) {
  // The fewer, the faster.
  move_timer = std::min(Count(aliens), static_cast<int>(move_period));
  if (CountColumn(aliens, right == 1 ? kSize - 1 : 0) > 0) {
    right = -right;
    const auto& last = aliens.back();
    if (std::count(last.begin(), last.end(), 1) > 0) result->terminated = true;
    std::rotate(aliens.begin(), aliens.end() - 1, aliens.end());
  } else {
    for (auto& row : aliens) {
      if (right == 1) {
        std::rotate(row.begin(), row.end() - 1, row.end());
      } else {
        std::rotate(row.begin(), row.begin() + 1, row.end());
      }
    }
  }
  if (aliens.back()[cannon] == 1) result->terminated = true;
}

void SpaceInvaders::Shoot() {
  // The lowest alien of the nearest column, of two the left one.
  for (int distance = 0; distance < kSize; ++distance) {
    for (int column : {cannon - distance, cannon + distance}) {
      if (!IsWithin(column, 0, kSize - 1)) continue;
      for (int i = kSize - 1; i >= 0; --i) {
        if (aliens[i][column] == 0) continue;
        alien_bullets[i][column] = 1;
        return;
      }
    }
  }
}

}  // namespace qfleet::minatar
