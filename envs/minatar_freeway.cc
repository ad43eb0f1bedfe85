#include <algorithm>

#include "envs/minatar_games.h"

namespace qfleet::minatar {

void Freeway::Reset(Draw draw) {
  *this = Freeway();
  row = kSize - 1;
  move_timer = kMovePeriod;
  steps_left = kMaxSteps;
  DrawSpeeds(draw);
}

StepResult Freeway::Step(int action, bool /*ramping*/, Draw draw) {
  StepResult result;
  if (move_timer == 0 && (action == kUp || action == kDown)) {
    move_timer = kMovePeriod;
    row = action == kUp ? std::max(row - 1, 0) : std::min(row + 1, kSize - 1);
  }
  if (row == 0) {
    result.reward = 1;
    row = kSize - 1;
    DrawSpeeds(draw);
  }
  for (int i = 0; i < kLanes; ++i) {
    Car& car = cars[i];
    const auto meets = [&] { return row == i + 1 && car.column == kColumn; };
    if (meets()) row = kSize - 1;
    if (car.timer > 0) {
      --car.timer;
      continue;
    }
    car.timer = car.pause;
    car.column = (car.column + car.right + kSize) % kSize;
    if (meets()) row = kSize - 1;
  }
  move_timer = std::max(move_timer - 1, 0);
  steps_left = std::max(steps_left - 1, 0);
  result.truncated = steps_left == 0;
  return result;
}

void Freeway::Observe(Planes planes) const {
  planes.Set(0, row, kColumn);
  for (int i = 0; i < kLanes; ++i) {
    const Car& car = cars[i];
    planes.Set(1, i + 1, car.column);
    planes.Set(1 + car.pause, i + 1, (car.column - car.right + kSize) % kSize);
  }
}

bool Freeway::IsValid() const {
  for (const Car& car : cars) {
    if (!IsWithin(car.column, 0, kSize - 1) || !IsWithin(car.right, -1, 1) ||
        !IsWithin(car.pause, 1, kSlowest) ||
        !IsWithin(car.timer, 0, kSlowest)) {
      return false;
    }
  }
  return IsWithin(row, 0, kSize - 1) && IsWithin(move_timer, 0, kMovePeriod) &&
         IsWithin(steps_left, 0, kMaxSteps);
}

void Freeway::DrawSpeeds(Draw draw) {
  for (Car& car : cars) car.pause = car.timer = 1 + draw(kSlowest);
  for (Car& car : cars) car.right = draw(2) == 0 ? -1 : 1;
}

}  // namespace qfleet::minatar
