// Logarithm, sine and cosine to about 2^-63 of their value: enough to round almost all of them as a C
// library does whose errors are known. A table holds the value nearby; the rest is a short polynomial.
// Sums are kept in two doubles where a rounding would count.
#pragma once

#include "simd/accurate_tables.hpp"
#include "simd/math.hpp"

namespace pyinit::PYINIT_NS {

// A number as the sum of two doubles: `high` is the sum rounded.
struct Sum {
  F64 high, low;
};
PYINIT_INLINE Sum make_sum(F64 high, F64 low) {
  const F64 sum = high + low;
  return {sum, low - (sum - high)};
}

// Whether every number within `margin` < 1/2 ulp of x rounds to x.high (the test of Ziv 1991).
constexpr double stretch(double margin) { return 0.5 / (0.5 - margin); }
PYINIT_INLINE M64 rounds_safely(Sum x, F64 stretch_of_margin) {
  return equal(fma(x.low, stretch_of_margin, x.high), x.high);
}

// The functions come in two steps. The first finds the row of a table, which the second takes from memory:
// the steps' instructions wait less for each other in loops of their own.

// x = 2^e m with m in (0.6875, 1.375]: m less one, in the low 52 bits, and e + 1023 above them.
PYINIT_INLINE U64 log_split(F64 x) { return (bits(x) - u64(0x3FE6000000000001U)) + u64(0x3FF0000000000000U); }
PYINIT_INLINE U64 log_row(F64 x) { return shr<44>(log_split(x)) & u64(255); }

// Of x in [2^-53, 1]; the relative error is below 2^-61.
PYINIT_INLINE Sum accurate_log(F64 x, const uint64_t* rows) {
  const U64 b = log_split(x);
  const F64 e = from_bits(shr<52>(b) | u64(0x4330000000000000U)) - f64(0x1p52 + 1023);
  const F64 m = from_bits((b & u64(0x000FFFFFFFFFFFFFU)) + u64(0x3FE6000000000001U));
  F64 inverse, log_c, log_c_low, unused;
  load_rows(kLogTable, rows, inverse, log_c, log_c_low, unused);
  const F64 r = fma(m, inverse, f64(-1.0));                  // exact, at most 2^-8
  const F64 whole = fma(e, f64(0x1.62e42fefa38p-1), log_c);  // exact: multiples of 2^-42
  const F64 whole_low = fma(e, f64(0x1.ef35793c7673p-45), log_c_low);
  const F64 sum = whole + r;
  const F64 sum_low = r - (sum - whole);
  // log(1 + r) - r
  const F64 tail = r * r *
                   fma(r,
                       polynomial(r, 0.3333333333333333, -0.24999999999090491, 0.19999999999191548,
                                  -0.16666905088156186, 0.1428592621598599),
                       f64(-0.5));
  return make_sum(sum, tail + (sum_low + whole_low));
}

// The nearest point j 2 pi / 128, as 1.5 2^52 + j.
PYINIT_INLINE F64 sine_shifted(F64 x) { return fma(x, f64(0x1.45f306dc9c883p+4), f64(0x1.8p52)); }
PYINIT_INLINE U64 sine_row(F64 x) { return bits(sine_shifted(x)) & u64(127); }

struct SinCosSums {
  Sum sin, cos;
  M64 is_near_zero;  // perhaps one of the two
};

// Of x in [0, 2 pi]; the relative error is below 2^-61, but not near zeros of sine and cosine.
PYINIT_INLINE SinCosSums accurate_sincos(F64 x, const uint64_t* rows) {
  // x = j 2 pi / 128 + (r + r_low), r exactly, |r| <= pi / 128.
  const F64 j = sine_shifted(x) - f64(0x1.8p52);
  const F64 r = fnma(j, f64(0x1.921fb54442d18p-5), x);
  const F64 r_low = j * f64(-0x1.1a62633145c07p-59);
  F64 s, s_low, c, c_low;
  load_rows(kSineTable, rows, s, s_low, c, c_low);
  const F64 z = r * r;
  const F64 cos_tail =  // cos(r + r_low) - 1
      fnma(r, r_low,
           z * fma(z, polynomial(z, 0.041666666666666664, -0.0013888888888326397, 2.4801338297886054e-05), f64(-0.5)));
  const F64 sin_tail =  // sin(r + r_low) - r
      fma(r * z, polynomial(z, -0.16666666666666666, 0.008333333332770842, -0.00019841020837824274),
          fma(r_low, cos_tail, r_low));
  // sin(x) = s + s cos_tail + c r + c sin_tail, and cos(x) likewise.
  const F64 cr = c * r, cr_error = fnma(c, r, cr);
  const F64 sin_sum = s + cr;
  const Sum sin =
      make_sum(sin_sum, fma(s, cos_tail, fma(c, sin_tail, fma(c_low, r, s_low))) + ((cr - (sin_sum - s)) - cr_error));
  const F64 sr = s * r, sr_error = fnma(s, r, sr);
  const F64 cos_sum = c - sr;
  const Sum cos =
      make_sum(cos_sum, fma(c, cos_tail, fnma(s, sin_tail, fnma(s_low, r, c_low))) + (((c - cos_sum) - sr) + sr_error));
  return {sin, cos, less(from_bits(bits(r) & u64(0x7FFFFFFFFFFFFFFFU)), f64(0x1p-30))};
}

}  // namespace pyinit::PYINIT_NS
