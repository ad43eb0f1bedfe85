// Runs a fuzz target over the files of a folder and then over random mutations
// of these, the same in each run.
//
//   append_replay RUNS FOLDER

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "common/random.h"
#include "fuzz/fuzz.h"

namespace qfleet {
namespace {

void Run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()),
                         input.size());
}

std::vector<std::string> ReadSeeds(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> seeds;
  for (const std::filesystem::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file),
                       std::istreambuf_iterator<char>());
  }
  return seeds;
}

std::string Mutate(const std::vector<std::string>& seeds, Random& random) {
  std::string input = seeds[random.Below(seeds.size())];
  for (uint64_t times = 1 + random.Below(8); times > 0; --times) {
    const size_t at = random.Below(input.size() + 1);
    const auto byte = static_cast<char>(random.Below(256));
    switch (random.Below(5)) {
      case 0:
        if (at < input.size()) input[at] = byte;
        break;
      case 1:
        input.insert(at, 1 + random.Below(8), byte);
        break;
      case 2:
        input.erase(at, 1 + random.Below(8));
        break;
      case 3:
        input.insert(at, input, random.Below(input.size() + 1),
                     random.Below(64));
        break;
      default:
        const std::string& other = seeds[random.Below(seeds.size())];
        input.insert(at, other, random.Below(other.size() + 1),
                     random.Below(256));
    }
  }
  return input;
}

int Main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << argv[0] << ": allowed is RUNS FOLDER" << std::endl;
    return 2;
  }
  const std::vector<std::string> seeds = ReadSeeds(argv[2]);
  Require(!seeds.empty(), "there are seeds");
  for (const std::string& seed : seeds) Run(seed);
  Random random(1);
  const int runs = std::atoi(argv[1]);
  for (int i = 0; i < runs; ++i) {
    const std::string input = Mutate(seeds, random);
    // What made it fail, if it does.
    std::ofstream("failed_input", std::ios::binary) << input;
    Run(input);
  }
  std::filesystem::remove("failed_input");
  std::cout << seeds.size() << " seeds and " << runs << " mutations"
            << std::endl;
  return 0;
}

}  // namespace
}  // namespace qfleet

int main(int argc, char** argv) { return qfleet::Main(argc, argv); }
