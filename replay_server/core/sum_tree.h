// A tree of sums over a fixed number of leaves: draws leaf i with probability
// mass_i / total and changes masses, in O(log n).
//
//   SumTree tree(capacity);
//   tree.Set(leaves, masses);
//   tree.Sample(uniforms, leaves, masses);
//
// Eight children a node, so that a node is one cache line of doubles; a batch
// of descents runs interleaved, each prefetching its next node, which hides
// the cache misses. A parent's entry is recomputed from its children, never
// adjusted by a difference: sums do not drift, and equal contents give equal
// trees, bit for bit.
//
// Thread-compatible.

#ifndef QFLEET_REPLAY_SERVER_CORE_SUM_TREE_H_
#define QFLEET_REPLAY_SERVER_CORE_SUM_TREE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace qfleet {

class SumTree {
 public:
  // All masses 0. `leaves` from 1 to 2^32 - 1. Throws std::bad_alloc, as a
  // container does.
  explicit SumTree(uint32_t leaves);
  SumTree(const SumTree&) = delete;
  SumTree& operator=(const SumTree&) = delete;

  uint32_t leaves() const { return leaves_; }
  double total() const;
  double Get(uint32_t leaf) const;

  // masses[j] >= 0 and finite becomes the mass of leaves[j]; where a leaf
  // stands twice the later one counts. The sum of all must stay finite.
  void Set(absl::Span<const uint32_t> leaves, absl::Span<const double> masses);
  void Set(uint32_t leaf, double mass) { Set({&leaf, 1}, {&mass, 1}); }

  // uniforms[j] in [0, 1) chooses leaf[j], whose mass is masses[j] > 0: the
  // first leaf whose prefix sum exceeds uniforms[j] * total(). Rounding never
  // leads to a leaf of mass 0. total() must be > 0.
  void Sample(absl::Span<const double> uniforms, absl::Span<uint32_t> leaves,
              absl::Span<double> masses) const;

  // INTERNAL naming the node if some parent is not the sum of its children.
  absl::Status CheckInvariants() const;

 private:
  struct Free {
    void operator()(void* pointer) const;
  };

  // Entry e of level l + 1 is the sum of node e of level l.
  void UpdateParent(size_t level, uint64_t node);

  uint32_t leaves_;
  // From the leaves (level 0) to the root, which is one node: arrays of
  // 64-byte-aligned nodes of eight doubles, all in memory_.
  std::vector<double*> levels_;
  std::vector<uint64_t> level_size_;  // Nodes of each level.
  std::unique_ptr<double, Free> memory_;
  std::vector<uint32_t> touched_;  // Nodes, while Set() runs.
};

}  // namespace qfleet

#endif  // QFLEET_REPLAY_SERVER_CORE_SUM_TREE_H_
