// Elements that are apart in memory, copied to lie side by side.
#pragma once

#include <cstdint>

#include "core/dtype.hpp"

namespace pyinit {

// Copies `count` elements that are `stride` apart.
inline void gather(const char* from, char* to, int64_t count, int64_t stride, DType dtype) {
  visit(dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = reinterpret_cast<const T*>(from);
    T* const out = reinterpret_cast<T*>(to);
    for (int64_t i = 0; i < count; ++i) out[i] = x[i * stride];
  });
}

}  // namespace pyinit
