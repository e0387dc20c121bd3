// Values to a device's memory in any dtype, rounded to nearest even.
#pragma once

#include "core/dtype.hpp"
#include "simd/math.hpp"

namespace pyinit::cuda {

// The float16 nearest to x, ties to even, as bits.
PYINIT_INLINE uint16_t half_bits(float x) {
#if defined(__CUDA_ARCH__)
  uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return x == x ? half : uint16_t{0x7E00};
#else
  const uint32_t b = bits(f32(x)).v, sign = b >> 16 & 0x8000U, magnitude = b & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<uint16_t>(sign | 0x7E00U);
  if (magnitude >= 0x477FF000U) return static_cast<uint16_t>(sign | 0x7C00U);  // what rounds to 65536 and above
  if (magnitude < 0x38800000U) {
    // Below 2^-14 the spacing is 2^-24: adding 1/2 puts such steps at the end of the mantissa.
    const uint32_t steps = bits(from_bits(u32(magnitude)) + f32(0.5F)).v - 0x3F000000U;
    return static_cast<uint16_t>(sign | steps);
  }
  return static_cast<uint16_t>(sign | (magnitude - 0x38000000U + 0xFFFU + (magnitude >> 13 & 1)) >> 13);
#endif
}

PYINIT_INLINE float rounded(float, F32 x) { return x.v; }
PYINIT_INLINE double rounded(double, F64 x) { return x.v; }
PYINIT_INLINE Half rounded(Half, F32 x) { return {half_bits(x.v)}; }
PYINIT_INLINE BFloat16 rounded(BFloat16, F32 x) { return {static_cast<uint16_t>(bf16_bits(x).v)}; }

// Four words that one instruction stores.
struct alignas(16) Words {
  uint32_t x, y, z, w;
};

PYINIT_INLINE bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % alignof(Words) == 0; }

template <class T, int parts, int n> PYINIT_INLINE void store_together(T* to, const T (&x)[parts][n]) {
  static_assert(sizeof x == sizeof(Words));
  Words words;
  std::memcpy(&words, x, sizeof words);
#if defined(__CUDA_ARCH__)
  // The compiler would store the members one by one.
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(__cvta_generic_to_global(to)), "r"(words.x), "r"(words.y), "r"(words.z), "r"(words.w)
               : "memory");
#else
  *reinterpret_cast<Words*>(to) = words;
#endif
}

}  // namespace pyinit::cuda
