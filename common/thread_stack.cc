// A floor under the stack size that a thread may ask for.
//
// The HTTP server inside prometheus-cpp asks for 100 KiB. glibc takes a
// thread's static TLS from its stack, and LibTorch's dependencies need more
// than that: thread creation fails and the server reports "problem binding to
// port". Linked into every executable that serves metrics beside LibTorch.

#include <dlfcn.h>
#include <pthread.h>

#include <cstddef>

extern "C" int pthread_attr_setstacksize(pthread_attr_t* attributes,
                                         size_t size) {
  constexpr size_t kFloor = size_t{1} << 20;
  using Function = int (*)(pthread_attr_t*, size_t);
  static const Function next =
      reinterpret_cast<Function>(dlsym(RTLD_NEXT, "pthread_attr_setstacksize"));
  return next(attributes, size < kFloor ? kFloor : size);
}
