#include "envs/catch.h"

#include <array>
#include <cstring>
#include <vector>

#include "common/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

constexpr int kRows = Catch::kRows;
constexpr int kColumns = Catch::kColumns;

class CatchTest : public testing::Test {
 protected:
  using Board = std::array<float, kRows * kColumns>;

  void SetUp() override { environment_.Seed(1); }

  Board Reset() {
    environment_.Reset(Row());
    return board_;
  }

  // Until the ball starts in `column`.
  void ResetTo(int column) {
    for (int i = 0; i < 1000; ++i) {
      if (Reset()[column] == 1) return;
    }
    FAIL() << "the ball never starts in column " << column;
  }

  StepResult Step(int action) { return environment_.Step(action, Row()); }

  // A board with the ball there and the paddle in the bottom row there.
  static Board Expected(int ball_row, int ball_column, int paddle_column) {
    Board board = {};
    board[ball_row * kColumns + ball_column] = 1;
    board[(kRows - 1) * kColumns + paddle_column] = 1;
    return board;
  }

  Catch environment_;
  Board board_ = {};

 private:
  absl::Span<char> Row() {
    return absl::MakeSpan(reinterpret_cast<char*>(board_.data()),
                          sizeof(board_));
  }
};

TEST_F(CatchTest, APaddleThatGoesToTheBallCatchesIt) {
  ResetTo(4);
  EXPECT_EQ(board_, Expected(0, 4, 2));
  const std::vector<int> actions = {Catch::kRight, Catch::kStay,  Catch::kLeft,
                                    Catch::kRight, Catch::kRight, Catch::kStay,
                                    Catch::kStay,  Catch::kStay};
  const std::vector<int> columns = {3, 3, 2, 3, 4, 4, 4, 4};
  for (int t = 0; t < 8; ++t) {
    const StepResult result = Step(actions[t]);
    EXPECT_EQ(board_, Expected(t + 1, 4, columns[t])) << "step " << t;
    EXPECT_EQ(result.reward, 0);
    EXPECT_FALSE(result.terminated || result.truncated);
  }
  const StepResult last = Step(Catch::kStay);
  EXPECT_EQ(board_, Expected(9, 4, 4)) << "ball and paddle are one";
  EXPECT_EQ(last.reward, 1);
  EXPECT_TRUE(last.terminated);
  EXPECT_FALSE(last.truncated);
}

TEST_F(CatchTest, ThePaddleMovesBeforeTheBallLands) {
  ResetTo(1);
  for (int t = 0; t < 8; ++t) Step(Catch::kStay);
  EXPECT_EQ(Step(Catch::kLeft).reward, 1);
  ResetTo(1);
  for (int t = 0; t < 8; ++t) Step(Catch::kStay);
  const StepResult missed = Step(Catch::kRight);
  EXPECT_EQ(missed.reward, -1);
  EXPECT_TRUE(missed.terminated);
  EXPECT_EQ(board_, Expected(9, 1, 3));
}

TEST_F(CatchTest, TheEdgesStopThePaddle) {
  ResetTo(0);
  for (int t = 0; t < 5; ++t) Step(Catch::kLeft);
  EXPECT_EQ(board_, Expected(5, 0, 0));
  Step(Catch::kRight);
  EXPECT_EQ(board_, Expected(6, 0, 1)) << "it has not gone beyond the edge";
  ResetTo(0);
  for (int t = 0; t < 8; ++t) Step(Catch::kRight);
  EXPECT_EQ(board_, Expected(8, 0, 4));
}

TEST_F(CatchTest, EveryColumnIsReachedInTime) {
  for (int episode = 0; episode < 50; ++episode) {
    const Board start = Reset();
    int column = 0;
    while (start[column] == 0) ++column;
    StepResult result;
    int paddle = 2;
    while (!result.terminated) {
      const int move = (column > paddle) - (column < paddle);
      paddle += move;
      result = Step(Catch::kStay + move);
    }
    EXPECT_EQ(result.reward, 1);
  }
}

TEST_F(CatchTest, TheBallStartsInEachColumnEquallyOften) {
  std::array<int, kColumns> counts = {};
  for (int i = 0; i < 10000; ++i) {
    const Board board = Reset();
    for (int column = 0; column < kColumns; ++column) {
      counts[column] += board[column] == 1;
    }
  }
  // Five standard deviations.
  EXPECT_THAT(counts, testing::Each(testing::AllOf(testing::Ge(1800),
                                                   testing::Le(2200))));
}

}  // namespace
}  // namespace qfleet
