// A simple model of a table for its tests: what is in it, and what each view
// must show. It keeps every step and item for ever and decides by arithmetic
// on their numbers, without links, lists or trees.

#ifndef QFLEET_TESTS_REPLAY_SERVER_CORE_TABLE_MODEL_H_
#define QFLEET_TESTS_REPLAY_SERVER_CORE_TABLE_MODEL_H_

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "qfleet/v1/replay.pb.h"

namespace qfleet {

// Step columns: image uint8[6], tag int64[]. Item columns: uid int64[], pair
// float32[2]. Views: a stack of 3 images at the first step, of 4 at the last,
// and both tags.
v1::TableSpec ModelSpec(uint64_t max_items, uint64_t max_bytes);

// The contents of a step's columns, which tell it from every other.
std::string ImageOf(uint64_t writer, uint32_t stream, uint64_t index);
int64_t TagOf(uint64_t writer, uint32_t stream, uint64_t index);

struct ModelItem {
  uint64_t writer = 0;
  uint32_t stream = 0;
  uint64_t first = 0;
  uint64_t last = 0;
  float priority = 0;
  bool inserted = false;
  uint64_t number = 0;  // Of the insert, from 0.
};

// One batch, beside its wire form.
struct ModelBatch {
  uint64_t writer = 0;
  v1::AppendBatch wire;
  std::vector<uint64_t> item_uids;
  uint64_t end_id = 0;  // Of its steps; set by Reserve.
  uint64_t first_id = 0;
};

// The tests' writers use it to build batches, then tell it what the table was
// made to do.
class TableModel {
 public:
  TableModel(const v1::TableSpec& spec, uint64_t step_capacity)
      : spec_(spec), capacity_(step_capacity) {}

  // ---- building
  // Adds the stream's next step. Where `index` is the stream's first it may be
  // any number.
  void AddStep(ModelBatch& batch, uint32_t stream, uint64_t index, bool begins);
  void AddItem(ModelBatch& batch, uint32_t stream, uint64_t first,
               uint64_t last, float priority);
  // Start of the episode that the step belongs to.
  uint64_t EpisodeStart(uint64_t writer, uint32_t stream, uint64_t index) const;

  // ---- what was done
  void Reserve(ModelBatch& batch);
  v1::AppendResponse Commit(const ModelBatch& batch);
  void SetPriority(uint64_t uid, float priority) {
    items_[uid].priority = priority;
  }
  void CountSampled(uint64_t count) { sampled_ += count; }

  // ---- what must be
  v1::TableStats Stats() const;  // Without bytes.
  const ModelItem& item(uint64_t uid) const { return items_[uid]; }
  uint64_t items() const { return items_.size(); }
  bool Live(uint64_t uid) const;
  uint64_t LiveSteps() const;
  double Mass(uint64_t uid) const;
  uint64_t SlotOf(uint64_t uid) const {
    return items_[uid].number % spec_.max_items();
  }
  uint64_t OldestId(uint64_t uid) const;
  // The rows of the four views.
  std::vector<std::string> Views(uint64_t uid) const;
  uint64_t capacity() const { return capacity_; }

 private:
  struct Step {
    uint64_t episode_start = 0;
    bool kept = false;
    uint64_t id = 0;  // If kept and reserved.
  };
  using StepKey = std::tuple<uint64_t, uint32_t, uint64_t>;

  const Step* Find(uint64_t writer, uint32_t stream, uint64_t index) const;
  // The indices of the steps that the item's views read first in time.
  uint64_t OldestIndex(const ModelItem& item) const;
  std::string Stack(const ModelItem& item, uint64_t anchor,
                    uint64_t size) const;
  uint64_t OldestHeldId() const {
    return next_id_ < capacity_ ? 0 : next_id_ - capacity_;
  }

  const v1::TableSpec spec_;
  const uint64_t capacity_;
  std::map<StepKey, Step> steps_;
  std::vector<ModelItem> items_;    // By uid.
  std::vector<uint64_t> inserted_;  // Uids in the order of insertion.
  uint64_t next_id_ = 0;
  uint64_t committed_steps_ = 0;
  uint64_t episodes_ = 0;
  uint64_t sampled_ = 0;
  uint64_t skipped_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_TESTS_REPLAY_SERVER_CORE_TABLE_MODEL_H_
