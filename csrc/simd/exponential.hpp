// Exponentials and functions made of them, over vectors, for activations. Multiply-adds are fused where there is
// hardware for it: the same bits on every instruction set that has one. Coefficients come from
// tools/fit_polynomials.py. NaN gives NaN everywhere.
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

// a b + c, and c - a b, rounded once where that is one instruction.
template <class F> PYINIT_INLINE F add_product(F c, F a, F b) {
  if constexpr (kHasFma) {
    return fma(a, b, c);
  } else {
    return c + a * b;
  }
}
template <class F> PYINIT_INLINE F subtract_product(F c, F a, F b) {
  if constexpr (kHasFma) {
    return fnma(a, b, c);
  } else {
    return c - a * b;
  }
}

// c[0] + c[1] x + ... by Horner's rule: the fewest operations, for loops whose iterations overlap.
template <class F, class C> PYINIT_INLINE F horner(F, C c) { return vec(c); }
template <class F, class C, class... Rest> PYINIT_INLINE F horner(F x, C c, Rest... rest) {
  return add_product(vec(c), horner(x, rest...), x);
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
  const F exponent = add_product(vec(N::kMagic), x, vec(N::kLog2E));
  const F n = exponent - vec(N::kMagic);
  return {exponent, subtract_product(subtract_product(x, n, vec(N::kLog2High)), n, vec(N::kLog2Low))};
}

// e^r - 1 for |r| up to log(2) / 2.
PYINIT_INLINE F32 expm1_of_rest(F32 r) {
  return add_product(r, r * r, horner(r, 5.0e-1F, 1.666657692e-1F, 4.166655453e-2F, 8.363190326e-3F, 1.392619767e-3F));
}
PYINIT_INLINE F64 expm1_of_rest(F64 r) {
  return add_product(
      r, r * r,
      horner(r, 5.0e-1, 1.6666666666666671e-1, 4.16666666666666698e-2, 8.33333333332612426e-3, 1.38888888888837405e-3,
             1.98412698748586118e-4, 2.48015873255748678e-5, 2.75572553520326723e-6, 2.75572736087090067e-7,
             2.51052370507602993e-8, 2.09147012831032839e-9));
}

// e^x 2^k, where that is a normal number.
template <int k, class F> PYINIT_INLINE F scaled_exp(Reduced<F> x) {
  const F power = power_of_two<k>(x.exponent);
  return add_product(power, power, expm1_of_rest(x.rest));
}

// e^x - 1 for x from -64 to 64, small ones to the last digits.
template <class F> PYINIT_INLINE F expm1(F x) {
  const Reduced<F> reduced = reduce(x);
  const F power = power_of_two<0>(reduced.exponent);
  return add_product(power - constant<F>(1.0), power, expm1_of_rest(reduced.rest));
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
  return add_product(s + s, s * w, log1p_series(w));
}

// Upper tail of the normal distribution at a >= 0 over its density, as a polynomial in k = 1 / (1 + slope a).
PYINIT_INLINE F32 tail_over_density(F32 a) {
  const F32 one = f32(1.0F);
  const F32 k = one / add_product(one, a, f32(0.24F));
  return k * horner(k, 2.399874472e-1F, 2.403213633e-1F, 2.225901472e-1F, 2.214606978e-1F, 6.656173596e-2F,
                    3.615939055e-1F, -3.695714788e-1F, 5.206502275e-1F, -3.146496886e-1F, 6.436978388e-2F);
}
PYINIT_INLINE F64 tail_over_density(F64 a) {
  const F64 one = f64(1.0);
  const F64 k = one / add_product(one, a, f64(0.16));
  return k * horner(k, 1.6000000003088641e-1, 1.59999998136436639e-1, 1.55904052311598951e-1, 1.47711091476662575e-1,
                    1.35749524179150569e-1, 1.20515447126351418e-1, 1.0390202400649912e-1, 8.11652938186705509e-2,
                    8.13123260898635508e-2, -2.83546891587840228e-3, 1.76560129767514277e-1, -2.97941835671160909e-1,
                    5.82495133329952744e-1, -8.01011308758796373e-1, 8.70817667988158099e-1, -6.63953324526765577e-1,
                    2.71619012313334513e-1, 7.38692954922450716e-2, -2.10816517445357479e-1, 1.61951728223318916e-1,
                    -6.75801468081478086e-2, 1.53877511857396556e-2, -1.50773603477626245e-3);
}

// The standard normal distribution's function and density.
template <class F> struct Normal {
  F cdf, density;
};
template <class F> PYINIT_INLINE Normal<F> normal(F x) {
  const F a = min(vec(Number<F>::kNormalReach), magnitude(x));
  const F half = a * constant<F>(0.5);
  const F square = half * a;
  Reduced<F> exponent = reduce(negate(square));
  // What the rounding of the square has cost: in the tails the exponential would enlarge it.
  exponent.rest = exponent.rest + subtract_product(square, half, a);
  const F density = decay(exponent) * constant<F>(0.398942280401432678);
  const F tail = density * tail_over_density(a);
  return {select(is_negative(x), tail, constant<F>(1.0) - tail), density};
}

}  // namespace pyinit::PYINIT_NS
