#include "replay_server/core/sum_tree.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "absl/strings/str_cat.h"
#include "common/table_layout.h"

namespace qfleet {
namespace {

constexpr uint64_t kFanout = 8;
constexpr uint64_t kNodeBytes = kFanout * sizeof(double);
constexpr uint64_t kHugePage = uint64_t{2} << 20;

// Descents that run interleaved: enough to have the memory system busy, few
// enough to keep their state in the first-level cache.
constexpr size_t kGroup = 32;
// How many nodes ahead a sequential pass prefetches.
constexpr size_t kAhead = 16;

std::vector<uint64_t> LevelSizes(uint32_t leaves) {
  std::vector<uint64_t> sizes;
  uint64_t entries = leaves;
  do {
    entries = (entries + kFanout - 1) / kFanout;
    sizes.push_back(entries);
  } while (entries > 1);
  return sizes;
}

// In the order of Choose's prefix sums, so that the last of those is the sum.
double Sum(const double* node) {
  double sum = 0;
  for (uint64_t i = 0; i < kFanout; ++i) sum += node[i];
  return sum;
}

// The child whose share of the node holds `target`, which becomes relative to
// that child. Free of branches, for they could not be predicted.
inline uint64_t Choose(const double* node, double& target) {
  double before[kFanout + 1];
  before[0] = 0;
  uint64_t child = 0;
  for (uint64_t i = 0; i < kFanout; ++i) {
    before[i + 1] = before[i] + node[i];
    child += before[i + 1] <= target;
  }
  // A child found so has a mass, since its prefix sum exceeds the one before.
  // Rounding may put the target beyond all of them.
  if (child == kFanout) [[unlikely]] {
    --child;
    while (child > 0 && !(node[child] > 0)) --child;
  }
  target -= before[child];
  return child;
}

}  // namespace

void SumTree::Free::operator()(void* pointer) const { std::free(pointer); }

SumTree::SumTree(uint32_t leaves)
    : leaves_(leaves), level_size_(LevelSizes(leaves)) {
  // A big tree lies in huge pages: a descent's nodes would otherwise miss the
  // address translation cache as well.
  const uint64_t bytes = SumTreeBytes(leaves);
  const uint64_t unit = bytes < kHugePage ? kNodeBytes : kHugePage;
  const uint64_t rounded = (bytes + unit - 1) / unit * unit;
  memory_.reset(static_cast<double*>(std::aligned_alloc(unit, rounded)));
  if (memory_ == nullptr) throw std::bad_alloc();
  // Advice only; without it the tree is slower.
  if (unit == kHugePage) madvise(memory_.get(), rounded, MADV_HUGEPAGE);
  std::memset(memory_.get(), 0, rounded);
  double* level = memory_.get();
  for (uint64_t size : level_size_) {
    levels_.push_back(level);
    level += size * kFanout;
  }
}

double SumTree::total() const { return Sum(levels_.back()); }

double SumTree::Get(uint32_t leaf) const { return levels_[0][leaf]; }

void SumTree::UpdateParent(size_t level, uint64_t node) {
  levels_[level + 1][node] = Sum(levels_[level] + node * kFanout);
}

void SumTree::Set(absl::Span<const uint32_t> leaves,
                  absl::Span<const double> masses) {
  touched_.clear();
  for (size_t j = 0; j < leaves.size(); ++j) {
    if (j + kAhead < leaves.size()) {
      __builtin_prefetch(levels_[0] + leaves[j + kAhead], 1);
    }
    levels_[0][leaves[j]] = masses[j];
    const uint32_t node = leaves[j] / kFanout;
    if (touched_.empty() || touched_.back() != node) touched_.push_back(node);
  }
  for (size_t level = 0; level + 1 < levels_.size(); ++level) {
    // High up a batch touches nearly all nodes, many of them often.
    if (level_size_[level] <= touched_.size()) {
      for (uint64_t node = 0; node < level_size_[level]; ++node) {
        UpdateParent(level, node);
      }
      continue;
    }
    size_t kept = 0;
    const size_t count = touched_.size();
    for (size_t j = 0; j < count; ++j) {
      if (j + kAhead < count) {
        const uint64_t ahead = touched_[j + kAhead];
        __builtin_prefetch(levels_[level] + ahead * kFanout);
        __builtin_prefetch(levels_[level + 1] + ahead, 1);
      }
      UpdateParent(level, touched_[j]);
      const uint32_t parent = touched_[j] / kFanout;
      if (kept == 0 || touched_[kept - 1] != parent) touched_[kept++] = parent;
    }
    touched_.resize(kept);
  }
}

void SumTree::Sample(absl::Span<const double> uniforms,
                     absl::Span<uint32_t> leaves,
                     absl::Span<double> masses) const {
  const double sum = total();
  for (size_t begin = 0; begin < uniforms.size(); begin += kGroup) {
    const size_t size = std::min(kGroup, uniforms.size() - begin);
    double targets[kGroup];
    uint64_t nodes[kGroup];
    for (size_t j = 0; j < size; ++j) {
      targets[j] = uniforms[begin + j] * sum;
      nodes[j] = 0;
    }
    for (size_t level = levels_.size(); level-- > 0;) {
      const double* entries = levels_[level];
      const double* below = levels_[level == 0 ? 0 : level - 1];
      for (size_t j = 0; j < size; ++j) {
        const double* node = entries + nodes[j] * kFanout;
        nodes[j] = nodes[j] * kFanout + Choose(node, targets[j]);
        if (level > 0) __builtin_prefetch(below + nodes[j] * kFanout);
      }
    }
    for (size_t j = 0; j < size; ++j) {
      leaves[begin + j] = static_cast<uint32_t>(nodes[j]);
      masses[begin + j] = levels_[0][nodes[j]];
    }
  }
}

absl::Status SumTree::CheckInvariants() const {
  for (size_t level = 0; level + 1 < levels_.size(); ++level) {
    for (uint64_t node = 0; node < level_size_[level]; ++node) {
      const double sum = Sum(levels_[level] + node * kFanout);
      if (levels_[level + 1][node] != sum) {
        return absl::InternalError(absl::StrCat(
            "sum tree: node ", node, " of level ", level, " sums to ", sum,
            ", its parent says ", levels_[level + 1][node]));
      }
    }
  }
  for (uint64_t leaf = 0; leaf < level_size_[0] * kFanout; ++leaf) {
    const double mass = levels_[0][leaf];
    if (!(mass >= 0) || (leaf >= leaves_ && mass != 0)) {
      return absl::InternalError(
          absl::StrCat("sum tree: leaf ", leaf, " has mass ", mass));
    }
  }
  return absl::OkStatus();
}

}  // namespace qfleet
