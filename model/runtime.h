// LibTorch's process-wide settings that qfleet needs, in one place.

#ifndef QFLEET_MODEL_RUNTIME_H_
#define QFLEET_MODEL_RUNTIME_H_

#include <string>

namespace qfleet {

// Threads of one operation, and glibc's allocator kept from giving large
// blocks back after each use (which made an update 3 times slower). Call once,
// before the first tensor. Returns "LibTorch 1.13.0, 1 thread".
std::string InitTorch(int threads);

}  // namespace qfleet

#endif  // QFLEET_MODEL_RUNTIME_H_
