// The forms of the weights: seconds of a core to make one (INT8: with a
// calibration, as the learner does) and to read it, for networks of three
// sizes.
//
//   codec_benchmark --benchmark_out=FILE --benchmark_out_format=json

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "benchmark/benchmark.h"
#include "common/random.h"
#include "weights/codec.h"

namespace qfleet {
namespace {

struct Network {
  const char* name;
  // Inputs and output channels of each layer, biases beside them.
  std::vector<std::pair<uint64_t, uint64_t>> layers;
  // Those that INT8 has as integers: which layer.
  int large;
};

const std::vector<Network>& Networks() {
  static const auto& networks = *new std::vector<Network>{
      {"CartPole", {{4, 128}, {128, 128}, {128, 2}}, 1},
      {"MinAtar", {{4 * 9, 16}, {1024, 128}, {128, 6}}, 1},
      {"Atari",
       {{4 * 64, 32}, {32 * 16, 64}, {64 * 9, 64}, {3136, 512}, {512, 18}},
       3}};
  return networks;
}

// The calibration's observations of a learner (model/weight_layout.h).
constexpr uint64_t kRows = 512;

struct Case {
  explicit Case(const Network& network) {
    Random random(1);
    for (const auto& [inputs, channels] : network.layers) {
      v1::WeightSpan& matrix = *layout.Add();
      matrix.set_size(inputs * channels);
      matrix.set_channels(channels);
      layout.Add()->set_size(channels);
      elements += (inputs + 1) * channels;
    }
    for (uint64_t i = 0; i < elements; ++i) {
      const auto value = static_cast<float>(random.Uniform(-1, 1));
      fp32.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    LayerInputs inputs{.span = 2 * network.large};
    inputs.values.resize(kRows * network.layers[network.large].first);
    // As after a ReLU: half of them zeros.
    for (float& value : inputs.values) {
      value = static_cast<float>(std::max(random.Uniform(-1, 1), 0.0));
    }
    calibration.push_back(std::move(inputs));
  }

  WeightLayout layout;
  uint64_t elements = 0;
  std::string fp32;
  Calibration calibration;
};

void BM_Encode(benchmark::State& state, const Network& network,
               v1::WeightCodec codec) {
  const Case one(network);
  for (auto _ : state) {
    auto encoded = EncodeWeights(one.fp32, one.layout, codec, one.calibration);
    if (!encoded.ok()) {
      state.SkipWithError(std::string(encoded.status().message()).c_str());
    }
    benchmark::DoNotOptimize(encoded);
  }
}

void BM_Decode(benchmark::State& state, const Network& network,
               v1::WeightCodec codec) {
  const Case one(network);
  const std::string encoded = *EncodeWeights(one.fp32, one.layout, codec);
  std::vector<float> values(one.elements);
  for (auto _ : state) {
    const absl::Status status =
        DecodeWeights(encoded, one.layout, codec, absl::MakeSpan(values));
    if (!status.ok()) {
      state.SkipWithError(std::string(status.message()).c_str());
    }
    benchmark::ClobberMemory();
  }
}

}  // namespace
}  // namespace qfleet

int main(int argc, char** argv) {
  for (const auto& network : qfleet::Networks()) {
    for (const auto codec : {qfleet::v1::BF16, qfleet::v1::INT8}) {
      const std::string name =
          std::string(network.name) + "/" + qfleet::v1::WeightCodec_Name(codec);
      for (const auto& [what, run] :
           {std::pair("encode/", &qfleet::BM_Encode),
            std::pair("decode/", &qfleet::BM_Decode)}) {
        benchmark::RegisterBenchmark((what + name).c_str(), run, network, codec)
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
