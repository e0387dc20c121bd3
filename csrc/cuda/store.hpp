// Values to a device's memory in any dtype, rounded to nearest even.
#pragma once

#include "core/dtype.hpp"
#include "simd/math.hpp"

namespace pyinit::cuda {

// The float16 nearest to x, ties to even, as bits.
PYINIT_INLINE uint16_t half_bits(float x) {
  const uint32_t b = bits(f32(x)).v, sign = b >> 16 & 0x8000U, magnitude = b & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<uint16_t>(sign | 0x7E00U);
  if (magnitude >= 0x477FF000U) return static_cast<uint16_t>(sign | 0x7C00U);  // what rounds to 65536 and above
  if (magnitude < 0x38800000U) {
    // Below 2^-14 the spacing is 2^-24: adding 1/2 puts such steps at the end of the mantissa.
    const uint32_t steps = bits(from_bits(u32(magnitude)) + f32(0.5F)).v - 0x3F000000U;
    return static_cast<uint16_t>(sign | steps);
  }
  return static_cast<uint16_t>(sign | (magnitude - 0x38000000U + 0xFFFU + (magnitude >> 13 & 1)) >> 13);
}

PYINIT_INLINE float rounded(float, F32 x) { return x.v; }
PYINIT_INLINE double rounded(double, F64 x) { return x.v; }
PYINIT_INLINE Half rounded(Half, F32 x) { return {half_bits(x.v)}; }
PYINIT_INLINE BFloat16 rounded(BFloat16, F32 x) { return {static_cast<uint16_t>(bf16_bits(x).v)}; }

template <class T, int n> struct alignas(sizeof(T) * n) Together {
  T x[n];
};

template <int n, class T> PYINIT_INLINE bool is_aligned(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % (sizeof(T) * n) == 0;
}

// A store that is one instruction, of parts side by side.
template <class T, int parts, int n> PYINIT_INLINE void store_together(T* to, const T (&x)[parts][n]) {
  Together<T, parts * n> all;
  for (int j = 0; j < parts * n; ++j) all.x[j] = x[j / n][j % n];
  *reinterpret_cast<Together<T, parts * n>*>(to) = all;
}

}  // namespace pyinit::cuda
