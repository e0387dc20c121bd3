// Squares of elements turned in registers, for kernels that make columns of rows.
#pragma once

#include <cstdint>

#include "core/inline.hpp"
#include "core/isa.hpp"

#if __has_builtin(__builtin_shufflevector)  // GCC 12, any Clang

namespace pyinit::PYINIT_NS {
namespace {

template <int side> struct Square {};

// A square of 4 x 4, or of 8 x 8. to(l) is where column l goes.
template <class T, class To> PYINIT_INLINE void transpose_square(const T* x, int64_t row, To&& to, Square<4>) {
  typedef T Four __attribute__((vector_size(4 * sizeof(T))));  // NOLINT(modernize-use-using)
  Four r[4];
#pragma GCC unroll 4
  for (int l = 0; l < 4; ++l) __builtin_memcpy(&r[l], x + l * row, sizeof(Four));
  const Four low01 = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
  const Four low23 = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
  const Four high01 = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
  const Four high23 = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  r[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
  r[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
  r[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
  r[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
#pragma GCC unroll 4
  for (int l = 0; l < 4; ++l) __builtin_memcpy(to(l), &r[l], sizeof(Four));
}
template <class T, class To> PYINIT_INLINE void transpose_square(const T* x, int64_t row, To&& to, Square<8>) {
  typedef T Eight __attribute__((vector_size(8 * sizeof(T))));  // NOLINT(modernize-use-using)
  Eight r[8], pairs[8];
#pragma GCC unroll 8
  for (int l = 0; l < 8; ++l) __builtin_memcpy(&r[l], x + l * row, sizeof(Eight));
#pragma GCC unroll 4
  for (int l = 0; l < 4; ++l) {
    pairs[2 * l] = __builtin_shufflevector(r[2 * l], r[2 * l + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    pairs[2 * l + 1] = __builtin_shufflevector(r[2 * l], r[2 * l + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  // Columns l and l + 4 of four rows.
#pragma GCC unroll 2
  for (int l = 0; l < 8; l += 4) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      r[l + 2 * i] = __builtin_shufflevector(pairs[l + i], pairs[l + 2 + i], 0, 1, 8, 9, 4, 5, 12, 13);
      r[l + 2 * i + 1] = __builtin_shufflevector(pairs[l + i], pairs[l + 2 + i], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
#pragma GCC unroll 4
  for (int l = 0; l < 4; ++l) {
    const Eight low = __builtin_shufflevector(r[l], r[l + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    const Eight high = __builtin_shufflevector(r[l], r[l + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    __builtin_memcpy(to(l), &low, sizeof(Eight));
    __builtin_memcpy(to(l + 4), &high, sizeof(Eight));
  }
}

}  // namespace
}  // namespace pyinit::PYINIT_NS

#endif
