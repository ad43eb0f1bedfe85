#include "solo/solo.h"

#include <memory>
#include <utility>

#include "actor/actor.h"
#include "actor/evaluator.h"
#include "actor/explorer.h"
#include "actor/policy.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "envs/registry.h"
#include "learner/algorithms/algorithm.h"
#include "learner/loop.h"
#include "learner/publisher.h"
#include "learner/trainer.h"
#include "solo/local_replay.h"

namespace qfleet {
namespace {

// The cluster's actors as one: all their environments and the whole ladder.
v1::ActorsConfig OneActor(const v1::ActorsConfig& config) {
  v1::ActorsConfig one = config;
  one.set_count(1);
  one.set_environments(config.count() * config.environments());
  return one;
}

// What the thread does before each update. `replay`, `publisher` and `run`
// must outlive it.
class ActorSide {
 public:
  ActorSide(const v1::Config& config, std::shared_ptr<const Network> network,
            std::unique_ptr<VectorEnvironment> environments,
            LocalReplay& replay, Publisher& publisher, Run& run)
      : config_(config),
        replay_(replay),
        publisher_(publisher),
        run_(run),
        policy_(network, environments->spec().observation),
        evaluated_policy_(network, environments->spec().observation),
        writer_(replay),
        actor_(config.algorithm(), std::move(environments),
               Explorer::Ladder(OneActor(config.actors()), 0,
                                MixSeed(config.seed(), 2)),
               policy_, writer_) {
    policy_.Explore(MixSeed(config.seed(), 5));
  }

  // `ended`, asked after each round of environment steps, counts them too.
  absl::Status Step(const std::function<bool()>& interrupted,
                    const std::function<bool()>& ended) {
    QFLEET_RETURN_IF_ERROR(TakeWeights(interrupted));
    while (!replay_.CanSample() && !interrupted() && !ended()) {
      QFLEET_RETURN_IF_ERROR(actor_.Step());
    }
    return absl::OkStatus();
  }

  ActorsView View() const {
    return {.connected = 1,
            .episodes = actor_.stats().episodes,
            .return_sum = actor_.stats().return_sum};
  }

 private:
  absl::Status TakeWeights(const std::function<bool()>& interrupted) {
    std::shared_ptr<const v1::Publication> newest = publisher_.newest();
    if (newest->version() == policy_.version()) return absl::OkStatus();
    QFLEET_RETURN_IF_ERROR(policy_.SetWeights(*newest));
    if (newest->updates() < next_evaluation_) return absl::OkStatus();
    next_evaluation_ =
        newest->updates() + config_.evaluation().period_updates();
    QFLEET_RETURN_IF_ERROR(evaluated_policy_.SetWeights(*newest));
    absl::StatusOr<v1::Evaluation> result =
        Evaluate(config_, evaluated_policy_, interrupted);
    if (absl::IsCancelled(result.status())) return absl::OkStatus();
    QFLEET_RETURN_IF_ERROR(result.status());
    result->set_updates(newest->updates());
    v1::EvaluationReport report;
    *report.mutable_evaluation() = *std::move(result);
    *report.mutable_policy() = *newest;
    run_.RecordEvaluation(report);
    return absl::OkStatus();
  }

  const v1::Config config_;
  LocalReplay& replay_;
  Publisher& publisher_;
  Run& run_;
  Policy policy_;
  Policy evaluated_policy_;
  LocalWriter writer_;
  Actor actor_;
  uint64_t next_evaluation_ = 1;  // In updates. Not the untrained policy.
};

// One table with the bounds of all shards together.
v1::TableSpec WholeTable(const v1::Config& config) {
  v1::TableSpec table = config.replay().table();
  table.set_max_items(table.max_items() * config.replay().shards());
  table.set_max_bytes(table.max_bytes() * config.replay().shards());
  return table;
}

}  // namespace

absl::StatusOr<Outcome> TrainSolo(const v1::Config& config,
                                  const std::string& run_dir,
                                  const std::function<bool()>& interrupted,
                                  Metrics& metrics) {
  Run run(config, run_dir, metrics);
  QFLEET_RETURN_IF_ERROR(run.Open());
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Algorithm> algorithm,
                          MakeAlgorithm(config));
  const v1::ActorsConfig actors = OneActor(config.actors());
  QFLEET_ASSIGN_OR_RETURN(
      std::unique_ptr<VectorEnvironment> environments,
      MakeVectorEnvironment(config.environment(), actors.environments(),
                            MixSeed(config.seed(), 1)));
  QFLEET_ASSIGN_OR_RETURN(
      std::shared_ptr<const Network> network,
      Network::Make(config, environments->spec()));
  QFLEET_ASSIGN_OR_RETURN(
      std::unique_ptr<LocalReplay> replay,
      LocalReplay::Create(WholeTable(config), MixSeed(config.seed(), 3)));

  Publisher publisher(network->signature());
  publisher.Publish(algorithm->Publish(), algorithm->updates());
  LocalSampler sampler(*replay, config.learner().batch_size());
  Trainer trainer(config, std::move(algorithm), sampler);
  ActorSide actor_side(config, std::move(network), std::move(environments),
                       *replay, publisher, run);
  const auto ended = [&] {
    run.Tick(trainer.updates(), sampler.View());
    return run.outcome() != Outcome::kNone;
  };
  return TrainUntilDone(
      config, trainer, sampler, publisher, run,
      [&actor_side] { return actor_side.View(); }, interrupted,
      [&] { return actor_side.Step(interrupted, ended); });
}

}  // namespace qfleet
