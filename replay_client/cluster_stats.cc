#include "replay_client/cluster_stats.h"

#include <algorithm>

namespace qfleet {
namespace {

void AddCounters(const v1::TableStats& from, v1::TableStats& to) {
  to.set_inserted(to.inserted() + from.inserted());
  to.set_sampled(to.sampled() + from.sampled());
  to.set_steps(to.steps() + from.steps());
  to.set_episodes(to.episodes() + from.episodes());
}

uint64_t Beyond(uint64_t known, uint64_t start) {
  return known > start ? known - start : 0;
}

// What the life before had counted, as far as it is known, beyond what `next`
// began with.
v1::TableStats Lost(const v1::TableStats& known, const v1::TableStats& next) {
  v1::TableStats lost;
  lost.set_inserted(Beyond(known.inserted(), next.start_inserted()));
  lost.set_sampled(Beyond(known.sampled(), next.start_sampled()));
  lost.set_steps(Beyond(known.steps(), next.start_steps()));
  lost.set_episodes(Beyond(known.episodes(), next.start_episodes()));
  return lost;
}

}  // namespace

ClusterStats::ClusterStats(int shards, const std::vector<v1::KnownShard>& known)
    : shards_(shards) {
  for (size_t s = 0; s < std::min(shards_.size(), known.size()); ++s) {
    shards_[s].stats = known[s].stats();
    shards_[s].earlier = known[s].earlier();
  }
}

std::vector<v1::KnownShard> ClusterStats::Known() const {
  std::vector<v1::KnownShard> all;
  for (const Shard& shard : shards_) {
    v1::KnownShard& known = all.emplace_back();
    *known.mutable_stats() = shard.stats;
    *known.mutable_earlier() = shard.earlier;
  }
  return all;
}

void ClusterStats::Update(int shard, const v1::TableStats& stats,
                          absl::Time now) {
  Shard& known = shards_[shard];
  if (stats.life() != known.stats.life()) {
    AddCounters(Lost(known.stats, stats), known.earlier);
  }
  known.connected = true;
  known.stats = stats;
  known.updated_at = now;
}

std::vector<double> ClusterStats::Masses() const {
  std::vector<double> masses;
  for (const Shard& shard : shards_) {
    masses.push_back(shard.connected ? shard.stats.mass() : 0);
  }
  return masses;
}

uint64_t ClusterStats::size() const {
  uint64_t size = 0;
  for (const Shard& shard : shards_) {
    if (shard.connected) size += shard.stats.size();
  }
  return size;
}

void ClusterStats::FillOthers(int shard, v1::SampleDraw& draw) const {
  v1::TableStats others;
  uint64_t size = 0;
  for (size_t s = 0; s < shards_.size(); ++s) {
    AddCounters(shards_[s].earlier, others);
    if (static_cast<int>(s) == shard) continue;
    AddCounters(shards_[s].stats, others);
    size += shards_[s].stats.size();
  }
  draw.set_others_inserted(others.inserted());
  draw.set_others_sampled(others.sampled());
  draw.set_others_size(size);
}

ReplayView ClusterStats::View() const {
  ReplayView view;
  v1::TableStats sum;
  for (const Shard& shard : shards_) {
    AddCounters(shard.earlier, sum);
    AddCounters(shard.stats, sum);
    view.shard_env_steps.push_back(
        EnvSteps(shard.earlier.steps() + shard.stats.steps(),
                 shard.earlier.episodes() + shard.stats.episodes()));
    if (!shard.connected) continue;
    view.size += shard.stats.size();
    view.bytes += shard.stats.bytes();
    view.mass += shard.stats.mass();
    ++view.shards;
  }
  view.inserted = sum.inserted();
  view.sampled = sum.sampled();
  view.steps = sum.steps();
  view.episodes = sum.episodes();
  return view;
}

std::vector<uint32_t> Allot(absl::Span<const double> masses, uint32_t count,
                            Random& random) {
  std::vector<double> ends(masses.size());
  double sum = 0;
  size_t last = 0;  // That has mass: where rounding leads past the end.
  for (size_t i = 0; i < masses.size(); ++i) {
    sum += masses[i];
    ends[i] = sum;
    if (masses[i] > 0) last = i;
  }
  std::vector<uint32_t> counts(masses.size(), 0);
  for (uint32_t draw = 0; draw < count; ++draw) {
    const double u = random.Uniform() * sum;
    // Which it is, by counting: a search would guess wrong at every step.
    size_t i = 0;
    for (double end : ends) i += end <= u ? 1 : 0;
    ++counts[std::min(i, last)];
  }
  return counts;
}

}  // namespace qfleet
