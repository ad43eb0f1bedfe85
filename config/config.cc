#include "config/config.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/files.h"
#include "common/status_macros.h"
#include "common/table_layout.h"
#include "common/table_spec.h"
#include "config/fields.h"
#include "envs/registry.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"

namespace qfleet {
namespace {

// Of all actors: their numbers are 32-bit.
constexpr int64_t kMaxEnvironments = int64_t{1} << 30;

// Keeps the first error, in our words.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  explicit FirstError(std::string name) : name_(std::move(name)) {}

  void AddError(int line, int column, const std::string& message) override {
    if (!text_.empty()) return;
    text_ = absl::StrCat(name_, ":", line + 1, ":", column + 1, ": ",
                         Reword(message));
  }

  const std::string& text() const { return text_; }

 private:
  // 'Message type "T" has no field named "f".' becomes a list of T's fields.
  static std::string Reword(const std::string& message) {
    std::vector<std::string> parts = absl::StrSplit(message, '"');
    if (parts.size() == 5 && parts[2] == " has no field named ") {
      const auto* type = google::protobuf::DescriptorPool::generated_pool()
                             ->FindMessageTypeByName(parts[1]);
      if (type != nullptr) {
        return absl::StrCat("unknown field \"", parts[3], "\": allowed is ",
                            FieldNames(*type));
      }
    }
    return absl::StrReplaceAll(message, {{"\n", " "}});
  }

  const std::string name_;
  std::string text_;
};

double ToleranceFor(const v1::Config& config) {
  const v1::ReplayConfig& replay = config.replay();
  if (replay.has_tolerance()) return replay.tolerance();
  const double round = static_cast<double>(config.actors().count()) *
                       config.actors().environments();
  return std::max(
      4.0 * config.learner().batch_size() * config.learner().count(),
      2 * round * replay.samples_per_insert());
}

uint64_t ShareOf(uint64_t total, int32_t shards) {
  return total / shards + (total % shards != 0 ? 1 : 0);
}

v1::TensorSpec Scalar(const std::string& name, v1::DType dtype) {
  v1::TensorSpec spec;
  spec.set_name(name);
  spec.set_dtype(dtype);
  return spec;
}

void AddView(const std::string& name, const std::string& column,
             v1::View::Anchor anchor, int stack,
             v1::TableSignature& signature) {
  v1::View* view = signature.add_views();
  view->set_name(name);
  view->set_column(column);
  view->set_anchor(anchor);
  view->set_stack(stack);
}

bool HasEnvironment(const v1::Config& config) {
  return config.environment().has_id() ||
         config.environment().kind_case() >= v1::EnvironmentConfig::kGymnasium;
}

absl::Status CheckReplay(const v1::Config& config) {
  const v1::ReplayConfig& replay = config.replay();
  if (replay.max_items() < static_cast<uint64_t>(replay.shards())) {
    return NotAllowed(
        "replay.max_items", absl::StrCat(replay.max_items()),
        absl::StrCat("at least replay.shards (", replay.shards(), ")"));
  }
  // A stream lives on one shard: with fewer streams than shards, some stay
  // empty, and the cluster never holds more than the others' share.
  const int64_t streams = static_cast<int64_t>(config.actors().count()) *
                          config.actors().environments();
  const uint64_t used = std::min<int64_t>(streams, replay.shards());
  const uint64_t room = replay.max_items() * used / replay.shards();
  if (replay.min_items() > room) {
    return NotAllowed(
        "replay.min_items", absl::StrCat(replay.min_items()),
        absl::StrCat("at most ", room,
                     ", what replay.max_items = ", replay.max_items(),
                     " holds on ", used, " of ", replay.shards(), " shards"));
  }
  if (replay.alpha() > 0 && replay.priority_epsilon() == 0) {
    return NotAllowed("replay.priority_epsilon", "0",
                      "more than 0 where replay.alpha is: an item with a TD "
                      "error of 0 would never be sampled again");
  }
  return absl::OkStatus();
}

// Whether the machine has it, the learner says.
absl::Status CheckDevice(const v1::LearnerConfig& learner) {
  absl::string_view number = learner.device();
  int index = 0;
  if (learner.device() != "cpu" && learner.device() != "cuda" &&
      !(absl::ConsumePrefix(&number, "cuda:") && number.size() <= 3 &&
        absl::c_all_of(number, absl::ascii_isdigit) &&
        absl::SimpleAtoi(number, &index))) {
    return NotAllowed("learner.device",
                      absl::StrCat("\"", learner.device(), "\""),
                      "cpu, cuda or cuda:N");
  }
  if (learner.bf16() && learner.device() == "cpu") {
    return NotAllowed("learner.bf16", "true",
                      "false where learner.device is cpu");
  }
  return absl::OkStatus();
}

absl::Status CheckLearnerAndActors(const v1::Config& config) {
  const uint64_t batch = config.learner().batch_size();
  if (batch > config.replay().max_items()) {
    return NotAllowed("learner.batch_size", absl::StrCat(batch),
                      absl::StrCat("at most replay.max_items (",
                                   config.replay().max_items(), ")"));
  }
  // At 1 Adam's bias correction divides by zero, and a running mean stays 0.
  const v1::OptimizerConfig& optimizer = config.optimizer();
  for (const auto& [name, beta] :
       {std::pair("optimizer.adam.beta1", optimizer.adam().beta1()),
        std::pair("optimizer.adam.beta2", optimizer.adam().beta2()),
        std::pair("optimizer.rmsprop.decay", optimizer.rmsprop().decay())}) {
    if (beta >= 1) return NotAllowed(name, NumberText(beta), "0 to below 1");
  }
  QFLEET_RETURN_IF_ERROR(CheckDevice(config.learner()));
  const v1::ActorsConfig& actors = config.actors();
  if (int64_t{actors.count()} * actors.environments() > kMaxEnvironments) {
    return NotAllowed("actors.environments",
                      absl::StrCat(actors.environments()),
                      absl::StrCat("at most ", kMaxEnvironments,
                                   " with those of all actors"));
  }
  if (actors.batch_bytes() > actors.max_unacknowledged_bytes()) {
    return NotAllowed("actors.batch_bytes", absl::StrCat(actors.batch_bytes()),
                      absl::StrCat("at most actors.max_unacknowledged_bytes (",
                                   actors.max_unacknowledged_bytes(), ")"));
  }
  return absl::OkStatus();
}

// Each relay has an address of its own.
absl::Status CheckRelays(const v1::Config& config) {
  if (config.actors().relays() > config.actors().count()) {
    return NotAllowed(
        "actors.relays", absl::StrCat(config.actors().relays()),
        absl::StrCat("at most actors.count (", config.actors().count(), ")"));
  }
  const auto& relays = config.cluster().relays();
  for (int i = 0; i < relays.size(); ++i) {
    const std::string field = absl::StrCat("cluster.relays[", i, "]");
    const std::string value = absl::StrCat("\"", relays[i], "\"");
    if (!absl::StrContains(relays[i], ':')) {
      return NotAllowed(field, value, "\"host:port\" or \"unix:PATH\"");
    }
    if (relays[i] == config.cluster().learner()) {
      return NotAllowed(field, value, "another address than cluster.learner");
    }
    for (int j = 0; j < i; ++j) {
      if (relays[i] == relays[j]) {
        return NotAllowed(
            field, value,
            absl::StrCat("another address than cluster.relays[", j, "]"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckAlgorithm(const v1::Config& config) {
  const v1::AlgorithmConfig& algorithm = config.algorithm();
  const v1::RainbowConfig& rainbow = algorithm.rainbow();
  const bool atoms = algorithm.has_rainbow() && rainbow.distributional();
  if (atoms) {
    for (const auto& [name, set] : {std::pair("v_min", rainbow.has_v_min()),
                                    std::pair("v_max", rainbow.has_v_max())}) {
      if (set) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "algorithm.rainbow.", name,
          " is not set: allowed is a bound of the returns (of what gamma and "
          "the rewards give), or algorithm.rainbow.distributional = false"));
    }
    if (rainbow.v_min() >= rainbow.v_max()) {
      return NotAllowed("algorithm.rainbow.v_min", NumberText(rainbow.v_min()),
                        absl::StrCat("less than algorithm.rainbow.v_max (",
                                     NumberText(rainbow.v_max()), ")"));
    }
  }
  if (algorithm.value_rescaling() && algorithm.reward_clip() > 0) {
    return NotAllowed("algorithm.value_rescaling", "true",
                      "false where algorithm.reward_clip is more than 0");
  }
  if (algorithm.value_rescaling() && atoms) {
    return NotAllowed("algorithm.value_rescaling", "true",
                      "false with the fixed support of "
                      "algorithm.rainbow.distributional");
  }
  if (config.network().noisy() && config.actors().epsilon_decay_steps() > 0) {
    return NotAllowed("actors.epsilon_decay_steps",
                      absl::StrCat(config.actors().epsilon_decay_steps()),
                      "0 with network.noisy, which explores instead");
  }
  if (algorithm.i_dqn().networks() > 1 && algorithm.has_i_dqn() &&
      algorithm.target_tau() != 1) {
    return NotAllowed("algorithm.target_tau",
                      NumberText(algorithm.target_tau()),
                      "1 with algorithm.i_dqn.networks of more than 1: a chain "
                      "moves on by whole networks");
  }
  if (config.network().noisy() && config.actors().epsilon_base() > 0) {
    return NotAllowed("actors.epsilon_base",
                      NumberText(config.actors().epsilon_base()),
                      "0 with network.noisy, which explores instead");
  }
  return absl::OkStatus();
}

// That the convolutions fit the observation.
absl::Status CheckNetwork(const v1::NetworkConfig& network,
                          const v1::TensorSpec& observation) {
  if (network.convolutions().empty()) return absl::OkStatus();
  const int rank = observation.shape_size();
  if (rank != 2 && rank != 3) {
    return NotAllowed(
        "network.convolutions",
        absl::StrCat(network.convolutions_size(), " layers"),
        absl::StrCat("none for the observation ", TensorTypeName(observation),
                     ": it is not [height, width] or [channels, height, "
                     "width]"));
  }
  int64_t height = observation.shape(rank - 2);
  int64_t width = observation.shape(rank - 1);
  for (int i = 0; i < network.convolutions_size(); ++i) {
    const v1::ConvolutionConfig& layer = network.convolutions(i);
    if (layer.kernel() > std::min(height, width)) {
      return NotAllowed(
          absl::StrCat("network.convolutions[", i, "].kernel"),
          absl::StrCat(layer.kernel()),
          absl::StrCat("at most ", std::min(height, width),
                       ", as this layer's input is ", height, " x ", width));
    }
    height = (height - layer.kernel()) / layer.stride() + 1;
    width = (width - layer.kernel()) / layer.stride() + 1;
  }
  return absl::OkStatus();
}

absl::Status CheckNetworkFits(const v1::Config& config) {
  QFLEET_ASSIGN_OR_RETURN(const EnvironmentSpec spec,
                          SpecOf(config.environment()));
  return CheckNetwork(config.network(), StackedObservation(spec));
}

// That a shard's ring of steps has room for its share of min_items, an item
// having a step at least, beside what two batches overwrite.
absl::Status CheckBytes(const v1::Config& config, const v1::TableSpec& table) {
  const v1::ReplayConfig& replay = config.replay();
  const int64_t streams = static_cast<int64_t>(config.actors().count()) *
                          config.actors().environments();
  const auto used =
      static_cast<int32_t>(std::min<int64_t>(streams, replay.shards()));
  const uint64_t share = ShareOf(replay.min_items(), used);
  const uint64_t steps =
      share + share / 4 +
      2 * static_cast<uint64_t>(config.actors().batch_steps()) +
      TableLayout::kMinSteps;
  const double least =
      BytesFor(table, static_cast<double>(steps)) * replay.shards();
  if (static_cast<double>(replay.max_bytes()) >= least) {
    return absl::OkStatus();
  }
  return NotAllowed(
      "replay.max_bytes", absl::StrCat(replay.max_bytes()),
      absl::StrCat(
          "at least ", NumberText(least),
          ", for replay.max_items = ", replay.max_items(),
          " and the steps of replay.min_items = ", replay.min_items()));
}

// Tables that are given rather than derived.
absl::Status CheckTables(const v1::ReplayConfig& replay) {
  std::vector<std::pair<std::string, const v1::TableSpec*>> tables;
  if (replay.has_table()) tables.emplace_back("replay.table", &replay.table());
  for (int t = 0; t < replay.more_tables_size(); ++t) {
    tables.emplace_back(absl::StrCat("replay.more_tables[", t, "]"),
                        &replay.more_tables(t));
  }
  for (const auto& [path, table] : tables) {
    QFLEET_RETURN_IF_ERROR(ValidateTableSpec(*table, path));
    absl::Status status = StepCapacity(*table).status();
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ".", status.message()));
    }
  }
  return absl::OkStatus();
}

// A queue that can never hold a batch: a run in one process would wait for
// ever, and a learner collect it in parts.
absl::Status CheckQueue(const v1::Config& config) {
  const v1::TableSpec& table = config.replay().table();
  if (table.selector().kind() != v1::Selector::FIFO) return absl::OkStatus();
  const uint64_t most = static_cast<uint64_t>(config.replay().shards()) *
                        table.max_items() *
                        std::max(1u, table.selector().max_times_sampled());
  const uint64_t batch = config.learner().batch_size();
  if (batch <= most) return absl::OkStatus();
  return NotAllowed(
      "learner.batch_size", absl::StrCat(batch),
      absl::StrCat("at most ", most, ", what the queues of replay.table hold"));
}

// Defaults that depend on other fields.
void FillAlgorithmDefaults(v1::Config& config) {
  v1::NetworkConfig& network = *config.mutable_network();
  if (config.algorithm().has_rainbow()) {
    if (!network.has_noisy()) network.set_noisy(true);
    if (!config.replay().has_alpha()) config.mutable_replay()->set_alpha(0.5);
  }
  if (network.noisy() && !config.actors().has_epsilon_base()) {
    config.mutable_actors()->set_epsilon_base(0);
  }
  if (network.hidden().empty()) {
    const int layers = network.convolutions().empty() ? 2 : 1;
    for (int i = 0; i < layers; ++i) network.add_hidden(128);
  }
}

// Asks the environment what it looks like, so that nobody has to ask it again.
// A built-in one is asked at any time.
absl::Status FillSpec(v1::Config& config) {
  v1::EnvironmentConfig& environment = *config.mutable_environment();
  if (environment.has_id() || !HasEnvironment(config)) {
    environment.clear_spec();
    return absl::OkStatus();
  }
  if (environment.has_spec()) return absl::OkStatus();
  QFLEET_RETURN_IF_ERROR(CheckRanges(environment));
  QFLEET_ASSIGN_OR_RETURN(const EnvironmentSpec spec, SpecOf(environment));
  v1::EnvironmentSpec& filled = *environment.mutable_spec();
  *filled.mutable_observation() = spec.observation;
  filled.set_num_actions(spec.num_actions);
  filled.set_has_action_mask(spec.has_action_mask);
  return absl::OkStatus();
}

// Forgets what ResolveConfig derived, so that a resolved config can be changed
// and resolved again: a table or a tolerance that is just what the rest of the
// config gives is not a choice of the user's.
void ForgetDerived(v1::Config& config) {
  if (!CheckRanges(config).ok()) return;  // Its error comes later.
  v1::ActorsConfig& actors = *config.mutable_actors();
  const double epsilon =
      config.network().noisy() ? 0 : v1::ActorsConfig().epsilon_base();
  if (actors.epsilon_base() == epsilon) actors.clear_epsilon_base();
  v1::ReplayConfig& replay = *config.mutable_replay();
  if (replay.has_tolerance()) {
    const double tolerance = replay.tolerance();
    replay.clear_tolerance();
    if (tolerance != ToleranceFor(config)) replay.set_tolerance(tolerance);
  }
  if (!replay.has_table()) return;
  absl::StatusOr<v1::TableSpec> table = TableFor(config);
  if (table.ok() && google::protobuf::util::MessageDifferencer::Equals(
                        *table, replay.table())) {
    replay.clear_table();
  }
}

}  // namespace

absl::StatusOr<v1::Config> LoadConfig(const std::string& path,
                                      absl::Span<const std::string> sets) {
  QFLEET_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  QFLEET_ASSIGN_OR_RETURN(v1::Config config, ParseConfig(text, path));
  if (!sets.empty()) ForgetDerived(config);
  for (const std::string& assignment : sets) {
    // Another environment looks different.
    if (absl::StartsWith(assignment, "environment.") &&
        !absl::StartsWith(assignment, "environment.spec.")) {
      config.mutable_environment()->clear_spec();
    }
    QFLEET_RETURN_IF_ERROR(SetField(assignment, config));
  }
  QFLEET_RETURN_IF_ERROR(ResolveConfig(config));
  return config;
}

absl::StatusOr<v1::Config> ParseConfig(const std::string& text,
                                       const std::string& name) {
  FirstError error(name);
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  v1::Config config;
  if (!parser.ParseFromString(text, &config)) {
    return absl::InvalidArgumentError(error.text());
  }
  return config;
}

absl::Status ResolveConfig(v1::Config& config) {
  FillAlgorithmDefaults(config);
  FillDefaults(config);
  QFLEET_RETURN_IF_ERROR(FillSpec(config));
  QFLEET_RETURN_IF_ERROR(ValidateConfig(config));
  config.mutable_replay()->set_tolerance(ToleranceFor(config));
  if (!config.replay().has_table()) {
    QFLEET_ASSIGN_OR_RETURN(*config.mutable_replay()->mutable_table(),
                            TableFor(config));
  }
  return absl::OkStatus();
}

absl::Status ValidateConfig(const v1::Config& config) {
  QFLEET_RETURN_IF_ERROR(CheckRanges(config));
  QFLEET_RETURN_IF_ERROR(CheckReplay(config));
  QFLEET_RETURN_IF_ERROR(CheckLearnerAndActors(config));
  QFLEET_RETURN_IF_ERROR(CheckRelays(config));
  QFLEET_RETURN_IF_ERROR(CheckAlgorithm(config));
  QFLEET_RETURN_IF_ERROR(CheckTables(config.replay()));
  if (config.replay().has_table()) {
    // A table for a learner of someone else's needs no environment of ours.
    if (!HasEnvironment(config)) return absl::OkStatus();
    QFLEET_RETURN_IF_ERROR(CheckQueue(config));
  }
  QFLEET_RETURN_IF_ERROR(CheckNetworkFits(config));
  if (config.replay().has_table()) return absl::OkStatus();
  QFLEET_ASSIGN_OR_RETURN(v1::TableSpec table, TableFor(config));
  QFLEET_RETURN_IF_ERROR(ValidateTableSpec(table, "replay.table"));
  return CheckBytes(config, table);
}

std::string ConfigText(const v1::Config& config) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(config, &text);
  return text;
}

absl::StatusOr<v1::TableSpec> TableFor(const v1::Config& config) {
  QFLEET_ASSIGN_OR_RETURN(const EnvironmentSpec spec,
                          SpecOf(config.environment()));
  const v1::ReplayConfig& replay = config.replay();
  v1::TableSpec table;
  table.set_name("replay");
  v1::TableSignature& signature = *table.mutable_signature();
  *signature.add_step_columns() = spec.observation;
  *signature.add_item_columns() = Scalar("action", v1::INT32);
  *signature.add_item_columns() = Scalar("return", v1::FLOAT32);
  *signature.add_item_columns() = Scalar("discount", v1::FLOAT32);
  const std::string& observation = spec.observation.name();
  AddView("observation", observation, v1::View::FIRST, spec.frame_stack,
          signature);
  AddView("next_observation", observation, v1::View::LAST, spec.frame_stack,
          signature);
  if (spec.has_action_mask) {
    v1::TensorSpec& mask = *signature.add_step_columns();
    mask = Scalar("action_mask", v1::UINT8);
    mask.add_shape(spec.num_actions);
    AddView("next_action_mask", mask.name(), v1::View::LAST, /*stack=*/1,
            signature);
  }
  table.mutable_selector()->set_kind(v1::Selector::PRIORITIZED);
  table.mutable_selector()->set_alpha(replay.alpha());
  table.mutable_selector()->set_epsilon(replay.priority_epsilon());
  table.set_remover(v1::FIFO);
  table.set_max_items(ShareOf(replay.max_items(), replay.shards()));
  table.set_max_bytes(ShareOf(replay.max_bytes(), replay.shards()));
  v1::RateLimiter& limiter = *table.mutable_rate_limiter();
  limiter.set_samples_per_insert(replay.samples_per_insert());
  limiter.set_tolerance(ToleranceFor(config));
  limiter.set_min_size(replay.min_items());
  return table;
}

}  // namespace qfleet
