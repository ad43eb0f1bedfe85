#include "envs/vector_environment.h"

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/random.h"
#include "envs/cartpole.h"
#include "envs/frames.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

std::string Text(absl::Span<const char> bytes) {
  return {bytes.begin(), bytes.end()};
}

// Beside a model: a queue of frames for each environment.
TEST(FramesTest, StacksAreTheLastFramesOfTheEpisode) {
  constexpr int kEnvironments = 3;
  for (int stack : {1, 2, 4}) {
    Frames frames(kEnvironments, /*frame_bytes=*/2, stack);
    Random random(stack);
    std::vector<std::deque<std::string>> model(kEnvironments);
    for (int step = 0; step < 500; ++step) {
      if (step > 0) frames.Advance();
      for (int i = 0; i < kEnvironments; ++i) {
        const std::string frame = {static_cast<char>(random.Below(256)),
                                   static_cast<char>(i)};
        std::copy(frame.begin(), frame.end(), frames.newest(i).begin());
        if (step == 0 || random.Below(5) == 0) {
          frames.Begin(i);
          model[i].assign(stack, frame);
        } else {
          model[i].push_back(frame);
          model[i].pop_front();
        }
        std::string expected;
        for (const std::string& past : model[i]) expected += past;
        ASSERT_EQ(Text(frames.stack(i)), expected);
        const StridedRows rows = frames.stacks();
        ASSERT_EQ(std::string(rows.data + i * rows.stride, expected.size()),
                  expected);
      }
    }
  }
}

TEST(StackedObservationTest, TheStackIsTheChannels) {
  EnvironmentSpec spec;
  spec.frame_stack = 4;
  const auto shape = [&](std::vector<int64_t> of) {
    spec.observation.mutable_shape()->Assign(of.begin(), of.end());
    const v1::TensorSpec stacked = StackedObservation(spec);
    return std::vector<int64_t>(stacked.shape().begin(), stacked.shape().end());
  };
  EXPECT_EQ(shape({84, 84}), (std::vector<int64_t>{4, 84, 84}));
  EXPECT_EQ(shape({3, 10, 9}), (std::vector<int64_t>{12, 10, 9}));
  EXPECT_EQ(shape({5}), (std::vector<int64_t>{4, 5}));
  spec.frame_stack = 1;
  EXPECT_EQ(shape({84, 84}), (std::vector<int64_t>{84, 84}));
}

std::unique_ptr<LocalVectorEnvironment> MakeCartPoles(int frame_stack,
                                                      bool own_thread) {
  std::vector<std::unique_ptr<Environment>> environments;
  for (int i = 0; i < 3; ++i) {
    environments.push_back(std::make_unique<CartPole>());
  }
  const std::vector<uint64_t> seeds = {1, 2, 3};
  return std::make_unique<LocalVectorEnvironment>(std::move(environments),
                                                  seeds, frame_stack,
                                                  own_thread);
}

void ExpectTheSame(const VectorEnvironment& a, const VectorEnvironment& b) {
  for (int i = 0; i < a.size(); ++i) {
    ASSERT_EQ(Text(a.stack(i)), Text(b.stack(i)));
    ASSERT_EQ(a.results()[i].terminated, b.results()[i].terminated);
    if (a.results()[i].terminated) {
      ASSERT_EQ(Text(a.final_stack(i)), Text(b.final_stack(i)));
    }
  }
}

TEST(LocalVectorEnvironmentTest, AThreadOfItsOwnChangesNothing) {
  auto here = MakeCartPoles(/*frame_stack=*/2, /*own_thread=*/false);
  auto there = MakeCartPoles(/*frame_stack=*/2, /*own_thread=*/true);
  Random random(1);
  int ends = 0;
  for (int step = 0; step < 300; ++step) {
    std::vector<int> actions;
    for (int i = 0; i < 3; ++i) {
      actions.push_back(static_cast<int>(random.Below(2)));
    }
    there->StartStep(actions);
    ASSERT_TRUE(here->Step(actions).ok());
    actions.assign(3, -1);  // A step keeps its own.
    ASSERT_TRUE(there->FinishStep().ok());
    ExpectTheSame(*here, *there);
    ends += here->results()[0].terminated;
  }
  EXPECT_GT(ends, 3);
}

TEST(LocalVectorEnvironmentTest, AFinalStackIsOfTheEndedEpisode) {
  auto environments = MakeCartPoles(/*frame_stack=*/3, /*own_thread=*/false);
  std::string before = Text(environments->stack(0));
  while (true) {
    ASSERT_TRUE(environments->Step({1, 1, 1}).ok());
    if (environments->results()[0].terminated) break;
    before = Text(environments->stack(0));
  }
  const std::string last = Text(environments->final_observation(0));
  const size_t frame = last.size();
  EXPECT_EQ(Text(environments->final_stack(0)), before.substr(frame) + last);
  const std::string first = Text(environments->observation(0));
  EXPECT_NE(first, last);
  EXPECT_EQ(Text(environments->stack(0)), first + first + first);
}

TEST(LocalVectorEnvironmentTest, GoesOnFromItsStateWithItsStacks) {
  auto from = MakeCartPoles(/*frame_stack=*/3, /*own_thread=*/false);
  for (int step = 0; step < 50; ++step) {
    ASSERT_TRUE(from->Step({0, 1, step % 2}).ok());
  }
  absl::StatusOr<v1::VectorEnvironmentState> state = from->Save();
  ASSERT_TRUE(state.ok());
  auto to = MakeCartPoles(/*frame_stack=*/3, /*own_thread=*/false);
  ASSERT_TRUE(to->Step({0, 0, 0}).ok());
  ASSERT_TRUE(to->Load(*state).ok());
  for (int step = 0; step < 50; ++step) {
    ExpectTheSame(*from, *to);
    ASSERT_TRUE(from->Step({0, 1, step % 2}).ok());
    ASSERT_TRUE(to->Step({0, 1, step % 2}).ok());
  }
  auto other = MakeCartPoles(/*frame_stack=*/2, /*own_thread=*/false);
  EXPECT_EQ(other->Load(*state).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace qfleet
