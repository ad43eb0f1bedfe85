// Steps a second of each built-in environment in one thread: a vector of 64,
// uniformly random actions, observations written, ended episodes reset.
//
//   environment_benchmark --benchmark_format=json

#include <string>
#include <utility>
#include <vector>

#include "benchmark/benchmark.h"
#include "common/random.h"
#include "envs/registry.h"

namespace qfleet {
namespace {

constexpr int kEnvironments = 64;
constexpr int kActionRows = 251;  // Prime: no episode meets the same again.

void Step(benchmark::State& state, const std::string& id) {
  v1::EnvironmentConfig config;
  config.set_id(id);
  auto vector =
      MakeVectorEnvironment(config, {.count = kEnvironments, .seed = 1});
  if (!vector.ok()) {
    state.SkipWithError(vector.status().ToString().c_str());
    return;
  }
  Random random(2);
  std::vector<std::vector<int>> actions(kActionRows,
                                        std::vector<int>(kEnvironments));
  for (std::vector<int>& row : actions) {
    for (int& action : row) {
      action = static_cast<int>(random.Below((*vector)->spec().num_actions));
    }
  }
  size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize((*vector)->Step(actions[next]));
    benchmark::DoNotOptimize((*vector)->stacks().data);
    benchmark::ClobberMemory();
    next = (next + 1) % kActionRows;
  }
  state.counters["steps_per_second"] = benchmark::Counter(
      static_cast<double>(state.iterations() * kEnvironments),
      benchmark::Counter::kIsRate);
}

}  // namespace
}  // namespace qfleet

int main(int argc, char** argv) {
  for (const std::string& id : qfleet::EnvironmentIds()) {
    benchmark::RegisterBenchmark(
        id.c_str(), [id](benchmark::State& state) { qfleet::Step(state, id); });
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
