// SumTree: nanoseconds for an operation, that is one draw or one new mass, in
// batches over a full tree.
//
//   sum_tree_benchmark --benchmark_out=FILE --benchmark_out_format=json

#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "benchmark/benchmark.h"
#include "common/random.h"
#include "replay_server/core/sum_tree.h"

namespace qfleet {
namespace {

// Batches prepared beforehand, so that only the tree is timed.
constexpr size_t kBatches = 64;

void Fill(SumTree& tree, Random& random) {
  std::vector<uint32_t> leaves(tree.leaves());
  std::vector<double> masses(tree.leaves());
  for (uint32_t i = 0; i < tree.leaves(); ++i) {
    leaves[i] = i;
    masses[i] = std::pow(random.Uniform() + 0.01, 0.6);
  }
  tree.Set(leaves, masses);
}

// "per_operation" is in seconds: 41n is 41 nanoseconds.
void ReportOperations(benchmark::State& state, size_t batch) {
  const double operations =
      static_cast<double>(state.iterations()) * static_cast<double>(batch);
  state.counters["per_operation"] = benchmark::Counter(
      operations, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void BM_Sample(benchmark::State& state) {
  Random random(1);
  SumTree tree(static_cast<uint32_t>(state.range(0)));
  Fill(tree, random);
  const size_t batch = static_cast<size_t>(state.range(1));
  std::vector<double> uniforms(batch * kBatches);
  for (double& uniform : uniforms) uniform = random.Uniform();
  std::vector<uint32_t> leaves(batch);
  std::vector<double> masses(batch);
  size_t round = 0;
  for (auto _ : state) {
    tree.Sample({uniforms.data() + round * batch, batch},
                absl::MakeSpan(leaves), absl::MakeSpan(masses));
    round = (round + 1) % kBatches;
    benchmark::DoNotOptimize(leaves.data());
    benchmark::ClobberMemory();
  }
  ReportOperations(state, batch);
}

void BM_Update(benchmark::State& state) {
  Random random(2);
  SumTree tree(static_cast<uint32_t>(state.range(0)));
  Fill(tree, random);
  const size_t batch = static_cast<size_t>(state.range(1));
  std::vector<uint32_t> leaves(batch * kBatches);
  std::vector<double> masses(batch * kBatches);
  for (uint32_t& leaf : leaves) {
    leaf = static_cast<uint32_t>(random.Below(tree.leaves()));
  }
  for (double& mass : masses) mass = random.Uniform();
  size_t round = 0;
  for (auto _ : state) {
    tree.Set({leaves.data() + round * batch, batch},
             {masses.data() + round * batch, batch});
    round = (round + 1) % kBatches;
    benchmark::ClobberMemory();
  }
  ReportOperations(state, batch);
}

void Sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"leaves", "batch"});
  for (int64_t leaves : {1 << 14, 1 << 17, 1 << 20, 1 << 23}) {
    for (int64_t batch : {64, 512}) benchmark->Args({leaves, batch});
  }
}

BENCHMARK(BM_Sample)->Apply(Sizes);
BENCHMARK(BM_Update)->Apply(Sizes);

}  // namespace
}  // namespace qfleet

BENCHMARK_MAIN();
