// Table: from what an earlier life left to a table that serves.

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "replay_server/core/table.h"

namespace qfleet {

absl::Status Table::Recover() {
  QFLEET_RETURN_IF_ERROR(state_.Recover());
  recovery_.damaged_writers = writers_.Recover();
  const CommitRecord& commit = state_.commit();
  // The process may have been killed between the commit and the book.
  if (commit.number > 0) {
    const bool torn = writers_.Find(commit.writer_id) == nullptr;
    if (torn && recovery_.damaged_writers > 0) --recovery_.damaged_writers;
    writers_.Commit(commit.writer_id, commit.sequence, commit.number);
  }
  const StepRing::Recovered steps = steps_.Recover();
  RecoverStreams();
  recovery_.recovered = true;
  recovery_.damaged_steps = steps.damaged;
  recovery_.dropped = items_.Recover(commit.inserted, steps);
  recovery_.items = items_.size();
  start_.set_start_inserted(items_.inserted());
  start_.set_start_sampled(state_.sampled());
  start_.set_start_steps(commit.steps);
  start_.set_start_episodes(commit.episodes);
  slots_.clear();
  masses_.clear();
  for (uint32_t slot = 0; slot < items_.capacity(); ++slot) {
    if (!items_.live(slot)) continue;
    slots_.push_back(slot);
    masses_.push_back(Mass(items_.record(slot).value.priority));
  }
  tree_.Set(slots_, masses_);
  verify_next_ = steps_.oldest_id();
  verify_end_ = steps_.next_id();
  verified_.total = verify_end_ - verify_next_;
  return absl::OkStatus();
}

// A stream goes on after its newest step that was committed: with its batch,
// whose sequence is not beyond the writer's last. If the writer knows of newer
// ones, it goes on at its next episode (append_plan.h).
void Table::RecoverStreams() {
  uint64_t writer_id = 0;
  WriterState* writer = nullptr;
  for (uint64_t id = steps_.oldest_id(); id < steps_.next_id(); ++id) {
    if (!steps_.Has(id)) continue;
    const StepHeader& step = steps_.header(id);
    if (writer == nullptr || step.writer_id != writer_id) {
      writer_id = step.writer_id;
      writer = writers_.Find(writer_id);
    }
    if (writer == nullptr || step.sequence > writer->last_sequence) continue;
    writers_.SetStream(*writer, step.stream,
                       {step.index + 1, id, step.episode_offset,
                        /*recovered=*/true});
  }
}

// ----------------------------------------------------------- verification ---

std::unique_ptr<Table::VerifyPiece> Table::BeginVerify(uint64_t max_rows) {
  // What has left the ring meanwhile needs no verification.
  verify_next_ =
      std::max(verify_next_, std::min(steps_.oldest_id(), verify_end_));
  verified_.steps = verified_.total - (verify_end_ - verify_next_);
  if (verify_next_ == verify_end_) return nullptr;
  auto piece = std::make_unique<VerifyPiece>();
  piece->first_id = verify_next_;
  piece->end_id = std::min(verify_next_ + max_rows, verify_end_);
  piece->pin = pins_.insert(piece->first_id);
  return piece;
}

std::vector<uint64_t> Table::Verify(const VerifyPiece& piece) const {
  std::vector<uint64_t> damaged;
  for (uint64_t id = piece.first_id; id < piece.end_id; ++id) {
    if (steps_.Has(id) && !steps_.PayloadIsWhole(id)) damaged.push_back(id);
  }
  return damaged;
}

void Table::EndVerify(std::unique_ptr<VerifyPiece> piece,
                      const std::vector<uint64_t>& damaged) {
  pins_.erase(piece->pin);
  verify_next_ = piece->end_id;
  verified_.steps = verified_.total - (verify_end_ - verify_next_);
  if (damaged.empty()) return;
  verified_.damaged_steps += damaged.size();
  for (uint64_t id : damaged) {
    if (steps_.Holds(id) && steps_.Has(id)) steps_.Drop(id);
  }
  slots_.clear();
  items_.RemoveBroken(slots_);
  verified_.damaged_items += slots_.size();
  masses_.assign(slots_.size(), 0.0);
  tree_.Set(slots_, masses_);
}

}  // namespace qfleet
