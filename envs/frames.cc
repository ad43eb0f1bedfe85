#include "envs/frames.h"

#include <algorithm>
#include <cstring>

namespace qfleet {

void Frames::Advance() {
  if (stack_ == 1) return;
  if (newest_ + 1 < capacity_) {
    ++newest_;
    return;
  }
  const size_t environments = data_.size() / (capacity_ * frame_bytes_);
  for (size_t i = 0; i < environments; ++i) {
    const int strip = static_cast<int>(i);
    std::memmove(At(strip, 0), At(strip, newest_ + 2 - stack_),
                 (stack_ - 1) * frame_bytes_);
  }
  newest_ = stack_ - 1;
}

void Frames::Begin(int i) {
  for (size_t back = 1; back < stack_; ++back) {
    std::memcpy(At(i, newest_ - back), At(i, newest_), frame_bytes_);
  }
}

void Frames::SetStack(int i, absl::Span<const char> frames) {
  std::copy(frames.begin(), frames.end(), At(i, newest_ + 1 - stack_));
}

}  // namespace qfleet
