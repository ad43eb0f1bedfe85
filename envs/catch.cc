#include "envs/catch.h"

#include <algorithm>
#include <cstring>

namespace qfleet {

const EnvironmentSpec& Catch::spec() const {
  static const EnvironmentSpec* const spec = [] {
    auto* result = new EnvironmentSpec;
    result->observation.set_name("observation");
    result->observation.set_dtype(v1::FLOAT32);
    result->observation.add_shape(kRows);
    result->observation.add_shape(kColumns);
    result->num_actions = 3;
    return result;
  }();
  return *spec;
}

void Catch::Seed(uint64_t seed) { random_ = Random(seed); }

void Catch::Reset(absl::Span<char> observation) {
  board_ = Board();
  board_.ball_column = static_cast<int32_t>(random_.Below(kColumns));
  Observe(observation);
}

StepResult Catch::Step(int action, absl::Span<char> observation) {
  board_.paddle_column =
      std::clamp(board_.paddle_column + action - kStay, 0, kColumns - 1);
  ++board_.ball_row;
  Observe(observation);
  if (board_.ball_row < kRows - 1) return StepResult{};
  const bool caught = board_.ball_column == board_.paddle_column;
  return StepResult{.reward = caught ? 1.0F : -1.0F, .terminated = true};
}

std::unique_ptr<Environment> Catch::Clone() const {
  return std::make_unique<Catch>(*this);
}

absl::StatusOr<std::string> Catch::Save() const {
  std::string state(sizeof(board_), '\0');
  std::memcpy(state.data(), &board_, sizeof(board_));
  return state + random_.Save();
}

absl::Status Catch::Load(absl::string_view state) {
  const absl::Status refused =
      absl::InvalidArgumentError("not the state of a Catch");
  Board board;
  if (state.size() < sizeof(board)) return refused;
  std::memcpy(&board, state.data(), sizeof(board));
  const auto within = [](int32_t value, int32_t end) {
    return value >= 0 && value < end;
  };
  if (!within(board.ball_row, kRows) || !within(board.ball_column, kColumns) ||
      !within(board.paddle_column, kColumns) ||
      !random_.Load(std::string(state.substr(sizeof(board))))) {
    return refused;
  }
  board_ = board;
  return absl::OkStatus();
}

void Catch::Observe(absl::Span<char> observation) const {
  float board[kRows][kColumns] = {};
  board[board_.ball_row][board_.ball_column] = 1;
  board[kRows - 1][board_.paddle_column] = 1;
  std::memcpy(observation.data(), board, sizeof(board));
}

}  // namespace qfleet
