// AVX2 + FMA + F16C (x86-64-v3).
#pragma once

#include <immintrin.h>

namespace pyinit::PYINIT_NS {

constexpr int kLanes32 = 8;
constexpr int kLanes64 = 4;
constexpr bool kHasFma = true;

struct F32 {
  __m256 v;
};
struct F64 {
  __m256d v;
};
struct U32 {
  __m256i v;
};
struct U64 {
  __m256i v;
};
struct M32 {
  __m256 v;
};
struct M64 {
  __m256d v;
};

// Broadcast, load, store.
PYINIT_INLINE F32 f32(float x) { return {_mm256_set1_ps(x)}; }
PYINIT_INLINE F64 f64(double x) { return {_mm256_set1_pd(x)}; }
PYINIT_INLINE U32 u32(uint32_t x) { return {_mm256_set1_epi32(static_cast<int>(x))}; }
PYINIT_INLINE U64 u64(uint64_t x) { return {_mm256_set1_epi64x(static_cast<long long>(x))}; }
PYINIT_INLINE U64 iota64() { return {_mm256_set_epi64x(3, 2, 1, 0)}; }
PYINIT_INLINE F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
PYINIT_INLINE F64 load(const double* p) { return {_mm256_loadu_pd(p)}; }
PYINIT_INLINE U32 load(const uint32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
PYINIT_INLINE U64 load(const uint64_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
PYINIT_INLINE void store(float* p, F32 x) { _mm256_storeu_ps(p, x.v); }
PYINIT_INLINE void store(double* p, F64 x) { _mm256_storeu_pd(p, x.v); }
PYINIT_INLINE void store(uint32_t* p, U32 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.v); }
PYINIT_INLINE void store(uint64_t* p, U64 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.v); }
// Stores to aligned places, past the caches; and what makes them visible to other threads.
PYINIT_INLINE void stream(float* p, F32 x) { _mm256_stream_ps(p, x.v); }
PYINIT_INLINE void stream(double* p, F64 x) { _mm256_stream_pd(p, x.v); }
PYINIT_INLINE void stream_fence() { _mm_sfence(); }

// Arithmetic.
PYINIT_INLINE F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
PYINIT_INLINE F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
PYINIT_INLINE F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
PYINIT_INLINE F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
PYINIT_INLINE F64 operator+(F64 a, F64 b) { return {_mm256_add_pd(a.v, b.v)}; }
PYINIT_INLINE F64 operator-(F64 a, F64 b) { return {_mm256_sub_pd(a.v, b.v)}; }
PYINIT_INLINE F64 operator*(F64 a, F64 b) { return {_mm256_mul_pd(a.v, b.v)}; }
PYINIT_INLINE F64 operator/(F64 a, F64 b) { return {_mm256_div_pd(a.v, b.v)}; }
PYINIT_INLINE F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
PYINIT_INLINE F64 fma(F64 a, F64 b, F64 c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
PYINIT_INLINE F32 fnma(F32 a, F32 b, F32 c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
PYINIT_INLINE F64 fnma(F64 a, F64 b, F64 c) { return {_mm256_fnmadd_pd(a.v, b.v, c.v)}; }
PYINIT_INLINE F32 sqrt(F32 a) { return {_mm256_sqrt_ps(a.v)}; }
PYINIT_INLINE F64 sqrt(F64 a) { return {_mm256_sqrt_pd(a.v)}; }
PYINIT_INLINE F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
PYINIT_INLINE F64 min(F64 a, F64 b) { return {_mm256_min_pd(a.v, b.v)}; }
PYINIT_INLINE F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
PYINIT_INLINE F64 max(F64 a, F64 b) { return {_mm256_max_pd(a.v, b.v)}; }

// Integers.
PYINIT_INLINE U32 operator+(U32 a, U32 b) { return {_mm256_add_epi32(a.v, b.v)}; }
PYINIT_INLINE U32 operator-(U32 a, U32 b) { return {_mm256_sub_epi32(a.v, b.v)}; }
PYINIT_INLINE U32 operator&(U32 a, U32 b) { return {_mm256_and_si256(a.v, b.v)}; }
PYINIT_INLINE U32 operator|(U32 a, U32 b) { return {_mm256_or_si256(a.v, b.v)}; }
PYINIT_INLINE U32 operator^(U32 a, U32 b) { return {_mm256_xor_si256(a.v, b.v)}; }
PYINIT_INLINE U64 operator+(U64 a, U64 b) { return {_mm256_add_epi64(a.v, b.v)}; }
PYINIT_INLINE U64 operator-(U64 a, U64 b) { return {_mm256_sub_epi64(a.v, b.v)}; }
PYINIT_INLINE U64 operator&(U64 a, U64 b) { return {_mm256_and_si256(a.v, b.v)}; }
PYINIT_INLINE U64 operator|(U64 a, U64 b) { return {_mm256_or_si256(a.v, b.v)}; }
PYINIT_INLINE U64 operator^(U64 a, U64 b) { return {_mm256_xor_si256(a.v, b.v)}; }
PYINIT_INLINE U64 xor3(U64 a, U64 b, U64 c) { return a ^ (b ^ c); }
template <int n> PYINIT_INLINE U32 shl(U32 a) { return {_mm256_slli_epi32(a.v, n)}; }
template <int n> PYINIT_INLINE U32 shr(U32 a) { return {_mm256_srli_epi32(a.v, n)}; }
template <int n> PYINIT_INLINE U32 sar(U32 a) { return {_mm256_srai_epi32(a.v, n)}; }
template <int n> PYINIT_INLINE U64 shl(U64 a) { return {_mm256_slli_epi64(a.v, n)}; }
template <int n> PYINIT_INLINE U64 shr(U64 a) { return {_mm256_srli_epi64(a.v, n)}; }
PYINIT_INLINE U32 as_u32(U64 a) { return {a.v}; }
PYINIT_INLINE U64 as_u64(U32 a) { return {a.v}; }
// Lanes 0, 2, ... and 1, 3, ... in the low halves; the high halves are anything.
PYINIT_INLINE U64 even_lanes(U32 a) { return {a.v}; }
PYINIT_INLINE U64 odd_lanes(U32 a) { return shr<32>(U64{a.v}); }
// 64-bit products of the low halves of the lanes.
PYINIT_INLINE U64 mul_low(U64 a, U64 b) { return {_mm256_mul_epu32(a.v, b.v)}; }
// The low halves of `even` and `odd`, alternating.
PYINIT_INLINE U32 weave(U64 even, U64 odd) {
  return {_mm256_blend_epi32(even.v, _mm256_slli_epi64(odd.v, 32), 0b10101010)};
}

// Bit patterns and conversions.
PYINIT_INLINE U32 bits(F32 a) { return {_mm256_castps_si256(a.v)}; }
PYINIT_INLINE U64 bits(F64 a) { return {_mm256_castpd_si256(a.v)}; }
PYINIT_INLINE F32 from_bits(U32 a) { return {_mm256_castsi256_ps(a.v)}; }
PYINIT_INLINE F64 from_bits(U64 a) { return {_mm256_castsi256_pd(a.v)}; }
// Lanes taken as signed integers, rounded to nearest even.
PYINIT_INLINE F32 signed_to_f32(U32 a) { return {_mm256_cvtepi32_ps(a.v)}; }
// Towards zero, for magnitudes below 2^31.
PYINIT_INLINE U32 truncate(F32 a) { return {_mm256_cvttps_epi32(a.v)}; }
// The same values as doubles, lanes in order.
PYINIT_INLINE void widen(F32 a, F64& low, F64& high) {
  low.v = _mm256_cvtps_pd(_mm256_castps256_ps128(a.v));
  high.v = _mm256_cvtps_pd(_mm256_extractf128_ps(a.v, 1));
}

// Masks.
PYINIT_INLINE M32 less(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
PYINIT_INLINE M64 less(F64 a, F64 b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_LT_OQ)}; }
PYINIT_INLINE M32 less_equal(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
PYINIT_INLINE M64 less_equal(F64 a, F64 b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_LE_OQ)}; }
PYINIT_INLINE M32 equal(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
PYINIT_INLINE M64 equal(F64 a, F64 b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_EQ_OQ)}; }
PYINIT_INLINE M32 signed_greater(U32 a, U32 b) { return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(a.v, b.v))}; }
PYINIT_INLINE M64 signed_greater(U64 a, U64 b) { return {_mm256_castsi256_pd(_mm256_cmpgt_epi64(a.v, b.v))}; }
PYINIT_INLINE M32 sign_bit(U32 a) { return {_mm256_castsi256_ps(a.v)}; }
PYINIT_INLINE M64 sign_bit(U64 a) { return {_mm256_castsi256_pd(a.v)}; }
PYINIT_INLINE F32 select(M32 m, F32 yes, F32 no) { return {_mm256_blendv_ps(no.v, yes.v, m.v)}; }
PYINIT_INLINE F64 select(M64 m, F64 yes, F64 no) { return {_mm256_blendv_pd(no.v, yes.v, m.v)}; }
PYINIT_INLINE U32 select(M32 m, U32 yes, U32 no) { return bits(select(m, from_bits(yes), from_bits(no))); }
PYINIT_INLINE U64 select(M64 m, U64 yes, U64 no) { return bits(select(m, from_bits(yes), from_bits(no))); }
// counts, plus 1 in the lanes of m.
PYINIT_INLINE U32 counted(M32 m, U32 counts) { return {_mm256_sub_epi32(counts.v, _mm256_castps_si256(m.v))}; }
PYINIT_INLINE U64 counted(M64 m, U64 counts) { return {_mm256_sub_epi64(counts.v, _mm256_castpd_si256(m.v))}; }
// Bit i tells lane i.
PYINIT_INLINE unsigned mask_bits(M32 m) { return static_cast<unsigned>(_mm256_movemask_ps(m.v)); }
PYINIT_INLINE unsigned mask_bits(M64 m) { return static_cast<unsigned>(_mm256_movemask_pd(m.v)); }
PYINIT_INLINE bool any(M32 m) { return _mm256_movemask_ps(m.v) != 0; }
PYINIT_INLINE bool any(M64 m) { return _mm256_movemask_pd(m.v) != 0; }

// Lane i of a, b, c, d becomes elements 4i .. 4i+3 of the sequence a, b, c, d.
PYINIT_INLINE void interleave(F32& a, F32& b, F32& c, F32& d) {
  const __m256d ab_lo = _mm256_castps_pd(_mm256_unpacklo_ps(a.v, b.v));
  const __m256d ab_hi = _mm256_castps_pd(_mm256_unpackhi_ps(a.v, b.v));
  const __m256d cd_lo = _mm256_castps_pd(_mm256_unpacklo_ps(c.v, d.v));
  const __m256d cd_hi = _mm256_castps_pd(_mm256_unpackhi_ps(c.v, d.v));
  const __m256 e0 = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_lo, cd_lo));
  const __m256 e1 = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_lo, cd_lo));
  const __m256 e2 = _mm256_castpd_ps(_mm256_unpacklo_pd(ab_hi, cd_hi));
  const __m256 e3 = _mm256_castpd_ps(_mm256_unpackhi_pd(ab_hi, cd_hi));
  a.v = _mm256_permute2f128_ps(e0, e1, 0x20);
  b.v = _mm256_permute2f128_ps(e2, e3, 0x20);
  c.v = _mm256_permute2f128_ps(e0, e1, 0x31);
  d.v = _mm256_permute2f128_ps(e2, e3, 0x31);
}
// Lane i of a, b becomes elements 2i, 2i+1 of the sequence a, b.
PYINIT_INLINE void interleave(F64& a, F64& b) {
  const __m256d lo = _mm256_unpacklo_pd(a.v, b.v);
  const __m256d hi = _mm256_unpackhi_pd(a.v, b.v);
  a.v = _mm256_permute2f128_pd(lo, hi, 0x20);
  b.v = _mm256_permute2f128_pd(lo, hi, 0x31);
}

// The columns of the rows whose numbers lie at `row`, one a lane.
PYINIT_INLINE void load_rows(const double (*table)[4], const uint64_t* row, F64& a, F64& b, F64& c, F64& d) {
  const double *const p0 = table[row[0]], *const p1 = table[row[1]];
  const double *const p2 = table[row[2]], *const p3 = table[row[3]];
  const __m256d ab02 = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(p0)), _mm_loadu_pd(p2), 1);
  const __m256d ab13 = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(p1)), _mm_loadu_pd(p3), 1);
  const __m256d cd02 = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(p0 + 2)), _mm_loadu_pd(p2 + 2), 1);
  const __m256d cd13 = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(p1 + 2)), _mm_loadu_pd(p3 + 2), 1);
  a.v = _mm256_unpacklo_pd(ab02, ab13);
  b.v = _mm256_unpackhi_pd(ab02, ab13);
  c.v = _mm256_unpacklo_pd(cd02, cd13);
  d.v = _mm256_unpackhi_pd(cd02, cd13);
}

// Stores with rounding to nearest even.
PYINIT_INLINE void store_f16(uint16_t* p, F32 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}
// The low 16 bits of every lane (whose high 16 bits are zero).
PYINIT_INLINE void store_low16(uint16_t* p, U32 x) {
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(x.v, x.v), 0b1000);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}

}  // namespace pyinit::PYINIT_NS
