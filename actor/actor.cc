#include "actor/actor.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace qfleet {
namespace {

template <typename T>
ColumnRow RowOf(const T& value) {
  return ColumnRow(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Of the legal actions.
float Max(absl::Span<const float> values, absl::Span<const uint8_t> mask) {
  return values[ArgMax(values, mask)];
}

// A step's columns; without masks the observation is the only one.
absl::StatusOr<uint64_t> Append(Writer& writer, int stream, bool starts,
                                absl::Span<const char> observation,
                                absl::Span<const uint8_t> mask) {
  if (mask.empty()) return writer.AppendStep(stream, starts, {observation});
  const ColumnRow mask_row(reinterpret_cast<const char*>(mask.data()),
                           mask.size());
  return writer.AppendStep(stream, starts, {observation, mask_row});
}

}  // namespace

Actor::Actor(const v1::AlgorithmConfig& config,
             std::unique_ptr<VectorEnvironment> environments, Explorer explorer,
             Policy& policy, Writer& writer)
    : environments_(std::move(environments)),
      explorer_(std::move(explorer)),
      policy_(policy),
      writer_(writer),
      streams_(environments_->size(),
               Stream{.n_step = NStep(config.n_step(), config.gamma(),
                                      config.reward_clip(),
                                      config.value_rescaling())}),
      actions_(environments_->size()) {}

absl::Status Actor::Step() {
  if (!begun_) QFLEET_RETURN_IF_ERROR(Begin());
  const int n = environments_->size();
  const int actions = policy_.num_actions();
  absl::Span<const float> q = ValueObservations();
  QFLEET_RETURN_IF_ERROR(EmitValued(q));
  explorer_.Act(q.subspan(0, n * actions), actions,
                environments_->action_masks(), absl::MakeSpan(actions_));
  environments_->Step(actions_);
  for (int i = 0; i < n; ++i) {
    QFLEET_RETURN_IF_ERROR(
        RecordStep(i, actions_[i], q[i * actions + actions_[i]]));
  }
  stats_.env_steps += n;
  return writer_.Poll();
}

absl::Status Actor::Begin() {
  for (int i = 0; i < environments_->size(); ++i) {
    QFLEET_ASSIGN_OR_RETURN(streams_[i].index, WriteStep(i, /*starts=*/true));
  }
  begun_ = true;
  return absl::OkStatus();
}

// [N + truncated, actions]: the rows after N are the final observations of
// truncated episodes, in the order of the environments.
absl::Span<const float> Actor::ValueObservations() {
  int rows = environments_->size();
  absl::Span<const char> observations = environments_->observations();
  for (int i = 0; i < environments_->size(); ++i) {
    if (!streams_[i].truncated) continue;
    if (rows == environments_->size()) {
      batch_.assign(observations.begin(), observations.end());
    }
    absl::Span<const char> last = environments_->final_observation(i);
    batch_.insert(batch_.end(), last.begin(), last.end());
    ++rows;
  }
  const bool extra = rows > environments_->size();
  return policy_.QValues(extra ? absl::MakeConstSpan(batch_) : observations,
                         rows);
}

absl::Status Actor::EmitValued(absl::Span<const float> q) {
  const int actions = policy_.num_actions();
  int extra = environments_->size();
  for (int i = 0; i < environments_->size(); ++i) {
    Stream& stream = streams_[i];
    if (stream.truncated) {
      stream.n_step.OnTruncated(stream.truncated_index,
                                Max(q.subspan(extra * actions, actions),
                                    environments_->final_action_mask(i)),
                                items_);
      stream.truncated = false;
      ++extra;
    }
    stream.n_step.OnObservation(
        stream.index,
        Max(q.subspan(i * actions, actions), environments_->action_mask(i)),
        items_);
    QFLEET_RETURN_IF_ERROR(WriteItems(i));
  }
  return absl::OkStatus();
}

absl::Status Actor::RecordStep(int i, int action, float q) {
  Stream& stream = streams_[i];
  const StepResult& result = environments_->results()[i];
  stream.n_step.OnAction(stream.index, action, q, result.reward);
  stream.return_so_far += result.reward;
  if (result.terminated || result.truncated) return EndEpisode(i);
  QFLEET_ASSIGN_OR_RETURN(stream.index, WriteStep(i, /*starts=*/false));
  return absl::OkStatus();
}

absl::Status Actor::EndEpisode(int i) {
  Stream& stream = streams_[i];
  ++stats_.episodes;
  stats_.return_sum += stream.return_so_far;
  stream.return_so_far = 0;
  QFLEET_ASSIGN_OR_RETURN(const uint64_t last, WriteFinalStep(i));
  if (environments_->results()[i].terminated) {
    stream.n_step.OnTerminated(last, items_);
    QFLEET_RETURN_IF_ERROR(WriteItems(i));
  } else {
    stream.truncated = true;
    stream.truncated_index = last;
  }
  QFLEET_ASSIGN_OR_RETURN(stream.index, WriteStep(i, /*starts=*/true));
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Actor::WriteStep(int i, bool starts) {
  return Append(writer_, i, starts, environments_->observation(i),
                environments_->action_mask(i));
}

absl::StatusOr<uint64_t> Actor::WriteFinalStep(int i) {
  return Append(writer_, i, /*starts=*/false,
                environments_->final_observation(i),
                environments_->final_action_mask(i));
}

absl::Status Actor::WriteItems(int i) {
  for (const NStepItem& item : items_) {
    if (!std::isfinite(item.priority)) {
      return absl::InternalError(absl::StrCat(
          "policy version ", policy_.version(), ": TD error = ", item.priority,
          ": allowed is a finite one; training diverged"));
    }
    QFLEET_RETURN_IF_ERROR(writer_.AppendItem(
        i, item.first, item.last,
        {RowOf(item.action), RowOf(item.return_), RowOf(item.discount)},
        item.priority));
  }
  items_.clear();
  return absl::OkStatus();
}

absl::StatusOr<v1::ActorState> Actor::Save() const {
  v1::ActorState state;
  QFLEET_ASSIGN_OR_RETURN(*state.mutable_environments(), environments_->Save());
  state.set_explorer(explorer_.Save());
  for (const Stream& stream : streams_) {
    v1::ActorState::Stream& saved = *state.add_streams();
    stream.n_step.Save(saved);
    saved.set_index(stream.index);
    saved.set_return_so_far(stream.return_so_far);
    saved.set_truncated(stream.truncated);
    saved.set_truncated_index(stream.truncated_index);
  }
  state.set_env_steps(stats_.env_steps);
  state.set_episodes(stats_.episodes);
  state.set_return_sum(stats_.return_sum);
  state.set_begun(begun_);
  return state;
}

absl::Status Actor::Load(const v1::ActorState& state) {
  QFLEET_RETURN_IF_ERROR(environments_->Load(state.environments()));
  if (state.streams_size() != environments_->size() ||
      !explorer_.Load(state.explorer())) {
    return absl::FailedPreconditionError(absl::StrCat(
        "saved actor: ", state.streams_size(), " streams, a generator of ",
        state.explorer().size(), " characters; allowed is ",
        environments_->size(), " streams and a generator's state"));
  }
  for (int i = 0; i < environments_->size(); ++i) {
    const v1::ActorState::Stream& saved = state.streams(i);
    Stream& stream = streams_[i];
    stream.n_step.Load(saved);
    stream.index = saved.index();
    stream.return_so_far = saved.return_so_far();
    stream.truncated = saved.truncated();
    stream.truncated_index = saved.truncated_index();
  }
  stats_ = {.env_steps = state.env_steps(),
            .episodes = state.episodes(),
            .return_sum = state.return_sum()};
  begun_ = state.begun();
  explorer_.set_steps(stats_.env_steps);
  return absl::OkStatus();
}

}  // namespace qfleet
