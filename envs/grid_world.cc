#include "envs/grid_world.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace qfleet {
namespace {

constexpr char kMap[] =
    "...G"
    ".#.P"
    "S...";
static_assert(sizeof(kMap) == GridWorld::kCells + 1);
static_assert(kMap[GridWorld::kStart] == 'S');

constexpr double kStepCost = 0.04;
constexpr double kIntended = 0.8;
constexpr double kAside = 0.1;  // To either side.

// The next cell that way; `cell` itself if that is a wall or off the board.
int Neighbour(int cell, int action) {
  constexpr int kRowStep[] = {-1, 0, 1, 0};
  constexpr int kColumnStep[] = {0, 1, 0, -1};
  const int row = cell / GridWorld::kColumns + kRowStep[action];
  const int column = cell % GridWorld::kColumns + kColumnStep[action];
  if (row < 0 || row >= GridWorld::kRows || column < 0 ||
      column >= GridWorld::kColumns) {
    return cell;
  }
  const int next = row * GridWorld::kColumns + column;
  return GridWorld::IsWall(next) ? cell : next;
}

double RewardOfReaching(int cell) {
  if (kMap[cell] == 'G') return 1 - kStepCost;
  if (kMap[cell] == 'P') return -1 - kStepCost;
  return -kStepCost;
}

}  // namespace

const EnvironmentSpec& GridWorld::spec() const {
  static const EnvironmentSpec* const spec = [] {
    auto* result = new EnvironmentSpec;
    result->observation.set_name("observation");
    result->observation.set_dtype(v1::FLOAT32);
    result->observation.add_shape(kCells);
    result->num_actions = kActions;
    result->has_action_mask = true;
    return result;
  }();
  return *spec;
}

void GridWorld::Seed(uint64_t seed) { random_ = Random(seed); }

void GridWorld::Reset(absl::Span<char> observation) {
  state_ = State();
  Observe(observation);
}

StepResult GridWorld::Step(int action, absl::Span<char> observation) {
  const std::array<Outcome, 3> outcomes = Outcomes(state_.cell, action);
  const double u = random_.Uniform();
  const Outcome& outcome = u < kIntended            ? outcomes[0]
                           : u < kIntended + kAside ? outcomes[1]
                                                    : outcomes[2];
  state_.cell = outcome.cell;
  ++state_.steps;
  Observe(observation);
  return StepResult{.reward = static_cast<float>(outcome.reward),
                    .terminated = IsTerminal(state_.cell),
                    .truncated = state_.steps >= kMaxSteps};
}

void GridWorld::ActionMask(absl::Span<uint8_t> mask) const {
  for (int action = 0; action < kActions; ++action) {
    mask[action] = IsLegal(state_.cell, action) ? 1 : 0;
  }
}

std::unique_ptr<Environment> GridWorld::Clone() const {
  return std::make_unique<GridWorld>(*this);
}

absl::StatusOr<std::string> GridWorld::Save() const {
  std::string state(sizeof(state_), '\0');
  std::memcpy(state.data(), &state_, sizeof(state_));
  return state + random_.Save();
}

absl::Status GridWorld::Load(absl::string_view state) {
  const absl::Status refused =
      absl::InvalidArgumentError("not the state of a GridWorld");
  State loaded;
  if (state.size() < sizeof(loaded)) return refused;
  std::memcpy(&loaded, state.data(), sizeof(loaded));
  if (loaded.cell < 0 || loaded.cell >= kCells || IsWall(loaded.cell) ||
      loaded.steps < 0 || loaded.steps > kMaxSteps ||
      !random_.Load(std::string(state.substr(sizeof(loaded))))) {
    return refused;
  }
  state_ = loaded;
  return absl::OkStatus();
}

void GridWorld::SetCell(int cell) { state_ = {.cell = cell, .steps = 0}; }

bool GridWorld::IsWall(int cell) { return kMap[cell] == '#'; }

bool GridWorld::IsTerminal(int cell) {
  return kMap[cell] == 'G' || kMap[cell] == 'P';
}

bool GridWorld::IsLegal(int cell, int action) {
  return Neighbour(cell, action) != cell;
}

std::array<GridWorld::Outcome, 3> GridWorld::Outcomes(int cell, int action) {
  const auto outcome = [cell](double probability, int direction) {
    const int next = Neighbour(cell, direction);
    return Outcome{.probability = probability,
                   .cell = next,
                   .reward = RewardOfReaching(next)};
  };
  return {outcome(kIntended, action), outcome(kAside, (action + 3) % kActions),
          outcome(kAside, (action + 1) % kActions)};
}

double GridWorld::ActionValue(const Values& values, double gamma, int cell,
                              int action) {
  double sum = 0;
  for (const Outcome& outcome : Outcomes(cell, action)) {
    const double next = IsTerminal(outcome.cell) ? 0 : values[outcome.cell];
    sum += outcome.probability * (outcome.reward + gamma * next);
  }
  return sum;
}

GridWorld::Values GridWorld::OptimalValues(double gamma) {
  Values values = {};
  double change = 1;
  while (change > 1e-13) {
    change = 0;
    for (int cell = 0; cell < kCells; ++cell) {
      if (IsWall(cell) || IsTerminal(cell)) continue;
      double best = -1e9;
      for (int action = 0; action < kActions; ++action) {
        if (!IsLegal(cell, action)) continue;
        best = std::max(best, ActionValue(values, gamma, cell, action));
      }
      change = std::max(change, std::abs(best - values[cell]));
      values[cell] = best;
    }
  }
  return values;
}

void GridWorld::Observe(absl::Span<char> observation) const {
  float cells[kCells] = {};
  cells[state_.cell] = 1;
  std::memcpy(observation.data(), cells, sizeof(cells));
}

}  // namespace qfleet
