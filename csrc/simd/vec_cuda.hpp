// One lane: a CUDA thread. Everything rounds once and to nearest, as on the other sets; without __CUDA_ARCH__ it is
// plain C++, which the tests run.
#pragma once

#include <cassert>
#include <cmath>

namespace pyinit::PYINIT_NS {

constexpr int kLanes32 = 1;
constexpr int kLanes64 = 1;
constexpr bool kHasFma = true;

struct F32 {
  float v;
};
struct F64 {
  double v;
};
struct U32 {
  uint32_t v;
};
struct U64 {
  uint64_t v;
};
struct M32 {
  bool v;
};
struct M64 {
  bool v;
};

// The compiler may contract a product and a sum; intrinsics it leaves alone.
#if defined(__CUDA_ARCH__)
PYINIT_INLINE float add(float a, float b) { return __fadd_rn(a, b); }
PYINIT_INLINE float subtract(float a, float b) { return __fsub_rn(a, b); }
PYINIT_INLINE float multiply(float a, float b) { return __fmul_rn(a, b); }
PYINIT_INLINE float divide(float a, float b) { return __fdiv_rn(a, b); }
// What the compiler makes of __fsqrt_rn, without the branch to other arguments than 0, infinity and 2^-100 and above.
PYINIT_INLINE float root(float a) {
  float inverse;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(a));
  const float r = __fmul_rn(a, inverse);
  const float nearest = __fmaf_rn(__fmaf_rn(-r, r, a), __fmul_rn(inverse, 0.5F), r);
  return a == 0 || a == INFINITY ? a : nearest;
}
PYINIT_INLINE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
PYINIT_INLINE double add(double a, double b) { return __dadd_rn(a, b); }
PYINIT_INLINE double subtract(double a, double b) { return __dsub_rn(a, b); }
PYINIT_INLINE double multiply(double a, double b) { return __dmul_rn(a, b); }
PYINIT_INLINE double divide(double a, double b) { return __ddiv_rn(a, b); }
PYINIT_INLINE double root(double a) { return __dsqrt_rn(a); }
PYINIT_INLINE double fused(double a, double b, double c) { return __fma_rn(a, b, c); }
#else
template <class T> PYINIT_INLINE T add(T a, T b) { return a + b; }
template <class T> PYINIT_INLINE T subtract(T a, T b) { return a - b; }
template <class T> PYINIT_INLINE T multiply(T a, T b) { return a * b; }
template <class T> PYINIT_INLINE T divide(T a, T b) { return a / b; }
template <class T> PYINIT_INLINE T root(T a) {
  if constexpr (std::is_same_v<T, float>) assert(!(a < 0x1p-100F) || a == 0);  // see above
  return std::sqrt(a);
}
template <class T> PYINIT_INLINE T fused(T a, T b, T c) { return std::fma(a, b, c); }
#endif

PYINIT_INLINE F32 f32(float x) { return {x}; }
PYINIT_INLINE F64 f64(double x) { return {x}; }
PYINIT_INLINE U32 u32(uint32_t x) { return {x}; }
PYINIT_INLINE U64 u64(uint64_t x) { return {x}; }

// Arithmetic.
PYINIT_INLINE F32 operator+(F32 a, F32 b) { return {add(a.v, b.v)}; }
PYINIT_INLINE F32 operator-(F32 a, F32 b) { return {subtract(a.v, b.v)}; }
PYINIT_INLINE F32 operator*(F32 a, F32 b) { return {multiply(a.v, b.v)}; }
PYINIT_INLINE F32 operator/(F32 a, F32 b) { return {divide(a.v, b.v)}; }
PYINIT_INLINE F64 operator+(F64 a, F64 b) { return {add(a.v, b.v)}; }
PYINIT_INLINE F64 operator-(F64 a, F64 b) { return {subtract(a.v, b.v)}; }
PYINIT_INLINE F64 operator*(F64 a, F64 b) { return {multiply(a.v, b.v)}; }
PYINIT_INLINE F64 operator/(F64 a, F64 b) { return {divide(a.v, b.v)}; }
PYINIT_INLINE F32 fma(F32 a, F32 b, F32 c) { return {fused(a.v, b.v, c.v)}; }
PYINIT_INLINE F64 fma(F64 a, F64 b, F64 c) { return {fused(a.v, b.v, c.v)}; }
PYINIT_INLINE F32 fnma(F32 a, F32 b, F32 c) { return {fused(-a.v, b.v, c.v)}; }
PYINIT_INLINE F64 fnma(F64 a, F64 b, F64 c) { return {fused(-a.v, b.v, c.v)}; }
PYINIT_INLINE F32 sqrt(F32 a) { return {root(a.v)}; }
PYINIT_INLINE F64 sqrt(F64 a) { return {root(a.v)}; }
PYINIT_INLINE F32 min(F32 a, F32 b) { return {a.v < b.v ? a.v : b.v}; }
PYINIT_INLINE F64 min(F64 a, F64 b) { return {a.v < b.v ? a.v : b.v}; }
PYINIT_INLINE F32 max(F32 a, F32 b) { return {a.v > b.v ? a.v : b.v}; }
PYINIT_INLINE F64 max(F64 a, F64 b) { return {a.v > b.v ? a.v : b.v}; }

// Integers.
PYINIT_INLINE U32 operator+(U32 a, U32 b) { return {a.v + b.v}; }
PYINIT_INLINE U32 operator-(U32 a, U32 b) { return {a.v - b.v}; }
PYINIT_INLINE U32 operator&(U32 a, U32 b) { return {a.v & b.v}; }
PYINIT_INLINE U32 operator|(U32 a, U32 b) { return {a.v | b.v}; }
PYINIT_INLINE U32 operator^(U32 a, U32 b) { return {a.v ^ b.v}; }
PYINIT_INLINE U64 operator+(U64 a, U64 b) { return {a.v + b.v}; }
PYINIT_INLINE U64 operator-(U64 a, U64 b) { return {a.v - b.v}; }
PYINIT_INLINE U64 operator&(U64 a, U64 b) { return {a.v & b.v}; }
PYINIT_INLINE U64 operator|(U64 a, U64 b) { return {a.v | b.v}; }
PYINIT_INLINE U64 operator^(U64 a, U64 b) { return {a.v ^ b.v}; }
template <int n> PYINIT_INLINE U32 shl(U32 a) { return {a.v << n}; }
template <int n> PYINIT_INLINE U32 shr(U32 a) { return {a.v >> n}; }
template <int n> PYINIT_INLINE U32 sar(U32 a) { return {static_cast<uint32_t>(static_cast<int32_t>(a.v) >> n)}; }
template <int n> PYINIT_INLINE U64 shl(U64 a) { return {a.v << n}; }
template <int n> PYINIT_INLINE U64 shr(U64 a) { return {a.v >> n}; }

// Bit patterns and conversions.
#if defined(__CUDA_ARCH__)
PYINIT_INLINE U32 bits(F32 a) { return {__float_as_uint(a.v)}; }
PYINIT_INLINE F32 from_bits(U32 a) { return {__uint_as_float(a.v)}; }
PYINIT_INLINE U64 bits(F64 a) { return {static_cast<uint64_t>(__double_as_longlong(a.v))}; }
PYINIT_INLINE F64 from_bits(U64 a) { return {__longlong_as_double(static_cast<long long>(a.v))}; }
#else
template <class To, class From> PYINIT_INLINE To same_bits(From x) {
  To y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}
PYINIT_INLINE U32 bits(F32 a) { return {same_bits<uint32_t>(a.v)}; }
PYINIT_INLINE F32 from_bits(U32 a) { return {same_bits<float>(a.v)}; }
PYINIT_INLINE U64 bits(F64 a) { return {same_bits<uint64_t>(a.v)}; }
PYINIT_INLINE F64 from_bits(U64 a) { return {same_bits<double>(a.v)}; }
#endif
// Taken as a signed integer, rounded to nearest even.
PYINIT_INLINE F32 signed_to_f32(U32 a) { return {static_cast<float>(static_cast<int32_t>(a.v))}; }

// Masks.
PYINIT_INLINE M32 less(F32 a, F32 b) { return {a.v < b.v}; }
PYINIT_INLINE M64 less(F64 a, F64 b) { return {a.v < b.v}; }
PYINIT_INLINE M32 less_equal(F32 a, F32 b) { return {a.v <= b.v}; }
PYINIT_INLINE M64 less_equal(F64 a, F64 b) { return {a.v <= b.v}; }
PYINIT_INLINE M32 equal(F32 a, F32 b) { return {a.v == b.v}; }
PYINIT_INLINE M64 equal(F64 a, F64 b) { return {a.v == b.v}; }
PYINIT_INLINE M32 signed_greater(U32 a, U32 b) { return {static_cast<int32_t>(a.v) > static_cast<int32_t>(b.v)}; }
PYINIT_INLINE M64 signed_greater(U64 a, U64 b) { return {static_cast<int64_t>(a.v) > static_cast<int64_t>(b.v)}; }
PYINIT_INLINE M32 sign_bit(U32 a) { return {(a.v >> 31) != 0}; }
PYINIT_INLINE M64 sign_bit(U64 a) { return {(a.v >> 63) != 0}; }
PYINIT_INLINE F32 select(M32 m, F32 yes, F32 no) { return m.v ? yes : no; }
PYINIT_INLINE F64 select(M64 m, F64 yes, F64 no) { return m.v ? yes : no; }
PYINIT_INLINE U32 select(M32 m, U32 yes, U32 no) { return m.v ? yes : no; }
PYINIT_INLINE U64 select(M64 m, U64 yes, U64 no) { return m.v ? yes : no; }
// counts, plus 1 in the lanes of m.
PYINIT_INLINE U32 counted(M32 m, U32 counts) { return counts + u32(m.v ? 1 : 0); }
PYINIT_INLINE U64 counted(M64 m, U64 counts) { return counts + u64(m.v ? 1 : 0); }
PYINIT_INLINE bool any(M32 m) { return m.v; }
PYINIT_INLINE bool any(M64 m) { return m.v; }

}  // namespace pyinit::PYINIT_NS
