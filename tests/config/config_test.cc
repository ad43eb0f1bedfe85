#include "config/config.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "envs/registry.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace qfleet {
namespace {

using ::google::protobuf::util::MessageDifferencer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kCartPole[] = "environment { id: \"CartPole-v1\" }";

v1::Config Parsed(const std::string& text) {
  absl::StatusOr<v1::Config> config = ParseConfig(text, "test");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : v1::Config();
}

v1::Config Resolved(const std::string& text) {
  v1::Config config = Parsed(text);
  EXPECT_EQ(ResolveConfig(config), absl::OkStatus());
  return config;
}

// What is wrong with CartPole's config once `text` is added.
std::string ErrorOf(const std::string& text) {
  v1::Config config = Parsed(std::string(kCartPole) + text);
  absl::Status status = ResolveConfig(config);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

std::string ParseErrorOf(const std::string& text) {
  absl::StatusOr<v1::Config> config = ParseConfig(text, "c.txtpb");
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(config.status().message());
}

class TempFile {
 public:
  explicit TempFile(const std::string& text)
      : path_(::testing::TempDir() + "/" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name() +
              ".txtpb") {
    std::ofstream(path_) << text;
  }
  ~TempFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

TEST(ParseConfig, NamesFileLineAndKnownFieldsOfAnUnknownField) {
  EXPECT_EQ(ParseErrorOf("seed: 3\nnetwork {\n  hiden: 4\n}\n"),
            "c.txtpb:3:8: unknown field \"hiden\": allowed is hidden, "
            "dueling, convolutions, noisy, noisy_sigma");
}

TEST(ParseConfig, NamesLineOfAWrongValue) {
  EXPECT_EQ(ParseErrorOf("seed: \"x\""),
            "c.txtpb:1:7: Expected integer, got: \"x\"");
  EXPECT_EQ(ParseErrorOf("replay { shards: 99999999999 }"),
            "c.txtpb:1:18: Integer out of range (99999999999)");
  EXPECT_THAT(ParseErrorOf("replay {"), StartsWith("c.txtpb:1:"));
}

TEST(ResolveConfig, FillsEveryFieldThatHasADefault) {
  v1::Config config = Resolved(kCartPole);
  EXPECT_TRUE(config.has_seed());
  EXPECT_EQ(config.seed(), 1u);
  EXPECT_TRUE(config.algorithm().has_double_q());
  EXPECT_EQ(config.algorithm().target_period(), 500);
  EXPECT_THAT(config.network().hidden(), ElementsAre(128, 128));
  EXPECT_TRUE(config.optimizer().has_learning_rate());
  EXPECT_DOUBLE_EQ(config.optimizer().learning_rate(), 1e-3);
  EXPECT_EQ(config.replay().max_bytes(), 1073741824u);
  EXPECT_TRUE(config.has_cluster());
  // Neither default nor value.
  EXPECT_FALSE(config.stop().has_mean_return());
  EXPECT_FALSE(config.cluster().has_learner());
}

TEST(ResolveConfig, KeepsWhatIsSetEvenIfItIsZero) {
  v1::Config config = Resolved(std::string(kCartPole) +
                               "seed: 0 network { dueling: false hidden: 7 }"
                               "replay { alpha: 0 tolerance: 9 }");
  EXPECT_EQ(config.seed(), 0u);
  EXPECT_FALSE(config.network().dueling());
  EXPECT_THAT(config.network().hidden(), ElementsAre(7));
  EXPECT_EQ(config.replay().alpha(), 0);
  EXPECT_EQ(config.replay().tolerance(), 9);
}

TEST(ResolveConfig, IsIdempotentAlsoThroughText) {
  v1::Config once = Resolved(kCartPole);
  v1::Config twice = once;
  ASSERT_EQ(ResolveConfig(twice), absl::OkStatus());
  EXPECT_EQ(ConfigText(once), ConfigText(twice));
  v1::Config again = Resolved(ConfigText(once));
  EXPECT_TRUE(MessageDifferencer::Equals(once, again));
}

TEST(ResolveConfig, ToleranceIsFourBatchesOrARoundOfTheActors) {
  EXPECT_EQ(
      Resolved(std::string(kCartPole) + "learner { batch_size: 64 }"
                                        "actors { count: 1 environments: 2 }")
          .replay()
          .tolerance(),
      256);
  EXPECT_EQ(
      Resolved(std::string(kCartPole) + "replay { samples_per_insert: 16 }"
                                        "actors { count: 2 environments: 8 }")
          .replay()
          .tolerance(),
      512);
}

TEST(TableFor, IsWhatDqnNeedsDividedOverTheShards) {
  v1::Config config = Resolved(
      std::string(kCartPole) +
      "replay { shards: 3 max_items: 1000 max_bytes: 1000000 min_items: 100"
      "  alpha: 0.5 priority_epsilon: 0.25 samples_per_insert: 2 }");
  const v1::TableSpec& table = config.replay().table();
  EXPECT_EQ(table.name(), "replay");
  ASSERT_EQ(table.signature().step_columns_size(), 1);
  EXPECT_EQ(table.signature().step_columns(0).name(), "observation");
  EXPECT_THAT(table.signature().step_columns(0).shape(), ElementsAre(4));
  ASSERT_EQ(table.signature().item_columns_size(), 3);
  EXPECT_EQ(table.signature().item_columns(0).name(), "action");
  EXPECT_EQ(table.signature().item_columns(0).dtype(), v1::INT32);
  EXPECT_EQ(table.signature().item_columns(1).name(), "return");
  EXPECT_EQ(table.signature().item_columns(2).name(), "discount");
  ASSERT_EQ(table.signature().views_size(), 2);
  EXPECT_EQ(table.signature().views(0).name(), "observation");
  EXPECT_EQ(table.signature().views(0).anchor(), v1::View::FIRST);
  EXPECT_EQ(table.signature().views(1).name(), "next_observation");
  EXPECT_EQ(table.signature().views(1).anchor(), v1::View::LAST);
  EXPECT_EQ(table.selector().alpha(), 0.5);
  EXPECT_EQ(table.selector().epsilon(), 0.25);
  EXPECT_EQ(table.max_items(), 334u);
  EXPECT_EQ(table.max_bytes(), 333334u);
  EXPECT_EQ(table.rate_limiter().samples_per_insert(), 2);
  EXPECT_EQ(table.rate_limiter().min_size(), 100u);
  EXPECT_EQ(table.rate_limiter().tolerance(), 256);
}

TEST(TableFor, HasTheMaskOfTheNextStepWhereActionsCanBeIllegal) {
  v1::Config config = Resolved("environment { id: 'GridWorld-v0' }");
  const v1::TableSignature& signature = config.replay().table().signature();
  ASSERT_EQ(signature.step_columns_size(), 2);
  const v1::TensorSpec& mask = signature.step_columns(1);
  EXPECT_EQ(mask.name(), "action_mask");
  EXPECT_EQ(mask.dtype(), v1::UINT8);
  EXPECT_THAT(mask.shape(), ElementsAre(4));
  ASSERT_EQ(signature.views_size(), 3);
  EXPECT_EQ(signature.views(2).name(), "next_action_mask");
  EXPECT_EQ(signature.views(2).column(), "action_mask");
  EXPECT_EQ(signature.views(2).anchor(), v1::View::LAST);
  EXPECT_EQ(signature.views(2).stack(), 1u);
}

TEST(ResolveConfig, TakesATableOfTheUsersWithoutAnEnvironment) {
  v1::Config config = Resolved(R"(
    replay { table {
      name: "mine" max_items: 10 max_bytes: 100000
      signature { step_columns { name: "x" dtype: INT64 } }
    } })");
  EXPECT_EQ(config.replay().table().name(), "mine");
  EXPECT_EQ(config.replay().table().max_items(), 10u);
  EXPECT_EQ(ErrorOf("replay { table { name: \"X\" } }"),
            "replay.table.name = \"X\": allowed is [a-z][a-z0-9_]*, up to 64 "
            "characters");
}

TEST(ResolveConfig, RefusesAQueueThatCannotHoldABatch) {
  const std::string table =
      "replay { shards: 2 table { name: \"mine\" max_items: 10 "
      "max_bytes: 100000 selector { kind: FIFO max_times_sampled: 3 } "
      "signature { step_columns { name: \"x\" dtype: INT64 } } } } "
      "learner { batch_size: ";
  EXPECT_EQ(ErrorOf(table + "61 }"),
            "learner.batch_size = 61: allowed is at most 60, what the queues "
            "of replay.table hold");
  Resolved(std::string(kCartPole) + table + "60 }");
}

// Sampling would never start.
TEST(ValidateConfig, RefusesARingThatCannotHoldMinItems) {
  EXPECT_THAT(ErrorOf("replay { max_items: 1000 min_items: 900 "
                      "max_bytes: 130000 }"),
              StartsWith("replay.max_bytes = 130000: allowed is at least"));
  EXPECT_EQ(ErrorOf("replay { table { name: \"mine\" max_items: 10 "
                    "signature { step_columns { name: \"x\" dtype: INT64 } } "
                    "} }"),
            "replay.table.max_bytes = 0: allowed is at least 5544, for "
            "max_items = 10 items and 64 steps");
  EXPECT_THAT(ErrorOf("replay { more_tables { name: \"X\" } }"),
              StartsWith("replay.more_tables[0].name = \"X\""));
}

TEST(ValidateConfig, NamesFieldValueAndRange) {
  EXPECT_EQ(ErrorOf("replay { alpha: 5 }"),
            "replay.alpha = 5: allowed is 0 to 4");
  EXPECT_EQ(ErrorOf("optimizer { learning_rate: 0 }"),
            "optimizer.learning_rate = 0: allowed is more than 0 up to 1");
  EXPECT_EQ(ErrorOf("optimizer { adam { epsilon: -1e-9 } }"),
            "optimizer.adam.epsilon = -1e-09: allowed is more than 0");
  EXPECT_EQ(ErrorOf("learner { publish_period: 0 }"),
            "learner.publish_period = 0: allowed is at least 1");
  EXPECT_EQ(ErrorOf("replay { max_items: 4000000001 }"),
            "replay.max_items = 4000000001: allowed is 64 to 4000000000");
  EXPECT_EQ(ErrorOf("network { hidden: [8, 0] }"),
            "network.hidden[1] = 0: allowed is 1 to 65536");
  EXPECT_EQ(ErrorOf("algorithm { target_period: -2 }"),
            "algorithm.target_period = -2: allowed is at least 1");
}

TEST(ResolveConfig, RainbowTurnsOnWhatIsNotTurnedOff) {
  const std::string rainbow = "algorithm { rainbow { v_min: 0 v_max: 100 } }";
  v1::Config config = Resolved(std::string(kCartPole) + rainbow);
  EXPECT_TRUE(config.algorithm().double_q());
  EXPECT_EQ(config.algorithm().n_step(), 3);
  EXPECT_TRUE(config.algorithm().rainbow().distributional());
  EXPECT_TRUE(config.network().dueling());
  EXPECT_TRUE(config.network().noisy());
  EXPECT_EQ(config.replay().alpha(), 0.5);
  EXPECT_EQ(config.actors().epsilon_base(), 0);
  config = Resolved(std::string(kCartPole) + rainbow +
                    "network { noisy: false } replay { alpha: 0 }");
  EXPECT_FALSE(config.network().noisy());
  EXPECT_EQ(config.replay().alpha(), 0);
  EXPECT_EQ(config.actors().epsilon_base(), 0.4);
}

// `--set` on a resolved config: what explores follows the network.
TEST(LoadConfig, EpsilonIsDerivedAnewFromAResolvedConfig) {
  const std::string path = testing::TempDir() + "/epsilon.txtpb";
  const auto load = [&path](const std::string& text, const std::string& set) {
    std::ofstream(path) << text;
    return LoadConfig(path, {set});
  };
  const std::string plain = ConfigText(Resolved(kCartPole));
  auto noisy = load(plain, "network.noisy=true");
  ASSERT_TRUE(noisy.ok()) << noisy.status();
  EXPECT_EQ(noisy->actors().epsilon_base(), 0);
  auto back = load(ConfigText(*noisy), "network.noisy=false");
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->actors().epsilon_base(), 0.4);
  // A contradiction of the user's own stays one.
  EXPECT_FALSE(load(std::string(kCartPole) +
                        "network { noisy: true } actors { epsilon_base: 0.3 }",
                    "seed=2")
                   .ok());
}

TEST(ValidateConfig, RefusesAlgorithmsThatContradictThemselves) {
  EXPECT_THAT(ErrorOf("algorithm { rainbow { v_max: 1 } }"),
              StartsWith("algorithm.rainbow.v_min is not set: allowed is "));
  EXPECT_EQ(ErrorOf("algorithm { rainbow { v_min: 1 v_max: 1 } }"),
            "algorithm.rainbow.v_min = 1: allowed is less than "
            "algorithm.rainbow.v_max (1)");
  EXPECT_EQ(ErrorOf("algorithm { rainbow { v_min: 0 v_max: 1 } "
                    "value_rescaling: true }"),
            "algorithm.value_rescaling = true: allowed is false with the fixed "
            "support of algorithm.rainbow.distributional");
  EXPECT_EQ(ErrorOf("algorithm { reward_clip: 1 value_rescaling: true }"),
            "algorithm.value_rescaling = true: allowed is false where "
            "algorithm.reward_clip is more than 0");
  EXPECT_EQ(ErrorOf("network { noisy: true } actors { epsilon_base: 0.4 }"),
            "actors.epsilon_base = 0.4: allowed is 0 with network.noisy, which "
            "explores instead");
  EXPECT_EQ(ErrorOf("network { noisy: true } "
                    "actors { epsilon_decay_steps: 9 }"),
            "actors.epsilon_decay_steps = 9: allowed is 0 with network.noisy, "
            "which explores instead");
  EXPECT_EQ(
      ErrorOf("algorithm { target_tau: 0.5 i_dqn { networks: 2 } }"),
      "algorithm.target_tau = 0.5: allowed is 1 with "
      "algorithm.i_dqn.networks of more than 1: a chain moves on by whole "
      "networks");
  EXPECT_EQ(ErrorOf("algorithm { i_dqn { networks: 0 } }"),
            "algorithm.i_dqn.networks = 0: allowed is 1 to 64");
  EXPECT_EQ(ErrorOf("network { convolutions { kernel: 65 } }"),
            "network.convolutions[0].kernel = 65: allowed is 1 to 64");
}

TEST(ValidateConfig, RefusesDevicesThatAreNone) {
  EXPECT_EQ(ErrorOf("learner { device: \"gpu\" }"),
            "learner.device = \"gpu\": allowed is cpu, cuda or cuda:N");
  for (const char* name : {"", "cuda:", "cuda:-1", "cuda:1x", "cuda:1000"}) {
    EXPECT_THAT(ErrorOf(absl::StrCat("learner { device: \"", name, "\" }")),
                StartsWith("learner.device = "));
  }
  EXPECT_EQ(
      ErrorOf("learner { bf16: true }"),
      "learner.bf16 = true: allowed is false where learner.device is cpu");
  const std::string fits = "learner { device: \"cuda:7\" bf16: true }";
  EXPECT_TRUE(Resolved(std::string(kCartPole) + fits).learner().bf16());
  EXPECT_EQ(Resolved(kCartPole).learner().device(), "cpu");
}

TEST(ValidateConfig, RelaysHaveAddressesOfTheirOwn) {
  EXPECT_EQ(ErrorOf("actors { relays: 3 }"),
            "actors.relays = 3: allowed is at most actors.count (2)");
  EXPECT_EQ(ErrorOf("actors { relays: 1025 count: 2000 }"),
            "actors.relays = 1025: allowed is 0 to 1024");
  EXPECT_EQ(ErrorOf("cluster { learner: \"h:1\" relays: [\"h:2\", \"h\"] }"),
            "cluster.relays[1] = \"h\": allowed is \"host:port\" or "
            "\"unix:PATH\"");
  EXPECT_EQ(ErrorOf("cluster { learner: \"h:1\" relays: \"h:1\" }"),
            "cluster.relays[0] = \"h:1\": allowed is another address than "
            "cluster.learner");
  EXPECT_EQ(ErrorOf("cluster { relays: [\"h:1\", \"h:2\", \"h:1\"] }"),
            "cluster.relays[2] = \"h:1\": allowed is another address than "
            "cluster.relays[0]");
  v1::Config config = Parsed(kCartPole);
  EXPECT_EQ(SetField("actors.weight_codec=INT4", config).message(),
            "actors.weight_codec = INT4: allowed is FP32, BF16, INT8");
  EXPECT_EQ(SetField("actors.weight_codec=INT8", config), absl::OkStatus());
  EXPECT_EQ(config.actors().weight_codec(), v1::INT8);
}

TEST(ValidateConfig, RefusesANetworkThatDoesNotFitTheObservation) {
  EXPECT_EQ(ErrorOf("network { convolutions {} }"),
            "network.convolutions = 1 layers: allowed is none for the "
            "observation float32[4]: it is not [height, width] or [channels, "
            "height, width]");
}

TEST(ValidateConfig, RefusesNumbersThatAreNotFinite) {
  EXPECT_EQ(ErrorOf("replay { alpha: nan }"),
            "replay.alpha = nan: allowed is a finite number, 0 to 4");
  EXPECT_EQ(ErrorOf("stop { mean_return: nan }"),
            "stop.mean_return = nan: allowed is a finite number");
  EXPECT_EQ(ErrorOf("stop { max_seconds: inf }"),
            "stop.max_seconds = inf: allowed is a finite number, at least 0");
}

TEST(ValidateConfig, ChecksWhatBelongsTogether) {
  EXPECT_EQ(ErrorOf("replay { max_items: 500 min_items: 501 }"),
            "replay.min_items = 501: allowed is at most 500, what "
            "replay.max_items = 500 holds on 2 of 2 shards");
  EXPECT_EQ(ErrorOf("replay { max_items: 1000 min_items: 501 }"
                    "actors { count: 1 environments: 1 }"),
            "replay.min_items = 501: allowed is at most 500, what "
            "replay.max_items = 1000 holds on 1 of 2 shards");
  EXPECT_EQ(ErrorOf("replay { shards: 100 max_items: 64 min_items: 1 }"),
            "replay.max_items = 64: allowed is at least replay.shards (100)");
  EXPECT_EQ(ErrorOf("replay { max_items: 64 min_items: 1 }"
                    "learner { batch_size: 65 }"),
            "learner.batch_size = 65: allowed is at most replay.max_items "
            "(64)");
  EXPECT_THAT(ErrorOf("replay { priority_epsilon: 0 }"),
              StartsWith("replay.priority_epsilon = 0: allowed is more than 0 "
                         "where replay.alpha is"));
  EXPECT_EQ(ErrorOf("optimizer { adam { beta2: 1 } }"),
            "optimizer.adam.beta2 = 1: allowed is 0 to below 1");
  EXPECT_EQ(ErrorOf("optimizer { rmsprop { decay: 1 } }"),
            "optimizer.rmsprop.decay = 1: allowed is 0 to below 1");
  EXPECT_EQ(ErrorOf("actors { batch_bytes: 4194304"
                    "  max_unacknowledged_bytes: 65536 }"),
            "actors.batch_bytes = 4194304: allowed is at most "
            "actors.max_unacknowledged_bytes (65536)");
  EXPECT_EQ(ErrorOf("replay { max_bytes: 65536 }"),
            "replay.max_bytes = 65536: allowed is at least 7537256, for "
            "replay.max_items = 100000 and the steps of replay.min_items = "
            "1000");
}

TEST(ValidateConfig, UniformReplayNeedsNoPriorityEpsilon) {
  v1::Config config = Resolved(std::string(kCartPole) +
                               "replay { alpha: 0 priority_epsilon: 0 }");
  EXPECT_EQ(config.replay().table().selector().epsilon(), 0);
}

TEST(ValidateConfig, NamesTheKnownEnvironments) {
  v1::Config config;
  const std::string known = absl::StrJoin(EnvironmentIds(), ", ");
  EXPECT_THAT(known, testing::HasSubstr("CartPole-v1, Catch-v0"));
  EXPECT_EQ(ResolveConfig(config).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ResolveConfig(config).message(),
            absl::StrCat("environment.id is not set: allowed is ", known));
  config.mutable_environment()->set_id("Pong");
  EXPECT_EQ(ResolveConfig(config).message(),
            absl::StrCat("environment.id = \"Pong\": allowed is ", known));
}

TEST(LoadConfig, AppliesSetsBeforeItResolves) {
  TempFile file(kCartPole);
  absl::StatusOr<v1::Config> config =
      LoadConfig(file.path(), {"replay.shards=4", "seed=9"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->seed(), 9u);
  EXPECT_EQ(config->replay().table().max_items(), 25000u);
}

TEST(LoadConfig, DerivesAnewFromAResolvedConfig) {
  TempFile file(ConfigText(Resolved(kCartPole)));
  absl::StatusOr<v1::Config> config =
      LoadConfig(file.path(), {"replay.shards=4", "learner.batch_size=512"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->replay().tolerance(), 2048);
  EXPECT_EQ(config->replay().table().max_items(), 25000u);
  EXPECT_EQ(config->replay().table().rate_limiter().tolerance(), 2048);
}

TEST(LoadConfig, KeepsTheUsersTableAndTolerance) {
  v1::Config mine =
      Resolved(std::string(kCartPole) + "replay { tolerance: 100 }");
  mine.mutable_replay()->mutable_table()->set_max_items(77);
  TempFile file(ConfigText(mine));
  absl::StatusOr<v1::Config> config =
      LoadConfig(file.path(), {"replay.shards=4"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->replay().tolerance(), 100);
  EXPECT_EQ(config->replay().table().max_items(), 77u);
}

TEST(LoadConfig, SaysWhichFileCannotBeRead) {
  absl::Status status = LoadConfig("/no/such.txtpb", {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("cannot open /no/such.txtpb"));
  EXPECT_FALSE(LoadConfig(::testing::TempDir(), {}).ok());
}

TEST(Configs, AllThatAreShippedLoad) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::string(QFLEET_SOURCE_DIR) + "/configs")) {
    if (entry.path().extension() != ".txtpb") continue;
    absl::StatusOr<v1::Config> config = LoadConfig(entry.path().string(), {});
    EXPECT_TRUE(config.ok()) << entry.path() << ": " << config.status();
    ++count;
  }
  EXPECT_GE(count, 1);
}

}  // namespace
}  // namespace qfleet
