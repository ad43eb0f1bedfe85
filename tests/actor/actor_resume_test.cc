// An actor that is saved and loaded between any two steps writes what the one
// writes that was not: also while a truncated episode waits for its last value.
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "actor/actor.h"
#include "common/hash.h"
#include "common/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

constexpr int kEnvironments = 3;

// Counts up to a length drawn at the start of each episode; episodes of even
// length are truncated, the others terminated.
class Walk : public Environment {
 public:
  Walk() {
    spec_.observation.set_name("observation");
    spec_.observation.set_dtype(v1::FLOAT32);
    spec_.observation.add_shape(1);
    spec_.num_actions = 2;
  }
  const EnvironmentSpec& spec() const override { return spec_; }
  void Seed(uint64_t seed) override { random_ = Random(seed); }
  void Reset(absl::Span<char> row) override {
    length_ = 2 + static_cast<int>(random_.Below(9));
    step_ = 0;
    Write(row);
  }
  StepResult Step(int action, absl::Span<char> row) override {
    ++step_;
    Write(row);
    const bool end = step_ >= length_;
    return {.reward = static_cast<float>(action) + 0.25f,
            .terminated = end && length_ % 2 == 1,
            .truncated = end && length_ % 2 == 0};
  }
  std::unique_ptr<Environment> Clone() const override {
    return std::make_unique<Walk>(*this);
  }
  absl::StatusOr<std::string> Save() const override {
    return absl::StrCat(length_, " ", step_, "\n", random_.Save());
  }
  absl::Status Load(absl::string_view state) override {
    const std::string text(state);
    const size_t end = text.find('\n');
    if (end == std::string::npos || !random_.Load(text.substr(end + 1))) {
      return absl::InvalidArgumentError("not the state of a Walk");
    }
    std::istringstream(text) >> length_ >> step_;
    return absl::OkStatus();
  }

 private:
  void Write(absl::Span<char> row) {
    const float value = static_cast<float>(step_) / 10;
    std::memcpy(row.data(), &value, sizeof(value));
  }
  EnvironmentSpec spec_;
  Random random_{0};
  int length_ = 0;
  int step_ = 0;
};

// Remembers in words.
class TextWriter : public Writer {
 public:
  absl::StatusOr<uint64_t> AppendStep(
      uint32_t stream, bool starts,
      absl::Span<const ColumnRow> columns) override {
    lines.push_back(
        absl::StrCat("step ", stream, " ", starts, " ",
                     Hash64({columns[0].data(), columns[0].size()})));
    next.resize(kEnvironments);
    return next[stream]++;
  }
  absl::Status AppendItem(uint32_t stream, uint64_t first, uint64_t last,
                          absl::Span<const ColumnRow> columns,
                          float priority) override {
    std::string line =
        absl::StrCat("item ", stream, " ", first, " ", last, " ", priority);
    for (const ColumnRow& column : columns) {
      absl::StrAppend(&line, " ", Hash64({column.data(), column.size()}));
    }
    lines.push_back(std::move(line));
    return absl::OkStatus();
  }
  absl::Status Poll() override { return absl::OkStatus(); }
  absl::Status Flush() override { return absl::OkStatus(); }

  std::vector<std::string> lines;
  std::vector<uint64_t> next;
};

class ActorResumeTest : public testing::Test {
 protected:
  ActorResumeTest() {
    algorithm_.set_n_step(4);
    algorithm_.set_gamma(0.9);
    v1::Config config;
    config.mutable_network()->add_hidden(8);
    network_ = *Network::Make(config, Walk().spec());
    policy_ = std::make_unique<Policy>(network_, Walk().spec().observation);
    FlatParameters parameters(*network_);
    Random random(1);
    parameters.Initialize(*network_, random);
    v1::Publication publication;
    publication.set_version(1);
    publication.set_network(network_->signature());
    publication.set_parameters(parameters.values().data(),
                               parameters.values().size() * sizeof(float));
    publication.set_hash(Hash64(publication.parameters()));
    EXPECT_EQ(policy_->SetWeights(publication), absl::OkStatus());
  }

  std::unique_ptr<Actor> MakeActor(int environments, uint64_t seed) {
    std::vector<std::unique_ptr<Environment>> all;
    std::vector<uint64_t> seeds;
    for (int i = 0; i < environments; ++i) {
      all.push_back(std::make_unique<Walk>());
      seeds.push_back(seed + i);
    }
    std::vector<std::unique_ptr<VectorEnvironment>> groups;
    groups.push_back(
        std::make_unique<LocalVectorEnvironment>(std::move(all), seeds));
    return std::make_unique<Actor>(
        algorithm_, std::move(groups),
        Explorer(std::vector<double>(environments, 0.5), seed), *policy_,
        writer_);
  }

  v1::AlgorithmConfig algorithm_;
  std::shared_ptr<const Network> network_;
  std::unique_ptr<Policy> policy_;
  TextWriter writer_;
};

TEST_F(ActorResumeTest, ALoadedActorGoesOnAsTheSavedOneWouldHave) {
  constexpr int kSteps = 200;
  std::unique_ptr<Actor> straight = MakeActor(kEnvironments, 7);
  for (int i = 0; i < kSteps; ++i) ASSERT_TRUE(straight->Step().ok());
  const std::vector<std::string> expected = std::move(writer_.lines);
  writer_ = TextWriter();

  std::unique_ptr<Actor> actor = MakeActor(kEnvironments, 7);
  int truncated = 0, windows = 0;
  for (int i = 0; i < kSteps; ++i) {
    absl::StatusOr<v1::ActorState> state = actor->Save();
    ASSERT_TRUE(state.ok()) << state.status();
    for (const auto& stream : state->streams()) {
      truncated += stream.truncated();
      windows += stream.transitions_size() > 0;
    }
    // Other seeds: all of it comes from the state.
    actor = MakeActor(kEnvironments, 1000 + i);
    ASSERT_EQ(actor->Load(*state), absl::OkStatus());
    ASSERT_TRUE(actor->Step().ok());
  }
  EXPECT_GT(truncated, 20);
  EXPECT_GT(windows, 200);
  EXPECT_EQ(writer_.lines, expected);
  EXPECT_EQ(actor->stats().episodes, straight->stats().episodes);
  EXPECT_EQ(actor->stats().env_steps, straight->stats().env_steps);
  EXPECT_EQ(actor->stats().return_sum, straight->stats().return_sum);
}

TEST_F(ActorResumeTest, TheStateOfOtherEnvironmentsIsRefused) {
  absl::StatusOr<v1::ActorState> state = MakeActor(2, 1)->Save();
  ASSERT_TRUE(state.ok());
  absl::Status status = MakeActor(3, 1)->Load(*state);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("saved environments = 2"));
  state->mutable_environments()->set_environments(1, "?");
  status = MakeActor(2, 1)->Load(*state);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("saved environment 1: not the state of a "
                                 "Walk"));
}

// Without a state of its own.
class Forgetful : public Walk {
 public:
  absl::StatusOr<std::string> Save() const override {
    return Environment::Save();
  }
};

TEST_F(ActorResumeTest, AnEnvironmentThatCannotBeSavedSaysSo) {
  std::vector<std::unique_ptr<Environment>> all;
  all.push_back(std::make_unique<Forgetful>());
  const LocalVectorEnvironment vector(std::move(all), {1});
  EXPECT_EQ(vector.Save().status().code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace qfleet
