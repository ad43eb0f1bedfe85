// To be preloaded: msync fails with EIO while the file that QFLEET_FAIL_SYNC
// names is there, as on a disk that cannot write any more.

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

extern "C" int msync(void* address, size_t length, int flags) {
  using Msync = int (*)(void*, size_t, int);
  static const Msync next = reinterpret_cast<Msync>(dlsym(RTLD_NEXT, "msync"));
  const char* path = std::getenv("QFLEET_FAIL_SYNC");
  if (path != nullptr && access(path, F_OK) == 0) {
    errno = EIO;
    return -1;
  }
  return next(address, length, flags);
}
