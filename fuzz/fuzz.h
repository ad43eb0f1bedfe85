// What the fuzz targets share. Each is a file NAME_fuzzer.cc with
//
//   extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
//
// which aborts if something is wrong. fuzz/run.sh gives it to libFuzzer
// (clang); in every other build mutate_main.cc runs the seeds and random
// mutations of them, as a test.

#ifndef QFLEET_FUZZ_FUZZ_H_
#define QFLEET_FUZZ_FUZZ_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace qfleet {

inline void Require(bool holds, absl::string_view what) {
  if (holds) return;
  std::cerr << "does not hold: " << what << std::endl;
  std::abort();
}

inline void Require(const absl::Status& status) {
  Require(status.ok(), status.ToString());
}

// Reads numbers off an input; zeros once it is used up.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  bool empty() const { return left_ == 0; }
  uint8_t Byte() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }
  uint32_t Word() {
    uint32_t word = 0;
    for (int i = 0; i < 4; ++i) word = word << 8 | Byte();
    return word;
  }
  // At most so many of the bytes that are left.
  std::string Bytes(size_t count) {
    count = count < left_ ? count : left_;
    std::string bytes(reinterpret_cast<const char*>(data_), count);
    data_ += count;
    left_ -= count;
    return bytes;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

}  // namespace qfleet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#endif  // QFLEET_FUZZ_FUZZ_H_
