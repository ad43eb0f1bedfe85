#include <algorithm>

#include "envs/minatar_games.h"

namespace qfleet::minatar {
namespace {

bool IsOnBoard(int column) { return IsWithin(column, 0, kSize - 1); }

// Whether two are in one cell.
template <typename A, typename B>
bool Meet(const A& a, const B& b) {
  return a.row == b.row && a.column == b.column;
}

// Removes the oldest in `at`'s cell, if there is one.
template <typename List, typename T>
bool RemoveAt(List* list, const T& at) {
  for (int i = 0; i < list->size; ++i) {
    if (!Meet(list->items[i], at)) continue;
    list->Remove(i);
    return true;
  }
  return false;
}

// Whether one that moves every `speed` + 1 steps has moved.
bool Move(Seaquest::Swimmer* swimmer, int speed) {
  if (swimmer->move_timer > 0) {
    --swimmer->move_timer;
    return false;
  }
  swimmer->move_timer = speed;
  swimmer->column += swimmer->right;
  return true;
}

Seaquest::Swimmer Enter(bool from_left, int row, int speed) {
  return {.row = row,
          .column = from_left ? 0 : kSize - 1,
          .right = from_left ? 1 : -1,
          .move_timer = speed};
}

}  // namespace

void Seaquest::Reset(Draw /*draw*/) {
  *this = Seaquest();
  column = 5;
  right = -1;
  oxygen = kMaxOxygen;
  spawn_speed = spawn_timer = kSpawnSpeed;
  diver_timer = kDiverSpawnSpeed;
  move_speed = kMoveSpeed;
}

StepResult Seaquest::Step(int action, bool ramping, Draw draw) {
  if (spawn_timer == 0) {
    SpawnEnemy(draw);
    spawn_timer = spawn_speed;
  }
  if (diver_timer == 0) {
    SpawnDiver(draw);
    diver_timer = kDiverSpawnSpeed;
  }
  const bool was_up = row == 0;
  Act(action);

  StepResult result;
  MoveBullets(&result);
  MoveDivers();
  MoveEnemies(&submarines, &result);
  MoveEnemyBullets(&result);
  MoveEnemies(&fish, &result);
  --spawn_timer;
  --diver_timer;
  shot_timer = std::max(shot_timer - 1, 0);
  Breathe(was_up, ramping, &result);
  return result;
}

void Seaquest::Observe(Planes planes) const {
  planes.Set(0, row, column);
  if (IsOnBoard(column - right)) planes.Set(1, row, column - right);
  for (const Bullet& bullet : bullets) planes.Set(2, bullet.row, bullet.column);
  for (const Bullet& bullet : enemy_bullets) {
    planes.Set(4, bullet.row, bullet.column);
  }
  const auto set = [&](int channel, const Swimmer& swimmer) {
    planes.Set(channel, swimmer.row, swimmer.column);
    const int behind = swimmer.column - swimmer.right;
    if (IsOnBoard(behind)) planes.Set(3, swimmer.row, behind);
  };
  for (const Swimmer& one : fish) set(5, one);
  for (const Swimmer& submarine : submarines) set(6, submarine);
  for (const Swimmer& diver : divers) set(9, diver);
  for (int i = 0; i < oxygen * kSize / kMaxOxygen; ++i) {
    planes.Set(7, kSize - 1, i);
  }
  for (int i = 0; i < divers_aboard; ++i) planes.Set(8, kSize - 1, 8 - i);
}

bool Seaquest::IsValid() const {
  const auto is_valid = [](const auto& list, auto is_item) {
    return IsWithin(list.size, 0, static_cast<int>(list.items.size())) &&
           std::all_of(list.begin(), list.end(), is_item);
  };
  const auto is_bullet = [](const Bullet& bullet) {
    return IsWithin(bullet.row, 0, kLowestRow) && IsOnBoard(bullet.column) &&
           (bullet.right == 1 || bullet.right == -1);
  };
  const auto is_swimmer = [](const Swimmer& swimmer) {
    return IsWithin(swimmer.row, 1, kLowestRow) && IsOnBoard(swimmer.column) &&
           (swimmer.right == 1 || swimmer.right == -1) &&
           IsWithin(swimmer.move_timer, 0, kMoveSpeed) &&
           IsWithin(swimmer.shot_timer, 0, kEnemyShotPeriod);
  };
  return IsWithin(row, 0, kLowestRow) && IsOnBoard(column) &&
         (right == 1 || right == -1) && IsWithin(oxygen, -1, kMaxOxygen) &&
         IsWithin(divers_aboard, kLeastDivers, kMaxDivers) &&
         IsWithin(shot_timer, 0, kShotPeriod) &&
         IsWithin(spawn_speed, 1, kSpawnSpeed) &&
         IsWithin(spawn_timer, 0, kSpawnSpeed) &&
         IsWithin(diver_timer, 0, kDiverSpawnSpeed) &&
         IsWithin(move_speed, kMinMoveSpeed, kMoveSpeed) &&
         IsWithin(ramps, 0, 2 * kSpawnSpeed) && is_valid(bullets, is_bullet) &&
         is_valid(enemy_bullets, is_bullet) && is_valid(divers, is_swimmer) &&
         is_valid(fish, is_swimmer) && is_valid(submarines, is_swimmer);
}

void Seaquest::SpawnEnemy(Draw draw) {
  const bool from_left = draw(2) == 0;
  const bool is_submarine = draw(3) == 0;
  Swimmer enemy = Enter(from_left, 1 + draw(kLowestRow), move_speed);
  // All enemies of a row go the same way.
  const auto is_against = [&](const Swimmer& other) {
    return other.row == enemy.row && other.right != enemy.right;
  };
  if (std::any_of(fish.begin(), fish.end(), is_against) ||
      std::any_of(submarines.begin(), submarines.end(), is_against)) {
    return;
  }
  if (is_submarine) enemy.shot_timer = kEnemyShotPeriod;
  (is_submarine ? submarines : fish).Add(enemy);
}

void Seaquest::SpawnDiver(Draw draw) {
  const bool from_left = draw(2) == 0;
  divers.Add(Enter(from_left, 1 + draw(kLowestRow), kDiverMoveSpeed));
}

void Seaquest::Act(int action) {
  if (action == kFire && shot_timer == 0) {
    bullets.Add({.row = row, .column = column, .right = right});
    shot_timer = kShotPeriod;
  }
  if (action == kLeft || action == kRight) {
    right = action == kRight ? 1 : -1;
    column = std::clamp(column + right, 0, kSize - 1);
  }
  if (action == kUp) row = std::max(row - 1, 0);
  if (action == kDown) row = std::min(row + 1, kLowestRow);
}

void Seaquest::MoveBullets(StepResult* result) {
  for (int i = bullets.size - 1; i >= 0; --i) {
    Bullet& bullet = bullets.items[i];
    bullet.column += bullet.right;
    if (!IsOnBoard(bullet.column)) {
      bullets.Remove(i);
    } else if (RemoveAt(&fish, bullet) || RemoveAt(&submarines, bullet)) {
      bullets.Remove(i);
      result->reward += 1;
    }
  }
}

void Seaquest::MoveDivers() {
  for (int i = divers.size - 1; i >= 0; --i) {
    Swimmer& diver = divers.items[i];
    const auto is_saved = [&] {
      return Meet(diver, *this) && divers_aboard < kMaxDivers;
    };
    bool leaves = is_saved();
    if (!leaves && Move(&diver, kDiverMoveSpeed)) leaves = is_saved();
    if (leaves) ++divers_aboard;
    if (leaves || !IsOnBoard(diver.column)) divers.Remove(i);
  }
}

void Seaquest::MoveEnemies(Enemies* enemies, StepResult* result) {
  for (int i = enemies->size - 1; i >= 0; --i) {
    Swimmer& enemy = enemies->items[i];
    bool is_gone = false;
    if (Meet(enemy, *this)) result->terminated = true;
    if (Move(&enemy, move_speed)) {
      if (!IsOnBoard(enemy.column)) {
        is_gone = true;
      } else if (Meet(enemy, *this)) {
        result->terminated = true;
      } else if (RemoveAt(&bullets, enemy)) {
        is_gone = true;
        result->reward += 1;
      }
    }
    // Also one that has just met a bullet shoots.
    if (enemies == &submarines && --enemy.shot_timer < 0) {
      enemy.shot_timer = kEnemyShotPeriod;
      enemy_bullets.Add(
          {.row = enemy.row, .column = enemy.column, .right = enemy.right});
    }
    if (is_gone) enemies->Remove(i);
  }
}

void Seaquest::MoveEnemyBullets(StepResult* result) {
  for (int i = enemy_bullets.size - 1; i >= 0; --i) {
    Bullet& bullet = enemy_bullets.items[i];
    if (Meet(bullet, *this)) result->terminated = true;
    bullet.column += bullet.right;
    if (Meet(bullet, *this)) result->terminated = true;
    if (!IsOnBoard(bullet.column)) enemy_bullets.Remove(i);
  }
}

void Seaquest::Breathe(bool was_up, bool ramping, StepResult* result) {
  if (oxygen <= 0) result->terminated = true;
  if (row > 0) {
    --oxygen;
    return;
  }
  if (was_up) return;
  if (divers_aboard == 0) {
    result->terminated = true;
    return;
  }
  if (divers_aboard == kMaxDivers) {
    result->reward += static_cast<float>(oxygen * kSize / kMaxOxygen);
    divers_aboard = 0;
  }
  // MinAtar takes one also of those who have just been brought home. Below 0 it
  // goes on, and the player may surface.
  divers_aboard = std::max(divers_aboard - 1, kLeastDivers);
  oxygen = kMaxOxygen;
  if (ramping) Ramp();
}

void Seaquest::Ramp() {
  if (spawn_speed == 1 && move_speed == kMinMoveSpeed) return;
  // Moves become faster every other time.
  if (move_speed > kMinMoveSpeed && ramps % 2 == 1) --move_speed;
  if (spawn_speed > 1) --spawn_speed;
  ++ramps;
}

}  // namespace qfleet::minatar
