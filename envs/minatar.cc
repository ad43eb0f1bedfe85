#include "envs/minatar.h"

#include <cstring>
#include <type_traits>

#include "common/random.h"
#include "envs/minatar_games.h"

namespace qfleet {
namespace {

template <typename Game>
class MinAtar : public Environment {
 public:
  explicit MinAtar(const v1::MinAtarConfig& options)
      : stickiness_(options.sticky_action_probability()),
        ramping_(options.difficulty_ramping()) {}

  const EnvironmentSpec& spec() const override {
    static const EnvironmentSpec* const spec = [] {
      auto* result = new EnvironmentSpec;
      result->observation.set_name("observation");
      result->observation.set_dtype(v1::FLOAT32);
      result->observation.add_shape(Game::kChannels);
      result->observation.add_shape(minatar::kSize);
      result->observation.add_shape(minatar::kSize);
      result->num_actions = minatar::kActions;
      return result;
    }();
    return *spec;
  }

  void Seed(uint64_t seed) override { random_ = Random(seed); }

  void Reset(absl::Span<char> observation) override {
    state_.last_action = minatar::kNothing;
    state_.game.Reset([this](int n) { return Below(n); });
    Observe(observation);
  }

  StepResult Step(int action, absl::Span<char> observation) override {
    if (random_.Uniform() >= stickiness_) state_.last_action = action;
    const StepResult result = state_.game.Step(
        state_.last_action, ramping_, [this](int n) { return Below(n); });
    Observe(observation);
    return result;
  }

  std::unique_ptr<Environment> Clone() const override {
    return std::make_unique<MinAtar>(*this);
  }

  absl::StatusOr<std::string> Save() const override {
    std::string state(sizeof(state_), '\0');
    std::memcpy(state.data(), &state_, sizeof(state_));
    return state + random_.Save();
  }

  absl::Status Load(absl::string_view state) override {
    const absl::Status refused = absl::InvalidArgumentError(
        std::string("not the state of ") + Game::kId);
    State loaded;
    if (state.size() < sizeof(loaded)) return refused;
    std::memcpy(&loaded, state.data(), sizeof(loaded));
    if (!minatar::IsWithin(loaded.last_action, 0, minatar::kActions - 1) ||
        !loaded.game.IsValid() ||
        !random_.Load(std::string(state.substr(sizeof(loaded))))) {
      return refused;
    }
    state_ = loaded;
    return absl::OkStatus();
  }

 private:
  // What Save writes before the random sequence.
  struct State {
    int32_t last_action = minatar::kNothing;
    Game game;
  };
  static_assert(std::is_trivially_copyable_v<State> &&
                std::has_unique_object_representations_v<State>);

  int Below(int n) { return static_cast<int>(random_.Below(n)); }

  void Observe(absl::Span<char> observation) const {
    std::memset(observation.data(), 0,
                sizeof(float[Game::kChannels][minatar::kSize][minatar::kSize]));
    state_.game.Observe(minatar::Planes(observation.data()));
  }

  double stickiness_;
  bool ramping_;
  Random random_{0};
  State state_;
};

template <typename... Games>
std::unique_ptr<Environment> MakeOneOf(absl::string_view id,
                                       const v1::MinAtarConfig& options) {
  std::unique_ptr<Environment> made;
  ((id == Games::kId ? void(made = std::make_unique<MinAtar<Games>>(options))
                     : void()),
   ...);
  return made;
}

}  // namespace

std::unique_ptr<Environment> MakeMinAtar(absl::string_view id,
                                         const v1::MinAtarConfig& options) {
  return MakeOneOf<minatar::Asterix, minatar::Breakout, minatar::Freeway,
                   minatar::Seaquest, minatar::SpaceInvaders>(id, options);
}

}  // namespace qfleet
