// Exponentials and functions made of them, over vectors, for activations. Multiply-adds are fused where there is
// hardware for it: the same bits on every instruction set that has one. Coefficients come from
// tools/fit_polynomials.py. NaN gives NaN everywhere. Largest errors, held by tests/functional/test_activations.py by
// way of the activations that are made of them, in units in the last place:
//
//   expm1     1.3    for x up to 0
//   logistic  2.7
//   tanh      2.7
//   normal    5.5    of x, in x times the distribution function; the tail is 2e-6 (double: 4e-14), relative
#pragma once

#include "simd/math.hpp"

namespace pyinit::PYINIT_NS {

// A type of numbers, and what the functions below need to know of it.
template <class F> struct Number;
template <> struct Number<F32> {
  static constexpr float kMagic = 0x1.8p23F;  // adding it rounds to an integer, which stands in the last bits
  // log(2) in two parts: products of the first with exponents are exact, without a fused multiply-add, too.
  static constexpr float kLog2High = 0.693359375F, kLog2Low = -2.12194440e-4F, kLog2E = 1.44269504F;
  // e^x 2^shift is a normal number from `lowest` on, where e^x itself is rounded to 0; e^x 2^-shift is finite up to
  // `highest`, and 2^-shift over it is rounded to 0. `scale` is 2^-shift.
  static constexpr int kShift = 24;
  static constexpr float kScale = 0x1p-24F;
  static constexpr float kLowest = -104.0F, kHighest = 104.6F;
  static constexpr float kTanhIsOne = 10.0F, kExpm1IsMinusOne = -20.0F;
  static constexpr float kNormalReach = 14.42F;  // kNormalReach^2 / 2 < -kLowest
};
template <> struct Number<F64> {
  static constexpr double kMagic = 0x1.8p52;
  static constexpr double kLog2High = 6.93147180369123816490e-01, kLog2Low = 1.90821492927058770002e-10;
  static constexpr double kLog2E = 1.4426950408889634074;
  static constexpr int kShift = 54;
  static constexpr double kScale = 0x1p-54;
  static constexpr double kLowest = -745.8, kHighest = 746.4;
  static constexpr double kTanhIsOne = 20.0, kExpm1IsMinusOne = -40.0;
  static constexpr double kNormalReach = 38.62;
};

// c[0] + c[1] x + ... by Horner's rule: the fewest operations, for loops whose iterations overlap.
template <class F, class C> PYINIT_INLINE F horner(F, C c) { return vec(c); }
template <class F, class C, class... Rest> PYINIT_INLINE F horner(F x, C c, Rest... rest) {
  return multiply_add(horner(x, rest...), x, vec(c));
}

PYINIT_INLINE F32 magnitude(F32 x) { return from_bits(bits(x) & u32(0x7FFFFFFFU)); }
PYINIT_INLINE F64 magnitude(F64 x) { return from_bits(bits(x) & u64(0x7FFFFFFFFFFFFFFFU)); }
PYINIT_INLINE M32 is_negative(F32 x) { return sign_bit(bits(x)); }
PYINIT_INLINE M64 is_negative(F64 x) { return sign_bit(bits(x)); }
// 2^(n + k), n being the integer in the last bits of x.
template <int k> PYINIT_INLINE F32 power_of_two(F32 x) {
  return from_bits(shl<23>(bits(x)) + u32(static_cast<uint32_t>(127 + k) << 23));
}
template <int k> PYINIT_INLINE F64 power_of_two(F64 x) {
  return from_bits(shl<52>(bits(x)) + u64(static_cast<uint64_t>(1023 + k) << 52));
}

// x = n log(2) + rest, with n in the last bits of `exponent` and |rest| at most a little over log(2) / 2.
template <class F> struct Reduced {
  F exponent, rest;
};
template <class F> PYINIT_INLINE Reduced<F> reduce(F x) {
  using N = Number<F>;
  const F exponent = multiply_add(x, vec(N::kLog2E), vec(N::kMagic));
  const F n = exponent - vec(N::kMagic);
  return {exponent, multiply_subtract(n, vec(N::kLog2Low), multiply_subtract(n, vec(N::kLog2High), x))};
}

// e^r - 1 for |r| up to log(2) / 2.
PYINIT_INLINE F32 expm1_of_rest(F32 r) {
  return multiply_add(r * r, horner(r, 5.0e-1F, 1.666657692e-1F, 4.166655453e-2F, 8.363190326e-3F, 1.392619767e-3F), r);
}
PYINIT_INLINE F64 expm1_of_rest(F64 r) {
  return multiply_add(
      r * r,
      horner(r, 5.0e-1, 1.6666666666666671e-1, 4.16666666666666698e-2, 8.33333333332612426e-3, 1.38888888888837405e-3,
             1.98412698748586118e-4, 2.48015873255748678e-5, 2.75572553520326723e-6, 2.75572736087090067e-7,
             2.51052370507602993e-8, 2.09147012831032839e-9),
      r);
}

// e^x 2^k, where that is a normal number.
template <int k, class F> PYINIT_INLINE F scaled_exp(Reduced<F> x) {
  const F power = power_of_two<k>(x.exponent);
  return multiply_add(power, expm1_of_rest(x.rest), power);
}

// e^x - 1 for x from -64 to 64, small ones to the last digits.
template <class F> PYINIT_INLINE F expm1(F x) {
  const Reduced<F> reduced = reduce(x);
  const F power = power_of_two<0>(reduced.exponent);
  return multiply_add(power, expm1_of_rest(reduced.rest), power - constant<F>(1.0));
}

// e^x for x up to 0, which fades out to 0 by way of subnormal numbers.
template <class F> PYINIT_INLINE F decay(Reduced<F> x) {
  return scaled_exp<Number<F>::kShift>(x) * vec(Number<F>::kScale);
}
template <class F> PYINIT_INLINE F decay(F x) { return decay(reduce(max(vec(Number<F>::kLowest), x))); }

// 1 / (1 + e^-x). Numerator and denominator are scaled down, so that neither is infinite before the quotient is 0.
template <class F> PYINIT_INLINE F logistic(F x) {
  using N = Number<F>;
  const F scale = vec(N::kScale);
  // Below -highest / 2 nothing is left of e^-x beside 1.
  const F within = max(vec(-N::kHighest / 2), min(vec(N::kHighest), negate(x)));
  return scale / (scale + scaled_exp<-N::kShift>(reduce(within)));
}

// 1 / (1 + e^-x) and 1 / (1 + e^x), which is what the first one lacks to 1: each to its own last digits.
template <class F> struct Logistic {
  F value, complement;
};
template <class F> PYINIT_INLINE Logistic<F> logistic_pair(F x) {
  const F one = constant<F>(1.0);
  const F e = decay(negate(magnitude(x)));
  const F larger = one / (one + e), smaller = e * larger;
  return {select(is_negative(x), smaller, larger), select(is_negative(x), larger, smaller)};
}

template <class F> PYINIT_INLINE F tanh(F x) {
  const F a = min(vec(Number<F>::kTanhIsOne), magnitude(x));
  const F e = expm1(a + a);
  return flip_sign(e / (e + constant<F>(2.0)), x);
}

// log(1 + t) for t from 0 to 1, as 2 atanh(t / (2 + t)).
PYINIT_INLINE F32 log1p_series(F32 w) {
  return horner(w, 6.666664034e-1F, 4.000756064e-1F, 2.823661981e-1F, 2.685149802e-1F);
}
PYINIT_INLINE F64 log1p_series(F64 w) {
  return horner(w, 6.66666666666666586e-1, 4.00000000000145827e-1, 2.85714285671087572e-1, 2.2222222717427863e-1,
                1.81817894361328582e-1, 1.53855700649586231e-1, 1.33141442096549362e-1, 1.20010728095907125e-1,
                8.80073848614467388e-2, 1.61640456119435322e-1);
}
template <class F> PYINIT_INLINE F log1p(F t) {
  const F s = t / (t + constant<F>(2.0));
  const F w = s * s;
  return multiply_add(s * w, log1p_series(w), s + s);
}

// Upper tail of the normal distribution at a >= 0, times e^(a^2 / 2) 2^-kShift: a polynomial in k = 1 / (1 + slope a).
template <class F, class... C> PYINIT_INLINE F tail_polynomial(F a, F slope, C... c) {
  const F one = constant<F>(1.0);
  const F k = one / multiply_add(a, slope, one);
  return k * horner(k, (c * Number<F>::kScale)...);
}
PYINIT_INLINE F32 scaled_tail(F32 a) {
  return tail_polynomial(a, f32(0.24F), 9.574113947e-2F, 9.587435269e-2F, 8.880062093e-2F, 8.83500358e-2F,
                         2.655429073e-2F, 1.442550972e-1F, -1.474376885e-1F, 2.077093891e-1F, -1.255270643e-1F,
                         2.567982837e-2F);
}
PYINIT_INLINE F64 scaled_tail(F64 a) {
  return tail_polynomial(
      a, f64(0.16), 6.38307648765511233e-2, 6.38307641207750117e-2, 6.21967181530135372e-2, 5.89281996742843936e-2,
      5.41562247394397516e-2, 4.80787073001849215e-2, 4.14509103954771614e-2, 3.23802674054727374e-2,
      3.24389247950350747e-2, -1.13118843530790789e-3, 7.04373007974250213e-2, -1.18861595349641852e-1,
      2.32381936813387921e-1, -3.1955727814357031e-1, 3.47405986281053473e-1, -2.64879053366820341e-1,
      1.08360308172666492e-1, 2.94695851953235203e-2, -8.41036222159393271e-2, 6.46093917723639136e-2,
      -2.69605778775060886e-2, 6.13882454828882785e-3, -6.01499651957055944e-4);
}

// The standard normal distribution's function and density.
template <class F> struct Normal {
  F cdf, density;
};
template <class F> PYINIT_INLINE Normal<F> normal(F x) {
  using N = Number<F>;
  const F a = min(vec(N::kNormalReach), magnitude(x));
  const F half = a * constant<F>(-0.5);
  const F exponent = multiply_add(half * a, vec(N::kLog2E), vec(N::kMagic));
  const F n = exponent - vec(N::kMagic);
  // -a^2 / 2 - n log(2) without a rounding of the square, which the exponential would enlarge in the tails.
  const F rest = multiply_subtract(n, vec(N::kLog2Low), multiply_add(half, a, n * vec(-N::kLog2High)));
  const F bell = scaled_exp<N::kShift>(Reduced<F>{exponent, rest});
  const F tail = bell * scaled_tail(a);
  return {select(is_negative(x), tail, constant<F>(1.0) - tail), bell * constant<F>(0.398942280401432678 * N::kScale)};
}

}  // namespace pyinit::PYINIT_NS
