// x86-64-v2: SSE4.2, without FMA and half-precision conversion. Both are made here from what there
// is, with the same results bit for bit.
#pragma once

#include <immintrin.h>

namespace pyinit::PYINIT_NS {

constexpr int kLanes32 = 4;
constexpr int kLanes64 = 2;
constexpr bool kHasFma = false;  // emulated

struct F32 {
  __m128 v;
};
struct F64 {
  __m128d v;
};
struct U32 {
  __m128i v;
};
struct U64 {
  __m128i v;
};
struct M32 {
  __m128 v;
};
struct M64 {
  __m128d v;
};

// Broadcast, load, store.
PYINIT_INLINE F32 f32(float x) { return {_mm_set1_ps(x)}; }
PYINIT_INLINE F64 f64(double x) { return {_mm_set1_pd(x)}; }
PYINIT_INLINE U32 u32(uint32_t x) { return {_mm_set1_epi32(static_cast<int>(x))}; }
PYINIT_INLINE U64 u64(uint64_t x) { return {_mm_set1_epi64x(static_cast<long long>(x))}; }
PYINIT_INLINE U64 iota64() { return {_mm_set_epi64x(1, 0)}; }
PYINIT_INLINE F32 load(const float* p) { return {_mm_loadu_ps(p)}; }
PYINIT_INLINE F64 load(const double* p) { return {_mm_loadu_pd(p)}; }
PYINIT_INLINE U32 load(const uint32_t* p) { return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))}; }
PYINIT_INLINE U64 load(const uint64_t* p) { return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))}; }
PYINIT_INLINE void store(float* p, F32 x) { _mm_storeu_ps(p, x.v); }
PYINIT_INLINE void store(double* p, F64 x) { _mm_storeu_pd(p, x.v); }
PYINIT_INLINE void store(uint32_t* p, U32 x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x.v); }
PYINIT_INLINE void store(uint64_t* p, U64 x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x.v); }
// Stores to aligned places, past the caches; and what makes them visible to other threads.
PYINIT_INLINE void stream(float* p, F32 x) { _mm_stream_ps(p, x.v); }
PYINIT_INLINE void stream(double* p, F64 x) { _mm_stream_pd(p, x.v); }
PYINIT_INLINE void stream_fence() { _mm_sfence(); }

// s plus its exact rounding error, as if s had been rounded to odd: where the error is not zero and the
// last bit of s is even, s moves one step towards the error.
PYINIT_INLINE __m128d round_to_odd(__m128d s, __m128d error) {
  const __m128i b = _mm_castpd_si128(s);
  const __m128i even = _mm_cmpeq_epi64(_mm_and_si128(b, _mm_set1_epi64x(1)), _mm_setzero_si128());
  const __m128i inexact = _mm_castpd_si128(_mm_cmpneq_pd(error, _mm_setzero_pd()));
  // +1 away from zero when the error has the sign of s, -1 towards zero when not.
  const __m128i opposite = _mm_cmpgt_epi64(_mm_setzero_si128(), _mm_xor_si128(b, _mm_castpd_si128(error)));
  const __m128i step = _mm_or_si128(opposite, _mm_set1_epi64x(1));
  return _mm_castsi128_pd(_mm_add_epi64(b, _mm_and_si128(_mm_and_si128(even, inexact), step)));
}

// Arithmetic.
PYINIT_INLINE F32 operator+(F32 a, F32 b) { return {_mm_add_ps(a.v, b.v)}; }
PYINIT_INLINE F32 operator-(F32 a, F32 b) { return {_mm_sub_ps(a.v, b.v)}; }
PYINIT_INLINE F32 operator*(F32 a, F32 b) { return {_mm_mul_ps(a.v, b.v)}; }
PYINIT_INLINE F32 operator/(F32 a, F32 b) { return {_mm_div_ps(a.v, b.v)}; }
PYINIT_INLINE F64 operator+(F64 a, F64 b) { return {_mm_add_pd(a.v, b.v)}; }
PYINIT_INLINE F64 operator-(F64 a, F64 b) { return {_mm_sub_pd(a.v, b.v)}; }
PYINIT_INLINE F64 operator*(F64 a, F64 b) { return {_mm_mul_pd(a.v, b.v)}; }
PYINIT_INLINE F64 operator/(F64 a, F64 b) { return {_mm_div_pd(a.v, b.v)}; }
// a * b + c rounded once. The product is exact in double; the sum is rounded to odd there, which the
// second rounding to float cannot spoil (Boldo and Melquiond 2008).
PYINIT_INLINE __m128d fma_round_to_odd(__m128d a, __m128d b, __m128d c) {
  const __m128d p = _mm_mul_pd(a, b);
  const __m128d s = _mm_add_pd(p, c);
  const __m128d t = _mm_sub_pd(s, p);
  const __m128d error = _mm_add_pd(_mm_sub_pd(p, _mm_sub_pd(s, t)), _mm_sub_pd(c, t));
  return round_to_odd(s, error);
}
PYINIT_INLINE F32 fma(F32 a, F32 b, F32 c) {
  const __m128d lo = fma_round_to_odd(_mm_cvtps_pd(a.v), _mm_cvtps_pd(b.v), _mm_cvtps_pd(c.v));
  const __m128d hi = fma_round_to_odd(_mm_cvtps_pd(_mm_movehl_ps(a.v, a.v)), _mm_cvtps_pd(_mm_movehl_ps(b.v, b.v)),
                                      _mm_cvtps_pd(_mm_movehl_ps(c.v, c.v)));
  return {_mm_movelh_ps(_mm_cvtpd_ps(lo), _mm_cvtpd_ps(hi))};
}
// Exact product by Dekker's splitting, then the sum of three with one rounding to odd inside (Boldo and
// Melquiond 2008). Outside the range where the steps are exact, the C library's fma.
PYINIT_INLINE F64 fma(F64 a, F64 b, F64 c) {
  const __m128d magnitude = _mm_castsi128_pd(_mm_set1_epi64x(0x7FFFFFFFFFFFFFFF));
  const __m128d p = _mm_mul_pd(a.v, b.v);
  const __m128d big = _mm_set1_pd(0x1p+900), tiny = _mm_set1_pd(0x1p-900), zero = _mm_setzero_pd();
  const auto in_range = [&](__m128d x) {
    const __m128d m = _mm_and_pd(x, magnitude);
    return _mm_or_pd(_mm_cmpeq_pd(m, zero), _mm_and_pd(_mm_cmplt_pd(m, big), _mm_cmpgt_pd(m, tiny)));
  };
  // A zero product of nonzero factors has underflowed.
  const __m128d product_is_sound =
      _mm_or_pd(_mm_cmpneq_pd(p, zero), _mm_or_pd(_mm_cmpeq_pd(a.v, zero), _mm_cmpeq_pd(b.v, zero)));
  const __m128d sound = _mm_and_pd(
      _mm_and_pd(_mm_and_pd(in_range(a.v), in_range(b.v)), _mm_and_pd(in_range(c.v), in_range(p))), product_is_sound);
  if (_mm_movemask_pd(sound) != 3) [[unlikely]] {
    alignas(16) double x[2], y[2], z[2];
    _mm_store_pd(x, a.v);
    _mm_store_pd(y, b.v);
    _mm_store_pd(z, c.v);
    return {_mm_set_pd(__builtin_fma(x[1], y[1], z[1]), __builtin_fma(x[0], y[0], z[0]))};
  }
  const __m128d splitter = _mm_set1_pd(0x1p27 + 1);
  const __m128d at = _mm_mul_pd(splitter, a.v), bt = _mm_mul_pd(splitter, b.v);
  const __m128d ah = _mm_sub_pd(at, _mm_sub_pd(at, a.v)), bh = _mm_sub_pd(bt, _mm_sub_pd(bt, b.v));
  const __m128d al = _mm_sub_pd(a.v, ah), bl = _mm_sub_pd(b.v, bh);
  const __m128d p_low =
      _mm_sub_pd(_mm_mul_pd(al, bl),
                 _mm_sub_pd(_mm_sub_pd(_mm_sub_pd(p, _mm_mul_pd(ah, bh)), _mm_mul_pd(al, bh)), _mm_mul_pd(ah, bl)));
  const auto two_sum = [](__m128d x, __m128d y, __m128d& error) {
    const __m128d s = _mm_add_pd(x, y);
    const __m128d t = _mm_sub_pd(s, x);
    error = _mm_add_pd(_mm_sub_pd(x, _mm_sub_pd(s, t)), _mm_sub_pd(y, t));
    return s;
  };
  __m128d t_low, v_low, w_error;
  const __m128d t_high = two_sum(c.v, p_low, t_low);
  const __m128d v_high = two_sum(p, t_high, v_low);
  const __m128d w = two_sum(t_low, v_low, w_error);
  return {_mm_add_pd(v_high, round_to_odd(w, w_error))};
}
PYINIT_INLINE F32 fnma(F32 a, F32 b, F32 c) { return fma(F32{_mm_xor_ps(a.v, _mm_set1_ps(-0.0F))}, b, c); }
PYINIT_INLINE F64 fnma(F64 a, F64 b, F64 c) { return fma(F64{_mm_xor_pd(a.v, _mm_set1_pd(-0.0))}, b, c); }
PYINIT_INLINE F32 sqrt(F32 a) { return {_mm_sqrt_ps(a.v)}; }
PYINIT_INLINE F64 sqrt(F64 a) { return {_mm_sqrt_pd(a.v)}; }
PYINIT_INLINE F32 min(F32 a, F32 b) { return {_mm_min_ps(a.v, b.v)}; }
PYINIT_INLINE F64 min(F64 a, F64 b) { return {_mm_min_pd(a.v, b.v)}; }
PYINIT_INLINE F32 max(F32 a, F32 b) { return {_mm_max_ps(a.v, b.v)}; }
PYINIT_INLINE F64 max(F64 a, F64 b) { return {_mm_max_pd(a.v, b.v)}; }

// Integers.
PYINIT_INLINE U32 operator+(U32 a, U32 b) { return {_mm_add_epi32(a.v, b.v)}; }
PYINIT_INLINE U32 operator-(U32 a, U32 b) { return {_mm_sub_epi32(a.v, b.v)}; }
PYINIT_INLINE U32 operator&(U32 a, U32 b) { return {_mm_and_si128(a.v, b.v)}; }
PYINIT_INLINE U32 operator|(U32 a, U32 b) { return {_mm_or_si128(a.v, b.v)}; }
PYINIT_INLINE U32 operator^(U32 a, U32 b) { return {_mm_xor_si128(a.v, b.v)}; }
PYINIT_INLINE U64 operator+(U64 a, U64 b) { return {_mm_add_epi64(a.v, b.v)}; }
PYINIT_INLINE U64 operator-(U64 a, U64 b) { return {_mm_sub_epi64(a.v, b.v)}; }
PYINIT_INLINE U64 operator&(U64 a, U64 b) { return {_mm_and_si128(a.v, b.v)}; }
PYINIT_INLINE U64 operator|(U64 a, U64 b) { return {_mm_or_si128(a.v, b.v)}; }
PYINIT_INLINE U64 operator^(U64 a, U64 b) { return {_mm_xor_si128(a.v, b.v)}; }
PYINIT_INLINE U64 xor3(U64 a, U64 b, U64 c) { return a ^ (b ^ c); }
template <int n> PYINIT_INLINE U32 shl(U32 a) { return {_mm_slli_epi32(a.v, n)}; }
template <int n> PYINIT_INLINE U32 shr(U32 a) { return {_mm_srli_epi32(a.v, n)}; }
template <int n> PYINIT_INLINE U32 sar(U32 a) { return {_mm_srai_epi32(a.v, n)}; }
template <int n> PYINIT_INLINE U64 shl(U64 a) { return {_mm_slli_epi64(a.v, n)}; }
template <int n> PYINIT_INLINE U64 shr(U64 a) { return {_mm_srli_epi64(a.v, n)}; }
PYINIT_INLINE U32 as_u32(U64 a) { return {a.v}; }
PYINIT_INLINE U64 as_u64(U32 a) { return {a.v}; }
// Lanes 0, 2, ... and 1, 3, ... in the low halves; the high halves are anything.
PYINIT_INLINE U64 even_lanes(U32 a) { return {a.v}; }
PYINIT_INLINE U64 odd_lanes(U32 a) { return shr<32>(U64{a.v}); }
// 64-bit products of the low halves of the lanes.
PYINIT_INLINE U64 mul_low(U64 a, U64 b) { return {_mm_mul_epu32(a.v, b.v)}; }
// The low halves of `even` and `odd`, alternating.
PYINIT_INLINE U32 weave(U64 even, U64 odd) { return {_mm_blend_epi16(even.v, _mm_slli_epi64(odd.v, 32), 0b11001100)}; }

// Bit patterns and conversions.
PYINIT_INLINE U32 bits(F32 a) { return {_mm_castps_si128(a.v)}; }
PYINIT_INLINE U64 bits(F64 a) { return {_mm_castpd_si128(a.v)}; }
PYINIT_INLINE F32 from_bits(U32 a) { return {_mm_castsi128_ps(a.v)}; }
PYINIT_INLINE F64 from_bits(U64 a) { return {_mm_castsi128_pd(a.v)}; }
// Lanes taken as signed integers, rounded to nearest even.
PYINIT_INLINE F32 signed_to_f32(U32 a) { return {_mm_cvtepi32_ps(a.v)}; }
// Towards zero, for magnitudes below 2^31.
PYINIT_INLINE U32 truncate(F32 a) { return {_mm_cvttps_epi32(a.v)}; }
// The same values as doubles, lanes in order.
PYINIT_INLINE void widen(F32 a, F64& low, F64& high) {
  low.v = _mm_cvtps_pd(a.v);
  high.v = _mm_cvtps_pd(_mm_movehl_ps(a.v, a.v));
}

// Masks.
PYINIT_INLINE M32 less(F32 a, F32 b) { return {_mm_cmplt_ps(a.v, b.v)}; }
PYINIT_INLINE M64 less(F64 a, F64 b) { return {_mm_cmplt_pd(a.v, b.v)}; }
PYINIT_INLINE M32 less_equal(F32 a, F32 b) { return {_mm_cmple_ps(a.v, b.v)}; }
PYINIT_INLINE M64 less_equal(F64 a, F64 b) { return {_mm_cmple_pd(a.v, b.v)}; }
PYINIT_INLINE M32 equal(F32 a, F32 b) { return {_mm_cmpeq_ps(a.v, b.v)}; }
PYINIT_INLINE M64 equal(F64 a, F64 b) { return {_mm_cmpeq_pd(a.v, b.v)}; }
PYINIT_INLINE M32 signed_greater(U32 a, U32 b) { return {_mm_castsi128_ps(_mm_cmpgt_epi32(a.v, b.v))}; }
PYINIT_INLINE M64 signed_greater(U64 a, U64 b) { return {_mm_castsi128_pd(_mm_cmpgt_epi64(a.v, b.v))}; }
PYINIT_INLINE M32 sign_bit(U32 a) { return {_mm_castsi128_ps(a.v)}; }
PYINIT_INLINE M64 sign_bit(U64 a) { return {_mm_castsi128_pd(a.v)}; }
PYINIT_INLINE F32 select(M32 m, F32 yes, F32 no) { return {_mm_blendv_ps(no.v, yes.v, m.v)}; }
PYINIT_INLINE F64 select(M64 m, F64 yes, F64 no) { return {_mm_blendv_pd(no.v, yes.v, m.v)}; }
PYINIT_INLINE U32 select(M32 m, U32 yes, U32 no) { return bits(select(m, from_bits(yes), from_bits(no))); }
PYINIT_INLINE U64 select(M64 m, U64 yes, U64 no) { return bits(select(m, from_bits(yes), from_bits(no))); }
// counts, plus 1 in the lanes of m.
PYINIT_INLINE U32 counted(M32 m, U32 counts) { return {_mm_sub_epi32(counts.v, _mm_castps_si128(m.v))}; }
PYINIT_INLINE U64 counted(M64 m, U64 counts) { return {_mm_sub_epi64(counts.v, _mm_castpd_si128(m.v))}; }
// Bit i tells lane i.
PYINIT_INLINE unsigned mask_bits(M32 m) { return static_cast<unsigned>(_mm_movemask_ps(m.v)); }
PYINIT_INLINE unsigned mask_bits(M64 m) { return static_cast<unsigned>(_mm_movemask_pd(m.v)); }
PYINIT_INLINE bool any(M32 m) { return _mm_movemask_ps(m.v) != 0; }
PYINIT_INLINE bool any(M64 m) { return _mm_movemask_pd(m.v) != 0; }

// Lane i of a, b, c, d becomes elements 4i .. 4i+3 of the sequence a, b, c, d.
PYINIT_INLINE void interleave(F32& a, F32& b, F32& c, F32& d) { _MM_TRANSPOSE4_PS(a.v, b.v, c.v, d.v); }
// Lane i of a, b becomes elements 2i, 2i+1 of the sequence a, b.
PYINIT_INLINE void interleave(F64& a, F64& b) {
  const __m128d lo = _mm_unpacklo_pd(a.v, b.v);
  b.v = _mm_unpackhi_pd(a.v, b.v);
  a.v = lo;
}

// The columns of the rows whose numbers lie at `row`, one a lane.
PYINIT_INLINE void load_rows(const double (*table)[4], const uint64_t* row, F64& a, F64& b, F64& c, F64& d) {
  const double *const p0 = table[row[0]], *const p1 = table[row[1]];
  const __m128d ab0 = _mm_loadu_pd(p0), cd0 = _mm_loadu_pd(p0 + 2), ab1 = _mm_loadu_pd(p1), cd1 = _mm_loadu_pd(p1 + 2);
  a.v = _mm_unpacklo_pd(ab0, ab1);
  b.v = _mm_unpackhi_pd(ab0, ab1);
  c.v = _mm_unpacklo_pd(cd0, cd1);
  d.v = _mm_unpackhi_pd(cd0, cd1);
}

// The low 16 bits of every lane (whose high 16 bits are zero).
PYINIT_INLINE void store_low16(uint16_t* p, U32 x) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(x.v, x.v));
}
// Store with rounding to nearest even. Below 2^-14 the hardware's own rounding of x + 2^-1 leaves the
// subnormal's bits at the end of the significand; above, the rounding is done on the bit pattern.
PYINIT_INLINE void store_f16(uint16_t* p, F32 x) {
  const U32 b = bits(x);
  const U32 sign = shr<16>(b & u32(0x80000000U));
  const U32 a = b & u32(0x7FFFFFFFU);
  const U32 subnormal = bits(from_bits(a) + f32(0.5F)) - u32(0x3F000000U);
  const U32 odd = shr<13>(a) & u32(1);
  const U32 normal = shr<13>(a - u32(112U << 23) + u32(0xFFF) + odd);
  U32 h = select(signed_greater(u32(113U << 23), a), subnormal, normal);
  h = select(signed_greater(a, u32((143U << 23) - 1)), u32(0x7C00U), h);  // overflow to infinity
  h = select(signed_greater(a, u32(0x7F800000U)), u32(0x7E00U), h);       // NaN
  store_low16(p, h | sign);
}

}  // namespace pyinit::PYINIT_NS
