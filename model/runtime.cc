#include "model/runtime.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <torch/version.h>

#include "absl/strings/str_cat.h"

namespace qfleet {

std::string InitTorch(int threads) {
  at::set_num_threads(threads);
  // OpenBLAS keeps threads of its own, where it is the BLAS.
  using SetThreads = void (*)(int);
  if (auto set = reinterpret_cast<SetThreads>(
          dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
      set != nullptr) {
    set(threads);
  }
  return absl::StrCat("LibTorch ", TORCH_VERSION, ", ", threads,
                      threads == 1 ? " thread" : " threads");
}

}  // namespace qfleet
