#include <algorithm>

#include "envs/minatar_games.h"

namespace qfleet::minatar {

void Asterix::Reset(Draw /*draw*/) {
  *this = Asterix();
  row = column = 5;
  spawn_speed = spawn_timer = kSpawnSpeed;
  move_speed = move_timer = kMoveSpeed;
  ramp_timer = kRampPeriod;
}

StepResult Asterix::Step(int action, bool ramping, Draw draw) {
  if (spawn_timer == 0) {
    Spawn(draw);
    spawn_timer = spawn_speed;
  }
  if (action == kLeft) column = std::max(column - 1, 0);
  if (action == kRight) column = std::min(column + 1, kSize - 1);
  if (action == kUp) row = std::max(row - 1, 1);
  if (action == kDown) row = std::min(row + 1, kLanes);

  StepResult result;
  for (int i = 0; i < kLanes; ++i) Meet(i, &result);
  if (move_timer == 0) {
    move_timer = move_speed;
    for (int i = 0; i < kLanes; ++i) {
      Mover& mover = lanes[i];
      if (mover.is_there == 0) continue;
      mover.column += mover.right;
      if (!IsWithin(mover.column, 0, kSize - 1)) mover = Mover();
      Meet(i, &result);
    }
  }
  --spawn_timer;
  --move_timer;
  if (ramping) Ramp();
  return result;
}

void Asterix::Observe(Planes planes) const {
  planes.Set(0, row, column);
  for (int i = 0; i < kLanes; ++i) {
    const Mover& mover = lanes[i];
    if (mover.is_there == 0) continue;
    planes.Set(mover.is_gold == 1 ? 3 : 1, i + 1, mover.column);
    const int behind = mover.column - mover.right;
    if (IsWithin(behind, 0, kSize - 1)) planes.Set(2, i + 1, behind);
  }
}

bool Asterix::IsValid() const {
  for (const Mover& mover : lanes) {
    if (!IsWithin(mover.is_there, 0, 1) || !IsWithin(mover.is_gold, 0, 1) ||
        !IsWithin(mover.column, 0, kSize - 1) ||
        !IsWithin(mover.right, -1, 1)) {
      return false;
    }
  }
  return IsWithin(row, 1, kLanes) && IsWithin(column, 0, kSize - 1) &&
         IsWithin(spawn_speed, 1, kSpawnSpeed) &&
         IsWithin(spawn_timer, 0, kSpawnSpeed) &&
         IsWithin(move_speed, 1, kMoveSpeed) &&
         IsWithin(move_timer, 0, kMoveSpeed) &&
         IsWithin(ramp_timer, -1, kRampPeriod) &&
         IsWithin(ramps, 0, 2 * (kSpawnSpeed + kMoveSpeed));
}

void Asterix::Spawn(Draw draw) {
  const bool from_left = draw(2) == 0;
  const bool is_gold = draw(3) == 0;
  const int free = static_cast<int>(
      std::count_if(lanes.begin(), lanes.end(),
                    [](const Mover& mover) { return mover.is_there == 0; }));
  if (free == 0) return;
  int skip = draw(free);
  for (Mover& mover : lanes) {
    if (mover.is_there == 1 || skip-- > 0) continue;
    mover = {.is_there = 1,
             .column = from_left ? 0 : kSize - 1,
             .right = from_left ? 1 : -1,
             .is_gold = is_gold ? 1 : 0};
    return;
  }
}

void Asterix::Meet(int i, StepResult* result) {
  Mover& mover = lanes[i];
  if (mover.is_there == 0 || row != i + 1 || column != mover.column) return;
  if (mover.is_gold == 1) {
    mover = Mover();
    result->reward += 1;
  } else {
    result->terminated = true;
  }
}

void Asterix::Ramp() {
  if (spawn_speed == 1 && move_speed == 1) return;
  if (ramp_timer >= 0) {
    --ramp_timer;
    return;
  }
  // Moves become faster every other time.
  if (move_speed > 1 && ramps % 2 == 1) --move_speed;
  if (spawn_speed > 1) --spawn_speed;
  ++ramps;
  ramp_timer = kRampPeriod;
}

}  // namespace qfleet::minatar
