// Advanced SIMD (NEON) of aarch64.
#pragma once

#include <arm_neon.h>

namespace pyinit::PYINIT_NS {

constexpr int kLanes32 = 4;
constexpr int kLanes64 = 2;
constexpr bool kHasFma = true;

struct F32 {
  float32x4_t v;
};
struct F64 {
  float64x2_t v;
};
struct U32 {
  uint32x4_t v;
};
struct U64 {
  uint64x2_t v;
};
struct M32 {
  uint32x4_t v;
};
struct M64 {
  uint64x2_t v;
};

// Broadcast, load, store.
PYINIT_INLINE F32 f32(float x) { return {vdupq_n_f32(x)}; }
PYINIT_INLINE F64 f64(double x) { return {vdupq_n_f64(x)}; }
PYINIT_INLINE U32 u32(uint32_t x) { return {vdupq_n_u32(x)}; }
PYINIT_INLINE U64 u64(uint64_t x) { return {vdupq_n_u64(x)}; }
PYINIT_INLINE U64 iota64() { return {vcombine_u64(vcreate_u64(0), vcreate_u64(1))}; }
PYINIT_INLINE F32 load(const float* p) { return {vld1q_f32(p)}; }
PYINIT_INLINE F64 load(const double* p) { return {vld1q_f64(p)}; }
PYINIT_INLINE U32 load(const uint32_t* p) { return {vld1q_u32(p)}; }
PYINIT_INLINE U64 load(const uint64_t* p) { return {vld1q_u64(p)}; }
PYINIT_INLINE void store(float* p, F32 x) { vst1q_f32(p, x.v); }
PYINIT_INLINE void store(double* p, F64 x) { vst1q_f64(p, x.v); }
PYINIT_INLINE void store(uint32_t* p, U32 x) { vst1q_u32(p, x.v); }
PYINIT_INLINE void store(uint64_t* p, U64 x) { vst1q_u64(p, x.v); }
// Stores past the caches, and what makes them visible to other threads: there are none here.
PYINIT_INLINE void stream(float* p, F32 x) { store(p, x); }
PYINIT_INLINE void stream(double* p, F64 x) { store(p, x); }
PYINIT_INLINE void stream_fence() {}

// Arithmetic.
PYINIT_INLINE F32 operator+(F32 a, F32 b) { return {vaddq_f32(a.v, b.v)}; }
PYINIT_INLINE F32 operator-(F32 a, F32 b) { return {vsubq_f32(a.v, b.v)}; }
PYINIT_INLINE F32 operator*(F32 a, F32 b) { return {vmulq_f32(a.v, b.v)}; }
PYINIT_INLINE F32 operator/(F32 a, F32 b) { return {vdivq_f32(a.v, b.v)}; }
PYINIT_INLINE F64 operator+(F64 a, F64 b) { return {vaddq_f64(a.v, b.v)}; }
PYINIT_INLINE F64 operator-(F64 a, F64 b) { return {vsubq_f64(a.v, b.v)}; }
PYINIT_INLINE F64 operator*(F64 a, F64 b) { return {vmulq_f64(a.v, b.v)}; }
PYINIT_INLINE F64 operator/(F64 a, F64 b) { return {vdivq_f64(a.v, b.v)}; }
PYINIT_INLINE F32 fma(F32 a, F32 b, F32 c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
PYINIT_INLINE F64 fma(F64 a, F64 b, F64 c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
PYINIT_INLINE F32 fnma(F32 a, F32 b, F32 c) { return {vfmsq_f32(c.v, a.v, b.v)}; }
PYINIT_INLINE F64 fnma(F64 a, F64 b, F64 c) { return {vfmsq_f64(c.v, a.v, b.v)}; }
PYINIT_INLINE F32 sqrt(F32 a) { return {vsqrtq_f32(a.v)}; }
PYINIT_INLINE F64 sqrt(F64 a) { return {vsqrtq_f64(a.v)}; }

// Integers.
PYINIT_INLINE U32 operator+(U32 a, U32 b) { return {vaddq_u32(a.v, b.v)}; }
PYINIT_INLINE U32 operator-(U32 a, U32 b) { return {vsubq_u32(a.v, b.v)}; }
PYINIT_INLINE U32 operator&(U32 a, U32 b) { return {vandq_u32(a.v, b.v)}; }
PYINIT_INLINE U32 operator|(U32 a, U32 b) { return {vorrq_u32(a.v, b.v)}; }
PYINIT_INLINE U32 operator^(U32 a, U32 b) { return {veorq_u32(a.v, b.v)}; }
PYINIT_INLINE U64 operator+(U64 a, U64 b) { return {vaddq_u64(a.v, b.v)}; }
PYINIT_INLINE U64 operator-(U64 a, U64 b) { return {vsubq_u64(a.v, b.v)}; }
PYINIT_INLINE U64 operator&(U64 a, U64 b) { return {vandq_u64(a.v, b.v)}; }
PYINIT_INLINE U64 operator|(U64 a, U64 b) { return {vorrq_u64(a.v, b.v)}; }
PYINIT_INLINE U64 operator^(U64 a, U64 b) { return {veorq_u64(a.v, b.v)}; }
PYINIT_INLINE U64 xor3(U64 a, U64 b, U64 c) { return a ^ (b ^ c); }
template <int n> PYINIT_INLINE U32 shl(U32 a) { return {vshlq_n_u32(a.v, n)}; }
template <int n> PYINIT_INLINE U32 shr(U32 a) { return {vshrq_n_u32(a.v, n)}; }
template <int n> PYINIT_INLINE U32 sar(U32 a) {
  return {vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(a.v), n))};
}
template <int n> PYINIT_INLINE U64 shl(U64 a) { return {vshlq_n_u64(a.v, n)}; }
template <int n> PYINIT_INLINE U64 shr(U64 a) { return {vshrq_n_u64(a.v, n)}; }
PYINIT_INLINE U32 as_u32(U64 a) { return {vreinterpretq_u32_u64(a.v)}; }
PYINIT_INLINE U64 as_u64(U32 a) { return {vreinterpretq_u64_u32(a.v)}; }
// Lanes 0, 2, ... and 1, 3, ... in the low halves; the high halves are anything.
PYINIT_INLINE U64 even_lanes(U32 a) { return {vreinterpretq_u64_u32(a.v)}; }
PYINIT_INLINE U64 odd_lanes(U32 a) { return shr<32>(U64{vreinterpretq_u64_u32(a.v)}); }
// 64-bit products of the low halves of the lanes.
PYINIT_INLINE U64 mul_low(U64 a, U64 b) { return {vmull_u32(vmovn_u64(a.v), vmovn_u64(b.v))}; }
// The low halves of `even` and `odd`, alternating.
PYINIT_INLINE U32 weave(U64 even, U64 odd) {
  return {vtrn1q_u32(vreinterpretq_u32_u64(even.v), vreinterpretq_u32_u64(odd.v))};
}

// Bit patterns and conversions.
PYINIT_INLINE U32 bits(F32 a) { return {vreinterpretq_u32_f32(a.v)}; }
PYINIT_INLINE U64 bits(F64 a) { return {vreinterpretq_u64_f64(a.v)}; }
PYINIT_INLINE F32 from_bits(U32 a) { return {vreinterpretq_f32_u32(a.v)}; }
PYINIT_INLINE F64 from_bits(U64 a) { return {vreinterpretq_f64_u64(a.v)}; }
// Lanes taken as signed integers, rounded to nearest even.
PYINIT_INLINE F32 signed_to_f32(U32 a) { return {vcvtq_f32_s32(vreinterpretq_s32_u32(a.v))}; }
// Towards zero, for magnitudes below 2^31.
PYINIT_INLINE U32 truncate(F32 a) { return {vreinterpretq_u32_s32(vcvtq_s32_f32(a.v))}; }
// The same values as doubles, lanes in order.
PYINIT_INLINE void widen(F32 a, F64& low, F64& high) {
  low.v = vcvt_f64_f32(vget_low_f32(a.v));
  high.v = vcvt_high_f64_f32(a.v);
}

// Masks.
PYINIT_INLINE M32 less(F32 a, F32 b) { return {vcltq_f32(a.v, b.v)}; }
PYINIT_INLINE M64 less(F64 a, F64 b) { return {vcltq_f64(a.v, b.v)}; }
PYINIT_INLINE M32 less_equal(F32 a, F32 b) { return {vcleq_f32(a.v, b.v)}; }
PYINIT_INLINE M64 less_equal(F64 a, F64 b) { return {vcleq_f64(a.v, b.v)}; }
PYINIT_INLINE M32 equal(F32 a, F32 b) { return {vceqq_f32(a.v, b.v)}; }
PYINIT_INLINE M64 equal(F64 a, F64 b) { return {vceqq_f64(a.v, b.v)}; }
PYINIT_INLINE M32 signed_greater(U32 a, U32 b) {
  return {vcgtq_s32(vreinterpretq_s32_u32(a.v), vreinterpretq_s32_u32(b.v))};
}
PYINIT_INLINE M64 signed_greater(U64 a, U64 b) {
  return {vcgtq_s64(vreinterpretq_s64_u64(a.v), vreinterpretq_s64_u64(b.v))};
}
PYINIT_INLINE M32 sign_bit(U32 a) { return {vcltzq_s32(vreinterpretq_s32_u32(a.v))}; }
PYINIT_INLINE M64 sign_bit(U64 a) { return {vcltzq_s64(vreinterpretq_s64_u64(a.v))}; }
PYINIT_INLINE F32 select(M32 m, F32 yes, F32 no) { return {vbslq_f32(m.v, yes.v, no.v)}; }
PYINIT_INLINE F64 select(M64 m, F64 yes, F64 no) { return {vbslq_f64(m.v, yes.v, no.v)}; }
PYINIT_INLINE U32 select(M32 m, U32 yes, U32 no) { return {vbslq_u32(m.v, yes.v, no.v)}; }
PYINIT_INLINE U64 select(M64 m, U64 yes, U64 no) { return {vbslq_u64(m.v, yes.v, no.v)}; }
// counts, plus 1 in the lanes of m.
PYINIT_INLINE U32 counted(M32 m, U32 counts) { return {vsubq_u32(counts.v, m.v)}; }
PYINIT_INLINE U64 counted(M64 m, U64 counts) { return {vsubq_u64(counts.v, m.v)}; }
// Bit i tells lane i.
PYINIT_INLINE unsigned mask_bits(M32 m) {
  return vaddvq_u32(vandq_u32(m.v, vcombine_u32(vcreate_u32(0x0000000200000001U), vcreate_u32(0x0000000800000004U))));
}
PYINIT_INLINE unsigned mask_bits(M64 m) {
  return static_cast<unsigned>((vgetq_lane_u64(m.v, 0) & 1) | (vgetq_lane_u64(m.v, 1) & 2));
}
PYINIT_INLINE bool any(M32 m) { return vmaxvq_u32(m.v) != 0; }
PYINIT_INLINE bool any(M64 m) { return vmaxvq_u32(vreinterpretq_u32_u64(m.v)) != 0; }
// As on x86: the second operand where the comparison is false.
PYINIT_INLINE F32 min(F32 a, F32 b) { return select(less(a, b), a, b); }
PYINIT_INLINE F64 min(F64 a, F64 b) { return select(less(a, b), a, b); }
PYINIT_INLINE F32 max(F32 a, F32 b) { return select(less(b, a), a, b); }
PYINIT_INLINE F64 max(F64 a, F64 b) { return select(less(b, a), a, b); }

// Lane i of a, b, c, d becomes elements 4i .. 4i+3 of the sequence a, b, c, d.
PYINIT_INLINE void interleave(F32& a, F32& b, F32& c, F32& d) {
  const float64x2_t ab_even = vreinterpretq_f64_f32(vtrn1q_f32(a.v, b.v));
  const float64x2_t ab_odd = vreinterpretq_f64_f32(vtrn2q_f32(a.v, b.v));
  const float64x2_t cd_even = vreinterpretq_f64_f32(vtrn1q_f32(c.v, d.v));
  const float64x2_t cd_odd = vreinterpretq_f64_f32(vtrn2q_f32(c.v, d.v));
  a.v = vreinterpretq_f32_f64(vtrn1q_f64(ab_even, cd_even));
  b.v = vreinterpretq_f32_f64(vtrn1q_f64(ab_odd, cd_odd));
  c.v = vreinterpretq_f32_f64(vtrn2q_f64(ab_even, cd_even));
  d.v = vreinterpretq_f32_f64(vtrn2q_f64(ab_odd, cd_odd));
}
// Lane i of a, b becomes elements 2i, 2i+1 of the sequence a, b.
PYINIT_INLINE void interleave(F64& a, F64& b) {
  const float64x2_t lo = vtrn1q_f64(a.v, b.v);
  b.v = vtrn2q_f64(a.v, b.v);
  a.v = lo;
}

// The columns of the rows whose numbers lie at `row`, one a lane.
PYINIT_INLINE void load_rows(const double (*table)[4], const uint64_t* row, F64& a, F64& b, F64& c, F64& d) {
  const double *const p0 = table[row[0]], *const p1 = table[row[1]];
  const float64x2_t ab0 = vld1q_f64(p0), cd0 = vld1q_f64(p0 + 2), ab1 = vld1q_f64(p1), cd1 = vld1q_f64(p1 + 2);
  a.v = vzip1q_f64(ab0, ab1);
  b.v = vzip2q_f64(ab0, ab1);
  c.v = vzip1q_f64(cd0, cd1);
  d.v = vzip2q_f64(cd0, cd1);
}

// Stores with rounding to nearest even.
PYINIT_INLINE void store_f16(uint16_t* p, F32 x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x.v))); }
// The low 16 bits of every lane (whose high 16 bits are zero).
PYINIT_INLINE void store_low16(uint16_t* p, U32 x) { vst1_u16(p, vmovn_u32(x.v)); }

}  // namespace pyinit::PYINIT_NS
