#include "actor/run.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <iostream>
#include <memory>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "actor/actor.h"
#include "actor/evaluator.h"
#include "actor/explorer.h"
#include "actor/policy.h"
#include "common/checkpoint_file.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/table_spec.h"
#include "config/config.h"
#include "envs/registry.h"
#include "model/weight_layout.h"
#include "nlohmann/json.hpp"
#include "replay_client/remote_writer.h"
#include "spdlog/spdlog.h"
#include "weights/publication.h"
#include "weights/weight_subscriber.h"

namespace qfleet {
namespace {

constexpr absl::Duration kReportPeriod = absl::Milliseconds(250);
constexpr absl::Duration kFlushGrace = absl::Milliseconds(500);

struct ActorMetrics {
  explicit ActorMetrics(Metrics& metrics)
      : env_steps(metrics.Counter("qfleet_actor_env_steps_total",
                                  "Environment steps taken.")),
        episodes(
            metrics.Counter("qfleet_actor_episodes_total", "Episodes ended.")),
        episodes_lost(metrics.Counter(
            "qfleet_actor_episodes_lost_total",
            "Episodes cut because their environment's process was lost.")),
        items(metrics.Counter("qfleet_actor_items_stored_total",
                              "Items that shards acknowledged as stored.")),
        skipped(metrics.Counter("qfleet_actor_items_skipped_total",
                                "Items whose steps a shard did not hold.")),
        items_dropped(
            metrics.Counter("qfleet_actor_items_dropped_total",
                            "Items dropped because their shard was away.")),
        items_unconfirmed(metrics.Counter(
            "qfleet_actor_items_unconfirmed_total",
            "Items acknowledged by a reconnect, which does not tell stored "
            "from skipped ones.")),
        steps_dropped(metrics.Counter(
            "qfleet_actor_steps_dropped_total",
            "Steps of episodes given up because their shard was away.")),
        reconnects(metrics.Counter("qfleet_actor_writer_reconnects_total",
                                   "Append streams opened again.")),
        waited(metrics.Counter(
            "qfleet_actor_writer_wait_seconds_total",
            "Time spent waiting for shards to take more data.")),
        unacknowledged(metrics.Gauge("qfleet_actor_unacknowledged_bytes",
                                     "Sent or to be sent, not acknowledged.")),
        shards(metrics.Gauge("qfleet_actor_shards_connected",
                             "Replay shards connected.")),
        all_shards(metrics.Gauge("qfleet_actor_shards",
                                 "Replay shards of the cluster.")),
        learner(metrics.Gauge("qfleet_actor_learner_connected",
                              "1 while weights come from the learner or its "
                              "relay, else 0.")),
        version(metrics.Gauge("qfleet_actor_policy_version",
                              "Policy version in use.")),
        age(metrics.Gauge("qfleet_actor_policy_age_seconds",
                          "Time since the policy in use was received.")) {}

  prometheus::Counter& env_steps;
  prometheus::Counter& episodes;
  prometheus::Counter& episodes_lost;
  prometheus::Counter& items;
  prometheus::Counter& skipped;
  prometheus::Counter& items_dropped;
  prometheus::Counter& items_unconfirmed;
  prometheus::Counter& steps_dropped;
  prometheus::Counter& reconnects;
  prometheus::Counter& waited;
  prometheus::Gauge& unacknowledged;
  prometheus::Gauge& shards;
  prometheus::Gauge& all_shards;
  prometheus::Gauge& learner;
  prometheus::Gauge& version;
  prometheus::Gauge& age;
};

void Raise(auto total, prometheus::Counter& counter) {
  RaiseTo(static_cast<double>(total), counter);
}

void Export(const ActorStats& actor, ActorMetrics& metrics) {
  Raise(actor.env_steps, metrics.env_steps);
  Raise(actor.episodes, metrics.episodes);
  Raise(actor.episodes_lost, metrics.episodes_lost);
}

void Export(const WriterStats& writer, ActorMetrics& metrics) {
  Raise(writer.items_stored, metrics.items);
  Raise(writer.items_skipped, metrics.skipped);
  Raise(writer.items_dropped, metrics.items_dropped);
  Raise(writer.items_unconfirmed, metrics.items_unconfirmed);
  Raise(writer.steps_dropped, metrics.steps_dropped);
  Raise(writer.reconnects, metrics.reconnects);
  Raise(writer.waited_seconds, metrics.waited);
  metrics.unacknowledged.Set(static_cast<double>(writer.unacknowledged_bytes));
  metrics.shards.Set(writer.shards_connected);
}

// Runs `collect` before each scrape, in its thread, for as long as this lives:
// what an actor waits for is seen while it waits.
class ScopedCollector {
 public:
  ScopedCollector(Metrics& metrics, std::function<void()> collect)
      : state_(std::make_shared<State>()) {
    state_->collect = std::move(collect);
    metrics.OnScrape([state = state_] {
      absl::MutexLock lock(&state->mutex);
      if (state->collect) state->collect();
    });
  }
  ~ScopedCollector() {
    absl::MutexLock lock(&state_->mutex);
    state_->collect = nullptr;
  }

 private:
  struct State {
    absl::Mutex mutex;
    std::function<void()> collect ABSL_GUARDED_BY(mutex);
  };
  const std::shared_ptr<State> state_;
};

absl::StatusOr<std::shared_ptr<const Network>> MakeNetwork(
    const v1::Config& config, v1::TensorSpec* observation) {
  QFLEET_ASSIGN_OR_RETURN(const EnvironmentSpec environment,
                          SpecOf(config.environment()));
  *observation = StackedObservation(environment);
  return Network::Make(config, environment);
}

WeightSubscriberOptions SubscriptionTo(const std::string& address,
                                       std::shared_ptr<const Network> network,
                                       const std::string& role,
                                       v1::WeightCodec codec) {
  return {.address = address,
          .network = network->signature(),
          .role = role,
          .codec = codec,
          .check =
              [network](const v1::Publication& publication) {
                return CheckPublication(publication, *network);
              },
          .on_publication = nullptr};
}

// Of actor `index`: to its relay, where there are relays.
WeightSubscriberOptions SubscriptionOf(const v1::Config& config, int index,
                                       std::shared_ptr<const Network> network) {
  const v1::ClusterConfig& cluster = config.cluster();
  return SubscriptionTo(
      cluster.relays().empty() ? cluster.learner()
                               : cluster.relays(index % cluster.relays_size()),
      std::move(network), "actor", config.actors().weight_codec());
}

WriterOptions WriterOptionsFor(const v1::Config& config, int index) {
  WriterOptions options;
  options.table = config.replay().table().name();
  options.signature = config.replay().table().signature();
  options.shards.assign(config.cluster().replay().begin(),
                        config.cluster().replay().end());
  options.first_stream = index * config.actors().environments();
  options.batch_bytes = config.actors().batch_bytes();
  options.batch_steps = config.actors().batch_steps();
  options.batch_age = absl::Milliseconds(config.actors().batch_ms());
  options.max_unacknowledged_bytes = config.actors().max_unacknowledged_bytes();
  options.max_unacknowledged_steps = config.actors().max_unacknowledged_steps();
  return options;
}

// Ends the writer's waits when a shutdown is requested, for as long as it
// lives.
class StopOnShutdown {
 public:
  StopOnShutdown(ShutdownSignal& shutdown, RemoteWriter& writer)
      : thread_([this, &shutdown, &writer] {
          while (!ended_.load() && !shutdown.WaitFor(absl::Milliseconds(100))) {
          }
          // What is on its way has this long to be acknowledged. When the
          // whole run ends nobody samples, the rate limiter takes nothing
          // more, and waiting longer would help nobody.
          const absl::Time last = absl::Now() + kFlushGrace;
          while (!ended_.load() && absl::Now() < last) {
            absl::SleepFor(absl::Milliseconds(20));
          }
          writer.Stop();
        }) {}
  ~StopOnShutdown() {
    ended_.store(true);
    thread_.join();
  }

 private:
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

}  // namespace

absl::Status RunActor(const v1::Config& config, int index,
                      ShutdownSignal& shutdown, Metrics& metrics) {
  v1::TensorSpec observation;
  QFLEET_ASSIGN_OR_RETURN(std::shared_ptr<const Network> network,
                          MakeNetwork(config, &observation));
  const uint64_t seed = MixSeed(config.seed(), 1 + index);
  QFLEET_ASSIGN_OR_RETURN(
      std::vector<std::unique_ptr<VectorEnvironment>> environments,
      MakeVectorEnvironments(config.environment(),
                             {.count = config.actors().environments(),
                              .seed = MixSeed(seed, 1),
                              .actor = index},
                             config.actors().groups()));
  ActorMetrics exported(metrics);
  exported.all_shards.Set(config.cluster().replay_size());
  WeightSubscriber weights(SubscriptionOf(config, index, network));
  std::unique_ptr<RemoteWriter> writer =
      MakeRemoteWriter(WriterOptionsFor(config, index));
  StopOnShutdown stop(shutdown, *writer);
  Policy policy(network, observation);
  policy.Explore(MixSeed(seed, 3));
  Actor actor(config.algorithm(), std::move(environments),
              Explorer::Ladder(config.actors(), index, MixSeed(seed, 2)),
              policy, *writer);

  // When the policy in use came, in Unix nanoseconds.
  std::atomic<int64_t> received = absl::GetCurrentTimeNanos();
  const auto policy_age = [&received] {
    return absl::ToDoubleSeconds(absl::Now() -
                                 absl::FromUnixNanos(received.load()));
  };
  const ScopedCollector collector(metrics, [&] {
    Export(writer->Stats(), exported);
    exported.learner.Set(weights.connected() ? 1 : 0);
    exported.age.Set(policy_age());
  });
  absl::Time reported;
  while (!shutdown.requested()) {
    // Blocks only until there is a first policy.
    QFLEET_ASSIGN_OR_RETURN(
        std::shared_ptr<const v1::Publication> newest,
        weights.WaitNewest(policy.version(), policy.version() == 0
                                                 ? absl::Milliseconds(100)
                                                 : absl::ZeroDuration()));
    if (newest != nullptr) {
      if (policy.version() == 0) {
        spdlog::info("acting from policy version {}", newest->version());
        actor.SkipSchedule(newest->env_steps() / config.actors().count());
      }
      QFLEET_RETURN_IF_ERROR(policy.SetWeights(*newest));
      received = absl::GetCurrentTimeNanos();
    }
    if (policy.version() == 0) continue;
    absl::Status status = actor.Step();
    if (!status.ok() && shutdown.requested()) break;
    QFLEET_RETURN_IF_ERROR(status);
    const absl::Time now = absl::Now();
    if (now - reported < kReportPeriod) continue;
    reported = now;
    v1::SubscribeRequest progress;
    progress.set_env_steps(actor.stats().env_steps);
    progress.set_episodes(actor.stats().episodes);
    progress.set_return_sum(actor.stats().return_sum);
    progress.set_policy_version(policy.version());
    progress.set_policy_age_seconds(policy_age());
    weights.Report(progress);
    exported.version.Set(static_cast<double>(policy.version()));
    Export(actor.stats(), exported);
  }
  absl::Status flushed = writer->Flush();
  if (!flushed.ok()) {
    spdlog::warn("not everything was acknowledged at the end: {}",
                 std::string(flushed.message()));
  }
  const WriterStats stats = writer->Stats();
  spdlog::info("stopped after {} environment steps, {} items stored",
               actor.stats().env_steps, stats.items_stored);
  return absl::OkStatus();
}

absl::Status RunEvaluator(const v1::Config& config, ShutdownSignal& shutdown,
                          Metrics& metrics) {
  v1::TensorSpec observation;
  QFLEET_ASSIGN_OR_RETURN(std::shared_ptr<const Network> network,
                          MakeNetwork(config, &observation));
  auto& evaluations = metrics.Counter("qfleet_evaluator_evaluations_total",
                                      "Evaluations done.");
  auto& mean_return =
      metrics.Gauge("qfleet_evaluator_mean_return",
                    "Mean return of the last evaluation's greedy episodes.");
  auto& seconds = metrics.Gauge("qfleet_evaluator_duration_seconds",
                                "How long the last evaluation took.");
  WeightSubscriber weights(SubscriptionTo(config.cluster().learner(), network,
                                          "evaluator", v1::FP32));
  Policy policy(network, observation);
  uint64_t next_updates = 1;  // Not the untrained policy.
  uint64_t evaluated_updates = 0;
  while (!shutdown.requested()) {
    QFLEET_ASSIGN_OR_RETURN(
        std::shared_ptr<const v1::Publication> newest,
        weights.WaitNewest(policy.version(), absl::Milliseconds(100)));
    if (newest == nullptr) continue;
    QFLEET_RETURN_IF_ERROR(policy.SetWeights(*newest));
    // A learner that was restarted counts from an earlier update.
    if (newest->updates() < evaluated_updates) next_updates = 1;
    if (newest->updates() < next_updates) continue;
    evaluated_updates = newest->updates();
    next_updates = newest->updates() + config.evaluation().period_updates();
    const absl::Time begun = absl::Now();
    absl::StatusOr<v1::Evaluation> result =
        Evaluate(config, policy, [&shutdown] { return shutdown.requested(); });
    if (!result.ok()) {
      if (absl::IsCancelled(result.status())) break;
      return result.status();
    }
    result->set_updates(newest->updates());
    evaluations.Increment();
    mean_return.Set(result->mean_return());
    seconds.Set(absl::ToDoubleSeconds(absl::Now() - begun));
    v1::EvaluationReport report;
    *report.mutable_evaluation() = *std::move(result);
    *report.mutable_policy() = *newest;
    absl::Status sent = weights.Report(report);
    if (!sent.ok() && !shutdown.requested()) {
      spdlog::warn("evaluation of version {} not delivered: {}",
                   newest->version(), std::string(sent.message()));
    }
  }
  return absl::OkStatus();
}

namespace {

// What a form of the weights changes.
struct CodecResult {
  uint64_t bytes = 0;
  uint64_t fp32_bytes = 0;
  v1::Evaluation fp32;
  Comparison comparison;

  double byte_ratio() const {
    return static_cast<double>(bytes) / static_cast<double>(fp32_bytes);
  }
  // Of the states that the policy under test visited.
  double agreement() const {
    return static_cast<double>(comparison.agreed) /
           static_cast<double>(comparison.states);
  }
  // Of what the greedy actions are worth, by FP32's values.
  double lost_value() const {
    return comparison.lost_value / std::max(comparison.value, 1e-30);
  }
};

nlohmann::ordered_json JsonOf(const EvaluateOptions& options,
                              const v1::Evaluation& result, uint64_t updates) {
  return {{"run_dir", options.run_dir},
          {"policy_version", result.policy_version()},
          {"updates", updates},
          {"episodes", result.episodes()},
          {"mean_return", result.mean_return()},
          {"median_return", result.median_return()},
          {"min_return", result.min_return()},
          {"max_return", result.max_return()},
          {"mean_length", result.mean_length()}};
}

void PrintResult(const EvaluateOptions& options, const v1::Evaluation& result,
                 uint64_t updates, const CodecResult* codec) {
  const std::string name = v1::WeightCodec_Name(options.codec);
  if (options.json) {
    nlohmann::ordered_json line = JsonOf(options, result, updates);
    if (codec != nullptr) {
      line["codec"] = name;
      line["byte_ratio"] = codec->byte_ratio();
      line["fp32_mean_return"] = codec->fp32.mean_return();
      line["states"] = codec->comparison.states;
      line["agreement"] = codec->agreement();
      line["lost_value"] = codec->lost_value();
    }
    std::cout << line.dump() << std::endl;
    return;
  }
  std::cout << absl::StrFormat(
      "mean return %.2f over %d greedy episodes (median %.1f, %.0f to %.0f; "
      "mean length %.1f), policy version %d after %d updates\n",
      result.mean_return(), result.episodes(), result.median_return(),
      result.min_return(), result.max_return(), result.mean_length(),
      result.policy_version(), updates);
  if (codec == nullptr) return;
  std::cout << absl::StrFormat(
      "%s: %d bytes, %.3f of FP32, whose mean return is %.2f; the same greedy "
      "action in %.2f %% of %d states (the others cost %.4f %% of its value)\n",
      name, codec->bytes, codec->byte_ratio(), codec->fp32.mean_return(),
      100 * codec->agreement(), codec->comparison.states,
      100 * codec->lost_value());
}

}  // namespace

absl::Status EvaluateRun(const EvaluateOptions& options) {
  QFLEET_ASSIGN_OR_RETURN(
      v1::Checkpoint checkpoint,
      ReadNewestCheckpoint(absl::StrCat(options.run_dir, "/checkpoints")));
  QFLEET_ASSIGN_OR_RETURN(v1::Config config,
                          ParseConfig(checkpoint.config(), "checkpoint"));
  if (options.episodes > 0) {
    config.mutable_evaluation()->set_episodes(options.episodes);
  }
  v1::TensorSpec observation;
  QFLEET_ASSIGN_OR_RETURN(std::shared_ptr<const Network> network,
                          MakeNetwork(config, &observation));
  Policy fp32(network, observation);
  QFLEET_RETURN_IF_ERROR(fp32.SetWeights(checkpoint.policy()));
  const uint64_t updates = checkpoint.policy().updates();
  VisitedStates visited(kCalibrationRows, RowBytes(observation),
                        config.evaluation().seed());
  QFLEET_ASSIGN_OR_RETURN(v1::Evaluation of_fp32,
                          Evaluate(
                              config, fp32, [] { return false; },
                              /*comparison=*/nullptr, &visited));
  if (options.codec == v1::FP32) {
    PrintResult(options, of_fp32, updates, nullptr);
    return absl::OkStatus();
  }
  // A checkpoint from before there were layouts has none.
  *checkpoint.mutable_policy()->mutable_layout() = LayoutOf(*network);
  QFLEET_ASSIGN_OR_RETURN(
      const v1::Publication encoded,
      EncodePublication(
          checkpoint.policy(), options.codec,
          fp32.Calibrate(visited.observations(), visited.rows())));
  Policy policy(network, observation);
  QFLEET_RETURN_IF_ERROR(policy.SetWeights(encoded));
  CodecResult codec = {.bytes = encoded.parameters().size(),
                       .fp32_bytes = checkpoint.policy().parameters().size(),
                       .fp32 = of_fp32,
                       .comparison = {.reference = &fp32}};
  QFLEET_ASSIGN_OR_RETURN(
      const v1::Evaluation result,
      Evaluate(
          config, policy, [] { return false; }, &codec.comparison));
  PrintResult(options, result, updates, &codec);
  return absl::OkStatus();
}

}  // namespace qfleet
