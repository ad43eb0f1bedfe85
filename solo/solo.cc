#include "solo/solo.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "actor/actor.h"
#include "actor/evaluator.h"
#include "actor/explorer.h"
#include "actor/policy.h"
#include "common/checkpoint_file.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "envs/registry.h"
#include "learner/algorithms/algorithm.h"
#include "learner/checkpoint_writer.h"
#include "learner/loop.h"
#include "learner/publisher.h"
#include "learner/resume.h"
#include "learner/trainer.h"
#include "model/weight_layout.h"
#include "solo/local_replay.h"
#include "spdlog/spdlog.h"
#include "weights/publication.h"

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
            std::vector<std::unique_ptr<VectorEnvironment>> environments,
            LocalReplay& replay, Publisher& publisher, Run& run)
      : config_(config),
        replay_(replay),
        publisher_(publisher),
        run_(run),
        policy_(network, StackedObservation(environments[0]->spec())),
        evaluated_policy_(network, StackedObservation(environments[0]->spec())),
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
    while (!replay_.CanSample(config_.learner().batch_size()) &&
           !interrupted() && !ended()) {
      QFLEET_RETURN_IF_ERROR(actor_.Step());
    }
    return absl::OkStatus();
  }

  // All of it and of the writer, between two steps. UNIMPLEMENTED if the
  // environments cannot be saved.
  absl::StatusOr<v1::SoloState> Save() const {
    v1::SoloState state;
    QFLEET_ASSIGN_OR_RETURN(*state.mutable_actor(), actor_.Save());
    writer_.Save(state);
    state.set_acting_version(policy_.version());
    state.set_considered_version(considered_version_);
    state.set_next_evaluation(next_evaluation_);
    state.set_policy(policy_.SaveRandom());
    return state;
  }

  // `publisher` has the newest publication again.
  absl::Status Load(const v1::SoloState& state) {
    QFLEET_RETURN_IF_ERROR(actor_.Load(state.actor()));
    writer_.Load(state);
    considered_version_ = state.considered_version();
    next_evaluation_ = state.next_evaluation();
    if (!policy_.LoadRandom(state.policy())) {
      return absl::FailedPreconditionError(
          "saved policy: not a generator's state");
    }
    // An older version would be replaced before it acts.
    std::shared_ptr<const v1::Publication> newest = publisher_.newest();
    if (newest->version() != state.acting_version()) return absl::OkStatus();
    return ActWith(*newest);
  }

  ActorsView View() const {
    return {.connected = 1,
            .episodes = actor_.stats().episodes,
            .return_sum = actor_.stats().return_sum};
  }

 private:
  // As an actor would that asks for the config's form. Evaluations are of the
  // weights as they are.
  absl::Status ActWith(const v1::Publication& newest) {
    const v1::WeightCodec codec = config_.actors().weight_codec();
    if (codec == v1::FP32) return policy_.SetWeights(newest);
    QFLEET_ASSIGN_OR_RETURN(const v1::Publication encoded,
                            EncodePublication(newest, codec));
    return policy_.SetWeights(encoded);
  }

  absl::Status TakeWeights(const std::function<bool()>& interrupted) {
    std::shared_ptr<const v1::Publication> newest = publisher_.newest();
    if (newest->version() != policy_.version()) {
      QFLEET_RETURN_IF_ERROR(ActWith(*newest));
    }
    if (newest->version() == considered_version_) return absl::OkStatus();
    if (newest->updates() >= next_evaluation_) {
      absl::Status status = EvaluateAndRecord(*newest, interrupted);
      // Still to be done by the run that goes on from here.
      if (absl::IsCancelled(status)) return absl::OkStatus();
      QFLEET_RETURN_IF_ERROR(status);
      next_evaluation_ =
          newest->updates() + config_.evaluation().period_updates();
    }
    considered_version_ = newest->version();
    return absl::OkStatus();
  }

  absl::Status EvaluateAndRecord(const v1::Publication& policy,
                                 const std::function<bool()>& interrupted) {
    QFLEET_RETURN_IF_ERROR(evaluated_policy_.SetWeights(policy));
    QFLEET_ASSIGN_OR_RETURN(v1::Evaluation result,
                            Evaluate(config_, evaluated_policy_, interrupted));
    result.set_updates(policy.updates());
    v1::EvaluationReport report;
    *report.mutable_evaluation() = std::move(result);
    *report.mutable_policy() = policy;
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
  // Up to this version it was decided whether to evaluate.
  uint64_t considered_version_ = 0;
  uint64_t next_evaluation_ = 1;  // In updates. Not the untrained policy.
};

// One table with the bounds of all shards together.
v1::TableSpec WholeTable(const v1::Config& config) {
  v1::TableSpec table = config.replay().table();
  table.set_max_items(table.max_items() * config.replay().shards());
  table.set_max_bytes(table.max_bytes() * config.replay().shards());
  return table;
}

// Whether a checkpoint has all that a run in one process needs.
absl::Status CheckWhole(const v1::Checkpoint& checkpoint,
                        const std::string& directory,
                        const v1::Config& config) {
  if (!checkpoint.has_solo()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "holds the networks only: allowed is one that a run in one process "
        "wrote, and environment.id = \"",
        config.environment().id(), "\" must be one that can be saved"));
  }
  return CheckTableCopy(
      absl::StrCat(directory, "/", checkpoint.solo().replay()),
      checkpoint.solo().replay_hash());
}

// Copies the rest of the run into the checkpoint, and what its thread is to
// write beside it. Networks only if the environments cannot be saved.
WriteBeside SaveSolo(const ActorSide& actor_side, LocalReplay& replay,
                     const v1::Config& config, v1::Checkpoint& checkpoint) {
  absl::StatusOr<v1::SoloState> state = actor_side.Save();
  if (!state.ok()) {
    spdlog::warn(
        "environment.id = \"{}\" cannot be resumed exactly: {}; the checkpoint "
        "holds the networks only",
        config.environment().id(), std::string(state.status().message()));
    return nullptr;
  }
  auto copy = std::make_shared<TableCopy>(replay.Copy());
  *state->mutable_table() = copy->rest;
  *checkpoint.mutable_solo() = *std::move(state);
  return [copy = std::move(copy)](const std::string& directory,
                                  v1::Checkpoint& whole) -> absl::Status {
    const std::string name = NewCheckpointFolder(directory, whole.updates());
    QFLEET_ASSIGN_OR_RETURN(
        const uint64_t hash,
        WriteTableCopy(*copy, absl::StrCat(directory, "/", name)));
    whole.mutable_solo()->set_replay(name);
    whole.mutable_solo()->set_replay_hash(hash);
    return absl::OkStatus();
  };
}

}  // namespace

absl::StatusOr<Outcome> TrainSolo(const v1::Config& config,
                                  const std::string& run_dir,
                                  const std::function<bool()>& interrupted,
                                  Metrics& metrics, bool resume,
                                  StatusServer* web) {
  Run run(config, run_dir, metrics);
  QFLEET_RETURN_IF_ERROR(run.Open());
  if (web != nullptr) {
    web->SetStatus(
        [status = run.status()](auto& json) { status->AddTo(json); });
  }
  const std::string directory = run.checkpoint_directory();
  QFLEET_ASSIGN_OR_RETURN(std::unique_ptr<Algorithm> algorithm,
                          MakeAlgorithm(config));
  const v1::ActorsConfig actors = OneActor(config.actors());
  QFLEET_ASSIGN_OR_RETURN(
      std::vector<std::unique_ptr<VectorEnvironment>> environments,
      MakeVectorEnvironments(
          config.environment(),
          {.count = actors.environments(), .seed = MixSeed(config.seed(), 1)},
          /*groups=*/1));
  QFLEET_ASSIGN_OR_RETURN(std::shared_ptr<const Network> network,
                          Network::Make(config, environments[0]->spec()));

  absl::StatusOr<v1::Checkpoint> checkpoint = absl::NotFoundError("");
  if (resume) {
    checkpoint = LoadNewestCheckpoint(
        directory, config, *algorithm, [&](const v1::Checkpoint& candidate) {
          return CheckWhole(candidate, directory, config);
        });
    if (absl::IsNotFound(checkpoint.status())) {
      spdlog::info("nothing to resume: {}; starting afresh",
                   std::string(checkpoint.status().message()));
    } else {
      QFLEET_RETURN_IF_ERROR(checkpoint.status());
    }
  }
  const bool resumed = checkpoint.ok();
  QFLEET_ASSIGN_OR_RETURN(
      std::unique_ptr<LocalReplay> replay,
      resumed
          ? LocalReplay::Open(
                WholeTable(config),
                absl::StrCat(directory, "/", checkpoint->solo().replay()),
                checkpoint->solo().table())
          : LocalReplay::Create(WholeTable(config), MixSeed(config.seed(), 3)));

  Publisher publisher(network->signature(), LayoutOf(*network));
  if (resumed) {
    publisher.Resume(checkpoint->published());
  } else {
    publisher.Publish(algorithm->Publish(), algorithm->updates());
  }
  LocalSampler sampler(*replay, config.learner().batch_size());
  Trainer trainer(config, std::move(algorithm), sampler);
  ActorSide actor_side(config, std::move(network), std::move(environments),
                       *replay, publisher, run);
  if (resumed) {
    QFLEET_RETURN_IF_ERROR(actor_side.Load(checkpoint->solo()));
    run.Resume(*checkpoint);
  }
  const auto ended = [&] {
    run.Tick(trainer.updates(), sampler.View());
    return run.outcome() != Outcome::kNone;
  };
  CheckpointWriter writer(directory, config.learner().checkpoints_kept(),
                          metrics);
  return TrainUntilDone(
      config, trainer, sampler, publisher, run, writer,
      {.actors = [&] { return actor_side.View(); },
       .interrupted = interrupted,
       .step = [&] { return actor_side.Step(interrupted, ended); },
       .save =
           [&](v1::Checkpoint& saved) {
             return SaveSolo(actor_side, *replay, config, saved);
           }});
}

}  // namespace qfleet
