#include "model/runtime.h"

#include <ATen/Parallel.h>
#include <malloc.h>
#include <torch/version.h>

#include "absl/strings/str_cat.h"

namespace qfleet {

std::string InitTorch(int threads) {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  at::set_num_threads(threads);
  return absl::StrCat("LibTorch ", TORCH_VERSION, ", ", threads,
                      threads == 1 ? " thread" : " threads");
}

}  // namespace qfleet
