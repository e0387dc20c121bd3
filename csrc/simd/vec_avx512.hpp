// AVX-512 F, BW, CD, DQ, VL (x86-64-v4).
#pragma once

#include <immintrin.h>

namespace pyinit::PYINIT_NS {

constexpr int kLanes32 = 16;
constexpr int kLanes64 = 8;
constexpr bool kHasFma = true;

struct F32 {
  __m512 v;
};
struct F64 {
  __m512d v;
};
struct U32 {
  __m512i v;
};
struct U64 {
  __m512i v;
};
struct M32 {
  __mmask16 v;
};
struct M64 {
  __mmask8 v;
};

// Broadcast, load, store.
PYINIT_INLINE F32 f32(float x) { return {_mm512_set1_ps(x)}; }
PYINIT_INLINE F64 f64(double x) { return {_mm512_set1_pd(x)}; }
PYINIT_INLINE U32 u32(uint32_t x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
PYINIT_INLINE U64 u64(uint64_t x) { return {_mm512_set1_epi64(static_cast<long long>(x))}; }
PYINIT_INLINE U64 iota64() { return {_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0)}; }
PYINIT_INLINE F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
PYINIT_INLINE F64 load(const double* p) { return {_mm512_loadu_pd(p)}; }
PYINIT_INLINE U32 load(const uint32_t* p) { return {_mm512_loadu_si512(p)}; }
PYINIT_INLINE U64 load(const uint64_t* p) { return {_mm512_loadu_si512(p)}; }
PYINIT_INLINE void store(float* p, F32 x) { _mm512_storeu_ps(p, x.v); }
PYINIT_INLINE void store(double* p, F64 x) { _mm512_storeu_pd(p, x.v); }
PYINIT_INLINE void store(uint32_t* p, U32 x) { _mm512_storeu_si512(p, x.v); }
PYINIT_INLINE void store(uint64_t* p, U64 x) { _mm512_storeu_si512(p, x.v); }
// Stores to aligned places, past the caches; and what makes them visible to other threads.
PYINIT_INLINE void stream(float* p, F32 x) { _mm512_stream_ps(p, x.v); }
PYINIT_INLINE void stream(double* p, F64 x) { _mm512_stream_pd(p, x.v); }
PYINIT_INLINE void stream_fence() { _mm_sfence(); }

// Arithmetic.
PYINIT_INLINE F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
PYINIT_INLINE F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
PYINIT_INLINE F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
PYINIT_INLINE F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
PYINIT_INLINE F64 operator+(F64 a, F64 b) { return {_mm512_add_pd(a.v, b.v)}; }
PYINIT_INLINE F64 operator-(F64 a, F64 b) { return {_mm512_sub_pd(a.v, b.v)}; }
PYINIT_INLINE F64 operator*(F64 a, F64 b) { return {_mm512_mul_pd(a.v, b.v)}; }
PYINIT_INLINE F64 operator/(F64 a, F64 b) { return {_mm512_div_pd(a.v, b.v)}; }
PYINIT_INLINE F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
PYINIT_INLINE F64 fma(F64 a, F64 b, F64 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
PYINIT_INLINE F32 fnma(F32 a, F32 b, F32 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
PYINIT_INLINE F64 fnma(F64 a, F64 b, F64 c) { return {_mm512_fnmadd_pd(a.v, b.v, c.v)}; }
PYINIT_INLINE F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
PYINIT_INLINE F64 sqrt(F64 a) { return {_mm512_sqrt_pd(a.v)}; }
PYINIT_INLINE F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
PYINIT_INLINE F64 min(F64 a, F64 b) { return {_mm512_min_pd(a.v, b.v)}; }
PYINIT_INLINE F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
PYINIT_INLINE F64 max(F64 a, F64 b) { return {_mm512_max_pd(a.v, b.v)}; }

// Integers.
PYINIT_INLINE U32 operator+(U32 a, U32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
PYINIT_INLINE U32 operator-(U32 a, U32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
PYINIT_INLINE U32 operator&(U32 a, U32 b) { return {_mm512_and_si512(a.v, b.v)}; }
PYINIT_INLINE U32 operator|(U32 a, U32 b) { return {_mm512_or_si512(a.v, b.v)}; }
PYINIT_INLINE U32 operator^(U32 a, U32 b) { return {_mm512_xor_si512(a.v, b.v)}; }
PYINIT_INLINE U64 operator+(U64 a, U64 b) { return {_mm512_add_epi64(a.v, b.v)}; }
PYINIT_INLINE U64 operator-(U64 a, U64 b) { return {_mm512_sub_epi64(a.v, b.v)}; }
PYINIT_INLINE U64 operator&(U64 a, U64 b) { return {_mm512_and_si512(a.v, b.v)}; }
PYINIT_INLINE U64 operator|(U64 a, U64 b) { return {_mm512_or_si512(a.v, b.v)}; }
PYINIT_INLINE U64 operator^(U64 a, U64 b) { return {_mm512_xor_si512(a.v, b.v)}; }
PYINIT_INLINE U64 xor3(U64 a, U64 b, U64 c) { return {_mm512_ternarylogic_epi64(a.v, b.v, c.v, 0x96)}; }
template <int n> PYINIT_INLINE U32 shl(U32 a) { return {_mm512_slli_epi32(a.v, n)}; }
template <int n> PYINIT_INLINE U32 shr(U32 a) { return {_mm512_srli_epi32(a.v, n)}; }
template <int n> PYINIT_INLINE U32 sar(U32 a) { return {_mm512_srai_epi32(a.v, n)}; }
template <int n> PYINIT_INLINE U64 shl(U64 a) { return {_mm512_slli_epi64(a.v, n)}; }
template <int n> PYINIT_INLINE U64 shr(U64 a) { return {_mm512_srli_epi64(a.v, n)}; }
PYINIT_INLINE U32 as_u32(U64 a) { return {a.v}; }
PYINIT_INLINE U64 as_u64(U32 a) { return {a.v}; }
// Lanes 0, 2, ... and 1, 3, ... in the low halves; the high halves are anything.
PYINIT_INLINE U64 even_lanes(U32 a) { return {a.v}; }
PYINIT_INLINE U64 odd_lanes(U32 a) { return shr<32>(U64{a.v}); }
// 64-bit products of the low halves of the lanes.
PYINIT_INLINE U64 mul_low(U64 a, U64 b) { return {_mm512_mul_epu32(a.v, b.v)}; }
// The low halves of `even` and `odd`, alternating.
PYINIT_INLINE U32 weave(U64 even, U64 odd) {
  return {_mm512_mask_blend_epi32(0xAAAA, even.v, _mm512_slli_epi64(odd.v, 32))};
}

// Bit patterns and conversions.
PYINIT_INLINE U32 bits(F32 a) { return {_mm512_castps_si512(a.v)}; }
PYINIT_INLINE U64 bits(F64 a) { return {_mm512_castpd_si512(a.v)}; }
PYINIT_INLINE F32 from_bits(U32 a) { return {_mm512_castsi512_ps(a.v)}; }
PYINIT_INLINE F64 from_bits(U64 a) { return {_mm512_castsi512_pd(a.v)}; }
// Lanes taken as signed integers, rounded to nearest even.
PYINIT_INLINE F32 signed_to_f32(U32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
// Towards zero, for magnitudes below 2^31.
PYINIT_INLINE U32 truncate(F32 a) { return {_mm512_cvttps_epi32(a.v)}; }
// The same values as doubles, lanes in order.
PYINIT_INLINE void widen(F32 a, F64& low, F64& high) {
  low.v = _mm512_cvtps_pd(_mm512_castps512_ps256(a.v));
  high.v = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1));
}

// Masks.
PYINIT_INLINE M32 less(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
PYINIT_INLINE M64 less(F64 a, F64 b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ)}; }
PYINIT_INLINE M32 less_equal(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
PYINIT_INLINE M64 less_equal(F64 a, F64 b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_LE_OQ)}; }
PYINIT_INLINE M32 equal(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
PYINIT_INLINE M64 equal(F64 a, F64 b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_EQ_OQ)}; }
PYINIT_INLINE M32 signed_greater(U32 a, U32 b) { return {_mm512_cmpgt_epi32_mask(a.v, b.v)}; }
PYINIT_INLINE M64 signed_greater(U64 a, U64 b) { return {_mm512_cmpgt_epi64_mask(a.v, b.v)}; }
PYINIT_INLINE M32 sign_bit(U32 a) { return {_mm512_movepi32_mask(a.v)}; }
PYINIT_INLINE M64 sign_bit(U64 a) { return {_mm512_movepi64_mask(a.v)}; }
PYINIT_INLINE F32 select(M32 m, F32 yes, F32 no) { return {_mm512_mask_blend_ps(m.v, no.v, yes.v)}; }
PYINIT_INLINE F64 select(M64 m, F64 yes, F64 no) { return {_mm512_mask_blend_pd(m.v, no.v, yes.v)}; }
PYINIT_INLINE U32 select(M32 m, U32 yes, U32 no) { return {_mm512_mask_blend_epi32(m.v, no.v, yes.v)}; }
PYINIT_INLINE U64 select(M64 m, U64 yes, U64 no) { return {_mm512_mask_blend_epi64(m.v, no.v, yes.v)}; }
// counts, plus 1 in the lanes of m.
PYINIT_INLINE U32 counted(M32 m, U32 counts) {
  return {_mm512_mask_add_epi32(counts.v, m.v, counts.v, _mm512_set1_epi32(1))};
}
PYINIT_INLINE U64 counted(M64 m, U64 counts) {
  return {_mm512_mask_add_epi64(counts.v, m.v, counts.v, _mm512_set1_epi64(1))};
}
// Bit i tells lane i.
PYINIT_INLINE unsigned mask_bits(M32 m) { return m.v; }
PYINIT_INLINE unsigned mask_bits(M64 m) { return m.v; }
PYINIT_INLINE bool any(M32 m) { return m.v != 0; }
PYINIT_INLINE bool any(M64 m) { return m.v != 0; }

// Lane i of a, b, c, d becomes elements 4i .. 4i+3 of the sequence a, b, c, d.
PYINIT_INLINE void interleave(F32& a, F32& b, F32& c, F32& d) {
  const __m512d ab_lo = _mm512_castps_pd(_mm512_unpacklo_ps(a.v, b.v));
  const __m512d ab_hi = _mm512_castps_pd(_mm512_unpackhi_ps(a.v, b.v));
  const __m512d cd_lo = _mm512_castps_pd(_mm512_unpacklo_ps(c.v, d.v));
  const __m512d cd_hi = _mm512_castps_pd(_mm512_unpackhi_ps(c.v, d.v));
  // ek holds, in its 128-bit lane j, the elements of source lane 4j + k.
  const __m512 e0 = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_lo, cd_lo));
  const __m512 e1 = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_lo, cd_lo));
  const __m512 e2 = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_hi, cd_hi));
  const __m512 e3 = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_hi, cd_hi));
  const __m512 low01 = _mm512_shuffle_f32x4(e0, e1, 0x44);  // e0[0] e0[1] e1[0] e1[1]
  const __m512 low23 = _mm512_shuffle_f32x4(e2, e3, 0x44);
  const __m512 high01 = _mm512_shuffle_f32x4(e0, e1, 0xEE);  // e0[2] e0[3] e1[2] e1[3]
  const __m512 high23 = _mm512_shuffle_f32x4(e2, e3, 0xEE);
  a.v = _mm512_shuffle_f32x4(low01, low23, 0x88);
  b.v = _mm512_shuffle_f32x4(low01, low23, 0xDD);
  c.v = _mm512_shuffle_f32x4(high01, high23, 0x88);
  d.v = _mm512_shuffle_f32x4(high01, high23, 0xDD);
}
// Lane i of a, b becomes elements 2i, 2i+1 of the sequence a, b.
PYINIT_INLINE void interleave(F64& a, F64& b) {
  const __m512d lo = _mm512_unpacklo_pd(a.v, b.v);
  const __m512d hi = _mm512_unpackhi_pd(a.v, b.v);
  a.v = _mm512_permutex2var_pd(lo, _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), hi);
  b.v = _mm512_permutex2var_pd(lo, _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4), hi);
}

// The high half of a and the low half of b change places.
PYINIT_INLINE void exchange_halves(U32& a, U32& b) {
  const __m512i low = _mm512_shuffle_i64x2(a.v, b.v, 0x44);
  b.v = _mm512_shuffle_i64x2(a.v, b.v, 0xEE);
  a.v = low;
}
PYINIT_INLINE void exchange_halves(F32& a, F32& b) {
  const __m512 low = _mm512_shuffle_f32x4(a.v, b.v, 0x44);
  b.v = _mm512_shuffle_f32x4(a.v, b.v, 0xEE);
  a.v = low;
}

// The columns of the rows whose numbers lie at `row`, one a lane.
PYINIT_INLINE void load_rows(const double (*table)[4], const uint64_t* row, F64& a, F64& b, F64& c, F64& d) {
  const __m512i place = _mm512_slli_epi64(_mm512_loadu_si512(row), 2);
  a.v = _mm512_i64gather_pd(place, table[0], 8);
  b.v = _mm512_i64gather_pd(place, table[0] + 1, 8);
  c.v = _mm512_i64gather_pd(place, table[0] + 2, 8);
  d.v = _mm512_i64gather_pd(place, table[0] + 3, 8);
}

// Stores with rounding to nearest even.
PYINIT_INLINE void store_f16(uint16_t* p, F32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}
// The low 16 bits of every lane (whose high 16 bits are zero).
PYINIT_INLINE void store_low16(uint16_t* p, U32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x.v));
}

}  // namespace pyinit::PYINIT_NS
