// The rules of the MinAtar games, without what they have in common:
// envs/minatar.h describes them and makes environments of them.
//
// A game is a plain struct of int32s that can be copied as bytes. Whatever is
// random comes from outside as a Draw, so that a test can play any game:
//
//   Breakout game;
//   game.Reset([](int n) { return n - 1; });
//
// The members of a game:
//   Reset    begins an episode.
//   Step     takes an action; not after the end of an episode.
//   Observe  sets the cells of planes that are all 0.
//   IsValid  whether Step and Observe can go on from this state, which may be
//            any bytes, without leaving the board. A state that can be reached
//            is valid.

#ifndef QFLEET_ENVS_MINATAR_GAMES_H_
#define QFLEET_ENVS_MINATAR_GAMES_H_

#include <array>
#include <cstdint>
#include <cstring>

#include "absl/functional/function_ref.h"
#include "envs/environment.h"

namespace qfleet::minatar {

enum Action { kNothing, kLeft, kUp, kRight, kDown, kFire };
constexpr int kActions = 6;
constexpr int kSize = 10;  // Rows, columns.

// A uniform integer in [0, n).
using Draw = absl::FunctionRef<int(int n)>;

// Writes cells of an observation [channels, 10, 10], which is at no particular
// alignment.
class Planes {
 public:
  explicit Planes(char* data) : data_(data) {}

  void Set(int channel, int row, int column, bool is_there = true) {
    const float value = is_there ? 1.0F : 0.0F;
    const int cell = (channel * kSize + row) * kSize + column;
    std::memcpy(data_ + cell * sizeof(value), &value, sizeof(value));
  }

 private:
  char* data_;
};

constexpr bool IsWithin(int value, int low, int high) {
  return value >= low && value <= high;
}

struct Breakout {
  static constexpr const char* kId = "MinAtar/Breakout-v0";
  static constexpr int kChannels = 4;
  static constexpr int kFirstBrickRow = 1;
  static constexpr int kBrickRows = 3;

  void Reset(Draw draw);
  StepResult Step(int action, bool ramping, Draw draw);
  void Observe(Planes planes) const;
  bool IsValid() const;

  int32_t paddle = 0;  // Its column.
  int32_t row = 0;     // The ball's.
  int32_t column = 0;
  int32_t down = 0;  // 1, or -1: the ball rises.
  int32_t right = 0;
  int32_t last_row = 0;
  int32_t last_column = 0;
  int32_t is_hitting = 0;  // The last step hit a brick.
  // 1: there is a brick.
  std::array<std::array<int32_t, kSize>, kBrickRows> bricks = {};

 private:
  int32_t* BrickAt(int at_row, int at_column);
};

struct Asterix {
  static constexpr const char* kId = "MinAtar/Asterix-v0";
  static constexpr int kChannels = 4;
  static constexpr int kLanes = 8;  // Lane i is row i + 1.
  static constexpr int kSpawnSpeed = 10;
  static constexpr int kMoveSpeed = 5;
  static constexpr int kRampPeriod = 100;

  void Reset(Draw draw);
  StepResult Step(int action, bool ramping, Draw draw);
  void Observe(Planes planes) const;
  bool IsValid() const;

  struct Mover {
    int32_t is_there = 0;
    int32_t column = 0;
    int32_t right = 0;  // 1, or -1: it goes left.
    int32_t is_gold = 0;
  };

  int32_t row = 0;  // The player's.
  int32_t column = 0;
  std::array<Mover, kLanes> lanes = {};
  int32_t spawn_speed = 0;  // Steps between two.
  int32_t spawn_timer = 0;
  int32_t move_speed = 0;
  int32_t move_timer = 0;
  int32_t ramp_timer = 0;
  int32_t ramps = 0;  // So often it has become faster.

 private:
  void Spawn(Draw draw);
  // What happens if lane i's and the player are in one cell.
  void Meet(int i, StepResult* result);
  void Ramp();
};

struct Freeway {
  static constexpr const char* kId = "MinAtar/Freeway-v0";
  static constexpr int kChannels = 7;
  static constexpr int kLanes = 8;   // Lane i is row i + 1.
  static constexpr int kColumn = 4;  // The chicken's.
  static constexpr int kMovePeriod = 3;
  static constexpr int kSlowest = 5;
  static constexpr int kMaxSteps = 2501;

  void Reset(Draw draw);
  StepResult Step(int action, bool ramping, Draw draw);
  void Observe(Planes planes) const;
  bool IsValid() const;

  struct Car {
    int32_t column = 0;
    int32_t right = 0;  // 1, or -1: it goes left.
    int32_t pause = 0;  // Steps between two moves, 1 to kSlowest.
    int32_t timer = 0;  // Of these are left.
  };

  int32_t row = 0;  // The chicken's.
  int32_t move_timer = 0;
  int32_t steps_left = 0;
  std::array<Car, kLanes> cars = {};

 private:
  void DrawSpeeds(Draw draw);
};

struct Seaquest {
  static constexpr const char* kId = "MinAtar/Seaquest-v0";
  static constexpr int kChannels = 10;
  static constexpr int kLowestRow = 8;
  static constexpr int kMaxOxygen = 200;
  static constexpr int kMaxDivers = 6;
  static constexpr int kLeastDivers = -1000000;  // See Surface.
  static constexpr int kSpawnSpeed = 20;
  static constexpr int kMoveSpeed = 5;
  static constexpr int kMinMoveSpeed = 2;
  static constexpr int kDiverSpawnSpeed = 30;
  static constexpr int kDiverMoveSpeed = 5;
  static constexpr int kShotPeriod = 5;
  static constexpr int kEnemyShotPeriod = 10;

  void Reset(Draw draw);
  StepResult Step(int action, bool ramping, Draw draw);
  void Observe(Planes planes) const;
  bool IsValid() const;

  struct Bullet {
    int32_t row = 0;
    int32_t column = 0;
    int32_t right = 0;  // 1, or -1: it goes left.
  };

  // A fish, a submarine or a diver.
  struct Swimmer {
    int32_t row = 0;
    int32_t column = 0;
    int32_t right = 0;
    int32_t move_timer = 0;
    int32_t shot_timer = 0;  // A submarine's.
  };

  // The oldest first; what is not in use is 0.
  template <typename T, int kCapacity>
  struct List {
    int32_t size = 0;
    std::array<T, kCapacity> items = {};

    // When it is full, which no game makes it, nothing is added.
    void Add(const T& item) {
      if (size < kCapacity) items[size++] = item;
    }
    void Remove(int i) {
      for (--size; i < size; ++i) items[i] = items[i + 1];
      items[size] = T();
    }
    const T* begin() const { return items.data(); }
    const T* end() const { return items.data() + size; }
  };
  // An enemy crosses the board in 10 * (kMoveSpeed + 1) steps at most, and one
  // comes a step at most. Within that time and 10 steps more, which a bullet
  // needs, each may have one bullet under way.
  using Enemies = List<Swimmer, 64>;
  using EnemyBullets = List<Bullet, 72>;

  int32_t row = 0;  // The player's front.
  int32_t column = 0;
  int32_t right = 0;   // 1, or -1: it looks to the left.
  int32_t oxygen = 0;  // Steps under water that are left.
  int32_t divers_aboard = 0;
  int32_t shot_timer = 0;
  int32_t spawn_speed = 0;  // Steps between two enemies.
  int32_t spawn_timer = 0;
  int32_t diver_timer = 0;
  int32_t move_speed = 0;  // Steps that an enemy rests between two moves.
  int32_t ramps = 0;       // So often it has become faster.
  List<Bullet, 4> bullets = {};
  List<Swimmer, 4> divers = {};
  Enemies fish = {};
  Enemies submarines = {};
  EnemyBullets enemy_bullets = {};

 private:
  void SpawnEnemy(Draw draw);
  void SpawnDiver(Draw draw);
  void Act(int action);
  void MoveBullets(StepResult* result);
  void MoveDivers();
  void MoveEnemies(Enemies* enemies, StepResult* result);
  void MoveEnemyBullets(StepResult* result);
  void Breathe(bool was_up, bool ramping, StepResult* result);
  void Ramp();
};

struct SpaceInvaders {
  static constexpr const char* kId = "MinAtar/SpaceInvaders-v0";
  static constexpr int kChannels = 6;
  static constexpr int kAlienRows = 4;
  static constexpr int kFirstAlienColumn = 2;
  static constexpr int kLastAlienColumn = 7;
  static constexpr int kMovePeriod = 12;
  static constexpr int kMinMovePeriod = 6;
  static constexpr int kShotPeriod = 5;
  static constexpr int kAlienShotPeriod = 10;

  void Reset(Draw draw);
  StepResult Step(int action, bool ramping, Draw draw);
  void Observe(Planes planes) const;
  bool IsValid() const;

  // 1: there is one.
  using Board = std::array<std::array<int32_t, kSize>, kSize>;

  int32_t cannon = 0;  // Its column.
  int32_t right = 0;   // 1, or -1: the aliens go left.
  int32_t shot_timer = 0;
  int32_t alien_shot_timer = 0;
  int32_t move_period = 0;  // Steps between two moves of many aliens.
  int32_t move_timer = 0;
  Board aliens = {};
  Board bullets = {};
  Board alien_bullets = {};

 private:
  void PlaceAliens();
  void MoveAliens(StepResult* result);
  void Shoot();
};

}  // namespace qfleet::minatar

#endif  // QFLEET_ENVS_MINATAR_GAMES_H_
