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
             std::vector<std::unique_ptr<VectorEnvironment>> groups,
             Explorer explorer, Policy& policy, Writer& writer)
    : explorer_(std::move(explorer)), policy_(policy), writer_(writer) {
  int first = 0;
  for (auto& environments : groups) {
    const int n = environments->size();
    groups_.push_back({.environments = std::move(environments),
                       .first = first,
                       .actions = std::vector<int>(n)});
    first += n;
  }
  streams_ = std::vector<Stream>(
      first, Stream{.n_step = NStep(config.n_step(), config.gamma(),
                                    config.reward_clip(),
                                    config.value_rescaling())});
}

absl::Status Actor::Step() {
  if (!begun_) QFLEET_RETURN_IF_ERROR(Begin());
  for (Group& group : groups_) {
    if (group.stepping) QFLEET_RETURN_IF_ERROR(FinishStep(group));
    QFLEET_RETURN_IF_ERROR(Act(group));
    if (groups_.size() == 1) QFLEET_RETURN_IF_ERROR(FinishStep(group));
  }
  return writer_.Poll();
}

absl::Status Actor::Begin() {
  for (Group& group : groups_) {
    for (int i = 0; i < group.environments->size(); ++i) {
      QFLEET_ASSIGN_OR_RETURN(streams_[group.first + i].index,
                              WriteStep(group, i, /*starts=*/true));
    }
  }
  begun_ = true;
  return absl::OkStatus();
}

absl::Status Actor::Act(Group& group) {
  VectorEnvironment& environments = *group.environments;
  const int n = environments.size();
  const int actions = policy_.num_actions();
  absl::Span<const float> q = ValueObservations(group);
  QFLEET_RETURN_IF_ERROR(EmitValued(group, q));
  explorer_.Act(group.first, q.subspan(0, n * actions), actions,
                environments.action_masks(), absl::MakeSpan(group.actions));
  for (int i = 0; i < n; ++i) {
    streams_[group.first + i].q = q[i * actions + group.actions[i]];
  }
  environments.StartStep(group.actions);
  group.stepping = true;
  return absl::OkStatus();
}

absl::Status Actor::FinishStep(Group& group) {
  QFLEET_RETURN_IF_ERROR(group.environments->FinishStep());
  group.stepping = false;
  for (int i = 0; i < group.environments->size(); ++i) {
    QFLEET_RETURN_IF_ERROR(RecordStep(group, i));
  }
  stats_.env_steps += group.environments->size();
  return absl::OkStatus();
}

// [N + truncated, actions]: the rows after N are the final observations of
// truncated episodes, in the order of the environments.
absl::Span<const float> Actor::ValueObservations(const Group& group) {
  const VectorEnvironment& environments = *group.environments;
  const int n = environments.size();
  int rows = n;
  for (int i = 0; i < n; ++i) {
    if (!streams_[group.first + i].truncated) continue;
    if (rows == n) {
      batch_.clear();
      for (int j = 0; j < n; ++j) {
        absl::Span<const char> row = environments.stack(j);
        batch_.insert(batch_.end(), row.begin(), row.end());
      }
    }
    absl::Span<const char> last = environments.final_stack(i);
    batch_.insert(batch_.end(), last.begin(), last.end());
    ++rows;
  }
  if (rows == n) return policy_.QValues(environments.stacks(), n);
  return policy_.QValues({batch_.data(), batch_.size() / rows}, rows);
}

absl::Status Actor::EmitValued(Group& group, absl::Span<const float> q) {
  const VectorEnvironment& environments = *group.environments;
  const int actions = policy_.num_actions();
  int extra = environments.size();
  for (int i = 0; i < environments.size(); ++i) {
    Stream& stream = streams_[group.first + i];
    if (stream.truncated) {
      stream.n_step.OnTruncated(stream.truncated_index,
                                Max(q.subspan(extra * actions, actions),
                                    environments.final_action_mask(i)),
                                items_);
      stream.truncated = false;
      ++extra;
    }
    stream.value =
        Max(q.subspan(i * actions, actions), environments.action_mask(i));
    stream.n_step.OnObservation(stream.index, stream.value, items_);
    QFLEET_RETURN_IF_ERROR(WriteItems(group.first + i));
  }
  return absl::OkStatus();
}

absl::Status Actor::RecordStep(Group& group, int i) {
  Stream& stream = streams_[group.first + i];
  const StepResult& result = group.environments->results()[i];
  if (result.lost) {
    // The step was not taken; the episode ends where it would have been.
    stream.n_step.OnTruncated(stream.index, stream.value, items_);
    QFLEET_RETURN_IF_ERROR(WriteItems(group.first + i));
    ++stats_.episodes_lost;
    stream.return_so_far = 0;
    QFLEET_ASSIGN_OR_RETURN(stream.index, WriteStep(group, i, /*starts=*/true));
    return absl::OkStatus();
  }
  stream.n_step.OnAction(stream.index, group.actions[i], stream.q,
                         result.reward);
  stream.return_so_far += result.reward;
  if (result.terminated || result.truncated) return EndEpisode(group, i);
  QFLEET_ASSIGN_OR_RETURN(stream.index, WriteStep(group, i, /*starts=*/false));
  return absl::OkStatus();
}

absl::Status Actor::EndEpisode(Group& group, int i) {
  Stream& stream = streams_[group.first + i];
  ++stats_.episodes;
  stats_.return_sum += stream.return_so_far;
  stream.return_so_far = 0;
  QFLEET_ASSIGN_OR_RETURN(const uint64_t last, WriteFinalStep(group, i));
  if (group.environments->results()[i].terminated) {
    stream.n_step.OnTerminated(last, items_);
    QFLEET_RETURN_IF_ERROR(WriteItems(group.first + i));
  } else {
    stream.truncated = true;
    stream.truncated_index = last;
  }
  QFLEET_ASSIGN_OR_RETURN(stream.index, WriteStep(group, i, /*starts=*/true));
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Actor::WriteStep(const Group& group, int i,
                                          bool starts) {
  return Append(writer_, group.first + i, starts,
                group.environments->observation(i),
                group.environments->action_mask(i));
}

absl::StatusOr<uint64_t> Actor::WriteFinalStep(const Group& group, int i) {
  return Append(writer_, group.first + i, /*starts=*/false,
                group.environments->final_observation(i),
                group.environments->final_action_mask(i));
}

absl::Status Actor::WriteItems(int stream) {
  for (const NStepItem& item : items_) {
    if (!std::isfinite(item.priority)) {
      return absl::InternalError(absl::StrCat(
          "policy version ", policy_.version(), ": TD error = ", item.priority,
          ": allowed is a finite one; training diverged"));
    }
    QFLEET_RETURN_IF_ERROR(writer_.AppendItem(
        stream, item.first, item.last,
        {RowOf(item.action), RowOf(item.return_), RowOf(item.discount)},
        item.priority));
  }
  items_.clear();
  return absl::OkStatus();
}

absl::StatusOr<v1::ActorState> Actor::Save() const {
  if (groups_.size() != 1) {
    return absl::UnimplementedError(
        absl::StrCat("actor of ", groups_.size(),
                     " groups of environments: only one group can be saved"));
  }
  v1::ActorState state;
  QFLEET_ASSIGN_OR_RETURN(*state.mutable_environments(),
                          groups_[0].environments->Save());
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
  if (groups_.size() != 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("saved actor: allowed is one group of environments, not ",
                     groups_.size()));
  }
  const auto streams = static_cast<int>(streams_.size());
  QFLEET_RETURN_IF_ERROR(groups_[0].environments->Load(state.environments()));
  if (state.streams_size() != streams ||
      !explorer_.Load(state.explorer())) {
    return absl::FailedPreconditionError(absl::StrCat(
        "saved actor: ", state.streams_size(), " streams, a generator of ",
        state.explorer().size(), " characters; allowed is ",
        streams, " streams and a generator's state"));
  }
  for (int i = 0; i < streams; ++i) {
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
