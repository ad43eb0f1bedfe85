// The last frames of N environments, stacked without copying.
//
// Each environment has a strip of memory, longer than a stack. A frame is
// written behind the one before, so that the newest `stack` of them always lie
// side by side, which is what a policy reads; at the end of the strip the last
// stack - 1 are copied to its beginning.
//
//   strip of environment i:  | . . a b c d e . . . . |
//                                  `--stack--'        d: the frame before,
//                                                     e: the newest
//
// With a stack of 1 the strip is one frame and all of them are one array.

#ifndef QFLEET_ENVS_FRAMES_H_
#define QFLEET_ENVS_FRAMES_H_

#include <cstddef>
#include <vector>

#include "absl/types/span.h"

namespace qfleet {

// Rows of bytes, `stride` bytes from one to the next.
struct StridedRows {
  const char* data = nullptr;
  size_t stride = 0;
};

// Thread-compatible.
class Frames {
 public:
  Frames(int environments, size_t frame_bytes, int stack)
      : frame_bytes_(frame_bytes),
        stack_(stack),
        // A long strip copies stack - 1 of so many frames.
        capacity_(stack == 1 ? 1 : size_t{8} * stack),
        newest_(stack - 1),
        data_(environments * capacity_ * frame_bytes) {}

  size_t frame_bytes() const { return frame_bytes_; }
  size_t stack_bytes() const { return frame_bytes_ * stack_; }

  // Goes on by one frame, everywhere: newest(i) is to be written then.
  void Advance();

  absl::Span<char> newest(int i) { return {At(i, newest_), frame_bytes_}; }
  absl::Span<const char> newest(int i) const {
    return {At(i, newest_), frame_bytes_};
  }

  // An episode begins with the newest frame: it is repeated in its stack.
  void Begin(int i);

  // [stack, frame]: the newest last. They stay until the next Advance.
  absl::Span<const char> stack(int i) const {
    return {At(i, newest_ + 1 - stack_), stack_bytes()};
  }
  void SetStack(int i, absl::Span<const char> frames);
  // Of all environments.
  StridedRows stacks() const {
    return {stack(0).data(), capacity_ * frame_bytes_};
  }

 private:
  const char* At(int i, size_t frame) const {
    return &data_[(i * capacity_ + frame) * frame_bytes_];
  }
  char* At(int i, size_t frame) {
    return &data_[(i * capacity_ + frame) * frame_bytes_];
  }

  const size_t frame_bytes_;
  const size_t stack_;
  const size_t capacity_;  // Frames of a strip.
  size_t newest_;          // In all strips.
  std::vector<char> data_;
};

}  // namespace qfleet

#endif  // QFLEET_ENVS_FRAMES_H_
