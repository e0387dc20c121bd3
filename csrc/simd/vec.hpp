// One vector interface for every instruction set. A kernel source is compiled once per instruction
// set with PYINIT_NS naming it; everything here lands in that namespace, so no inline function
// compiled for one instruction set is linked into another.
//
// Types: F32, U32 (kLanes32 lanes), F64, U64 (kLanes64 lanes), M32, M64 (lane masks).
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/inline.hpp"

#if defined(PYINIT_NS_cuda)
#include "simd/vec_cuda.hpp"
#elif defined(PYINIT_NS_avx512)
#include "simd/vec_avx512.hpp"
#elif defined(PYINIT_NS_avx2)
#include "simd/vec_avx2.hpp"
#elif defined(PYINIT_NS_neon)
#include "simd/vec_neon.hpp"
#else
#include "simd/vec_baseline.hpp"
#endif

namespace pyinit::PYINIT_NS {

// Broadcast by the scalar's type.
PYINIT_INLINE F32 vec(float x) { return f32(x); }
PYINIT_INLINE F64 vec(double x) { return f64(x); }

// Vectors by the scalar's type, and how many elements they have.
template <class T> using Vec = decltype(vec(T{}));
template <class T> constexpr int kLanes = std::is_same_v<T, float> ? kLanes32 : kLanes64;

// a b + c, and c - a b, rounded once where that is one instruction. Emulated it takes ten times as long, and its bits
// are promised only with.
template <class V> PYINIT_INLINE V multiply_add(V a, V b, V c) {
  if constexpr (kHasFma) {
    return fma(a, b, c);
  } else {
    return c + a * b;
  }
}
template <class V> PYINIT_INLINE V multiply_subtract(V a, V b, V c) {
  if constexpr (kHasFma) {
    return fnma(a, b, c);
  } else {
    return c - a * b;
  }
}

// The same double constant in lanes of either type.
template <class F> PYINIT_INLINE F constant(double x) {
  if constexpr (std::is_same_v<F, F32>) {
    return f32(static_cast<float>(x));
  } else {
    return f64(x);
  }
}

}  // namespace pyinit::PYINIT_NS
