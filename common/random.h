// Seeded randomness. Every generator of qfleet is a Random whose seed is
// injected; streams that must differ derive theirs with MixSeed.
//
//   Random random(MixSeed(config.seed(), actor_index));
//   double u = random.Uniform();

#ifndef QFLEET_COMMON_RANDOM_H_
#define QFLEET_COMMON_RANDOM_H_

#include <cstdint>
#include <random>
#include <sstream>
#include <string>

namespace qfleet {

// SplitMix64's finaliser (Steele et al. 2014): well-mixed seeds from small
// integers.
inline uint64_t MixSeed(uint64_t seed, uint64_t salt) {
  uint64_t z = seed + (salt + 1) * 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

// Thread-compatible.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  uint64_t Bits() { return engine_(); }

  // Uniform in [0, 1), 53 bits.
  double Uniform() { return static_cast<double>(engine_() >> 11) * 0x1.0p-53; }
  double Uniform(double low, double high) {
    return low + (high - low) * Uniform();
  }
  // Uniform in [0, n), n > 0; the bias of n / 2^64 is accepted.
  uint64_t Below(uint64_t n) {
    return static_cast<uint64_t>(
        (static_cast<unsigned __int128>(engine_()) * n) >> 64);
  }

  std::mt19937_64& engine() { return engine_; }

  // The whole state as text. Load says whether it was one; if not, nothing has
  // changed.
  std::string Save() const {
    std::ostringstream text;
    text << engine_;
    return text.str();
  }
  bool Load(const std::string& text) {
    std::istringstream stream(text);
    std::mt19937_64 engine;
    if (!(stream >> engine)) return false;
    engine_ = engine;
    return true;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_RANDOM_H_
