// Jobs in a table that is a kernel's parameter: nothing is copied to the device, and nothing waits.
#pragma once

#include "simd/vec.hpp"

namespace pyinit::cuda {

constexpr size_t kTableBytes = 4000;  // for entries, of the 4096 that a kernel's parameters may have

// The entry that a block of threads works on: the last whose first block, first_of(entry), is not behind it.
template <class First> PYINIT_INLINE int entry_at(int64_t block, int count, const First& first_of) {
  int low = 0, past = count;
  while (past - low > 1) {
    const int middle = (low + past) / 2;
    (first_of(middle) <= block ? low : past) = middle;
  }
  return low;
}

}  // namespace pyinit::cuda
