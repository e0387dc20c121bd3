#include "random/libm.hpp"

#include <cstdio>

#if defined(__GLIBC__)
#include <gnu/libc-version.h>
#endif

namespace pyinit {

const bool libm_is_glibcs = [] {
#if defined(__GLIBC__)
  int major = 0, minor = 0;
  return std::sscanf(gnu_get_libc_version(), "%d.%d", &major, &minor) == 2 &&
         (major > 2 || (major == 2 && minor >= 28));
#else
  return false;
#endif
}();

}  // namespace pyinit
