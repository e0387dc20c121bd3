// Elementary functions over vectors, for the arguments that random variates need. Only +, -, *, /,
// sqrt and fma, all correctly rounded, in a fixed order: the same bits on every instruction set.
// Coefficients come from tools/fit_polynomials.py unless a source is named. Largest errors, checked
// by tests/core/test_elementary.py, in units in the last place (ulp) unless said:
//
//                 float                    double
//   log           1.1                      1.0        positive normal arguments
//   sin, cos      absolute 1.3e-7          2e-16      of an angle given as a fraction of a turn
//   quantile      relative 4e-7            2e-15      inverse normal CDF, tails to 2^-96 (double 1e-300)
#pragma once

#include "simd/vec.hpp"

namespace pyinit::PYINIT_NS {

// The polynomial c[0] + c[1] x + ... + c[n-1] x^(n-1) by Estrin's scheme: neighbours join to coefficients
// of powers of x^2, and so on. Half as many steps wait for each other as with Horner's rule.
template <class F, int n> PYINIT_INLINE F estrin(F x, F (&c)[n]) {
  if constexpr (n == 1) {
    return c[0];
  } else {
    F joined[(n + 1) / 2];
    for (int i = 0; i < n / 2; ++i) joined[i] = fma(c[2 * i + 1], x, c[2 * i]);
    if constexpr (n % 2 == 1) joined[n / 2] = c[n - 1];
    return estrin(x * x, joined);
  }
}
template <class F, class... C> PYINIT_INLINE F polynomial(F x, C... coefficients) {
  F c[] = {vec(coefficients)...};
  return estrin(x, c);
}

PYINIT_INLINE F32 negate(F32 x) { return from_bits(bits(x) ^ u32(0x80000000U)); }
PYINIT_INLINE F64 negate(F64 x) { return from_bits(bits(x) ^ u64(0x8000000000000000U)); }
// x with its sign flipped where s is negative.
PYINIT_INLINE F32 flip_sign(F32 x, F32 s) { return from_bits(bits(x) ^ (bits(s) & u32(0x80000000U))); }
PYINIT_INLINE F64 flip_sign(F64 x, F64 s) { return from_bits(bits(x) ^ (bits(s) & u64(0x8000000000000000U))); }

// Exact for a < 2^53.
PYINIT_INLINE F64 to_f64(U64 a) {
  const F64 high = from_bits(shr<32>(a) | u64(0x4530000000000000U));             // 2^84 + high 2^32
  const F64 low = from_bits((a & u64(0xFFFFFFFFU)) | u64(0x4330000000000000U));  // 2^52 + low
  return (high - f64(0x1.00000001p84)) + low;
}

PYINIT_INLINE F32 log(F32 x) {
  // x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
  const U32 origin = u32(0x3F3504F3U);
  const U32 b = bits(x) - origin;
  const F32 e = signed_to_f32(sar<23>(b));
  const F32 f = from_bits((b & u32(0x007FFFFFU)) + origin) - f32(1.0F);
  const F32 p = polynomial(f, 3.333333073e-1F, -2.500030642e-1F, 2.000104509e-1F, -1.664128146e-1F, 1.421449592e-1F,
                           -1.299818376e-1F, 1.262231985e-1F, -7.902743772e-2F);
  const F32 tail = (f * f) * fma(f, p, f32(-0.5F));
  return fma(e, f32(0.693359375F), f + fma(e, f32(-2.12194440e-4F), tail));
}

PYINIT_INLINE F64 log(F64 x) {
  const U64 origin = u64(0x3FE6A09E667F3BCDU);
  const U64 b = (bits(x) - origin) + u64(0x3FF0000000000000U);
  const F64 e = from_bits(shr<52>(b) | u64(0x4330000000000000U)) - f64(0x1p52 + 1023);
  const F64 f = from_bits((b & u64(0x000FFFFFFFFFFFFFU)) + origin) - f64(1.0);
  const F64 s = f / (f + f64(2.0));
  const F64 w = s * s;
  const F64 r =
      w * polynomial(w, 6.66666666666666969e-1, 3.99999999998995045e-1, 2.85714286259754849e-1, 2.22222111347950799e-1,
                     1.81828891252617221e-1, 1.53317216005560413e-1, 1.46164496850434059e-1);
  const F64 half_square = f64(0.5) * f * f;
  const F64 low = fma(e, f64(1.90821492927058770002e-10), s * (half_square + r));
  return fma(e, f64(6.93147180369123816490e-01), f - (half_square - low));
}

template <class F> struct SinCos {
  F sin, cos;
};

// Of the angle 2 pi w / 2^32. The two top bits of w, rounded, are the quadrant; the rest, taken as a
// signed fraction of a quarter turn, needs no range reduction.
PYINIT_INLINE SinCos<F32> sincos_turn(U32 w) {
  const F32 y = signed_to_f32(shl<2>(w)) * f32(0x1.921FB6p-32F);  // pi/2 2^-32
  const F32 z = y * y;
  const F32 s = fma(y * z, polynomial(z, -1.666666466e-1F, 8.332748271e-3F, -1.958789088e-4F), y);
  const F32 c =
      fma(z * z, polynomial(z, 4.166666466e-2F, -1.388830304e-3F, 2.454794209e-5F), fma(z, f32(-0.5F), f32(1.0F)));
  const U32 nearest = w + u32(0x20000000U);
  const M32 swap = sign_bit(shl<1>(nearest));
  const U32 cos_sign = nearest + u32(0x40000000U);
  return {flip_sign(select(swap, c, s), from_bits(nearest)), flip_sign(select(swap, s, c), from_bits(cos_sign))};
}

// Of the angle 2 pi w / 2^64, from the 53 bits below the quadrant's two.
PYINIT_INLINE SinCos<F64> sincos_turn(U64 w) {
  const U64 rest = shr<11>(shl<2>(w) ^ u64(0x8000000000000000U));
  const F64 y = (to_f64(rest) - f64(0x1p52)) * f64(0x1.921FB54442D18p-53);  // pi/2 2^-53
  const F64 z = y * y;
  const F64 s = fma(y * z,
                    polynomial(z, -1.66666666666666646e-1, 8.33333333333094849e-3, -1.98412698367585743e-4,
                               2.75573161025524401e-6, -2.50511318450036244e-8, 1.59181292948666087e-10),
                    y);
  const F64 c = fma(z * z,
                    polynomial(z, 4.16666666666666654e-2, -1.38888888888873972e-3, 2.48015872987656879e-5,
                               -2.75573172717297929e-7, 2.08761462684031979e-9, -1.1382632425521718e-11),
                    fma(z, f64(-0.5), f64(1.0)));
  const U64 nearest = w + u64(0x2000000000000000U);
  const M64 swap = sign_bit(shl<1>(nearest));
  const U64 cos_sign = nearest + u64(0x4000000000000000U);
  return {flip_sign(select(swap, c, s), from_bits(nearest)), flip_sign(select(swap, s, c), from_bits(cos_sign))};
}

// The inverse normal CDF at p, given as v = 2p - 1 and q = min(p, 1 - p), so that neither the centre
// nor the tails lose digits. With w = -log(4 q (1 - q)): v times a polynomial in w in the centre, a
// polynomial in sqrt(w) in the tails (the form of Giles 2010, "Approximating the erfinv function").
// Several vectors together: one branch for all, and work to overlap.
template <int n> PYINIT_INLINE void normal_quantile(const F32 (&v)[n], const F32 (&q)[n], F32 (&x)[n]) {
  const F32 border = f32(6.25F);
  F32 w[n], largest = border;
  for (int i = 0; i < n; ++i) {
    w[i] = negate(log(fnma(q[i], q[i], q[i]) * f32(4.0F)));
    x[i] = v[i] * polynomial(w[i] - f32(3.0F), 2.296035125F, 3.417169974e-1F, -8.114964662e-3F, -1.182552189e-3F,
                             2.758930406e-4F, -1.797424384e-5F, -2.493061387e-6F, 6.343598988e-7F, -2.825348999e-8F,
                             -7.750748181e-9F, 9.876416004e-10F);
    largest = max(largest, w[i]);
  }
  if (any(less(border, largest))) [[unlikely]] {
    for (int i = 0; i < n; ++i) {
      const F32 tail =
          polynomial(sqrt(w[i]) - f32(5.0F), 6.858803463F, 1.428780562F, -1.967512807e-4F, -3.037654836e-4F,
                     1.084113478e-4F, -2.829500439e-5F, 5.808525064e-6F, -1.059215461e-6F, 3.991067046e-7F,
                     -1.342643839e-7F, 3.525638663e-9F, 7.633022844e-9F, -1.15065789e-9F);
      x[i] = select(less(border, w[i]), flip_sign(tail, v[i]), x[i]);
    }
  }
}

// Wichura 1988, algorithm AS 241 (PPND16).
PYINIT_INLINE F64 normal_quantile(F64 v, F64 q) {
  const F64 y = v * f64(0.5);
  const F64 r = fnma(y, y, f64(0.180625));
  F64 x = y *
          polynomial(r, 3.3871328727963666080e0, 1.3314166789178437745e+2, 1.9715909503065514427e+3,
                     1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                     3.3430575583588128105e+4, 2.5090809287301226727e+3) /
          polynomial(r, 1.0, 4.2313330701600911252e+1, 6.8718700749205790830e+2, 5.3941960214247511077e+3,
                     2.1213794301586595867e+4, 3.9307895800092710610e+4, 2.8729085735721942674e+4,
                     5.2264952788528545610e+3);
  const M64 in_tail = less(r, f64(0.0));
  if (any(in_tail)) {
    const F64 s = sqrt(negate(log(q)));
    const F64 a = s - f64(1.6);
    F64 tail = polynomial(a, 1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
                          3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
                          2.27238449892691845833e-2, 7.74545014278341407640e-4) /
               polynomial(a, 1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
                          1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
                          1.05075007164441684324e-9);
    const M64 in_far_tail = less(f64(5.0), s);
    if (any(in_far_tail)) {
      const F64 c = s - f64(5.0);
      const F64 far_tail = polynomial(c, 6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
                                      2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                      2.71155556874348757815e-5, 2.01033439929228813265e-7) /
                           polynomial(c, 1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1,
                                      1.48753612908506148525e-2, 7.86869131145613259100e-4, 1.84631831751005468180e-5,
                                      1.42151175831644588870e-7, 2.04426310338993978564e-15);
      tail = select(in_far_tail, far_tail, tail);
    }
    x = select(in_tail, flip_sign(tail, v), x);
  }
  return x;
}

template <int n> PYINIT_INLINE void normal_quantile(const F64 (&v)[n], const F64 (&q)[n], F64 (&x)[n]) {
  for (int i = 0; i < n; ++i) x[i] = normal_quantile(v[i], q[i]);
}

// Rounding of float to nearest even, as bit patterns in the low half of each lane. Finite or infinite.
PYINIT_INLINE U32 bf16_bits(F32 x) {
  const U32 b = bits(x);
  return shr<16>(b + u32(0x7FFFU) + (shr<16>(b) & u32(1)));
}

// From the float16 in the high half of each lane. Its exponent counts from -15, that of float32 from -127.
PYINIT_INLINE F32 from_half(U32 high) {
  const U32 exponent = u32(0x7C000000U), magnitude = high & u32(0x7FFFFFFFU);
  const U32 value = bits(from_bits(shr<3>(magnitude)) * f32(0x1p112F));
  const M32 is_beyond = signed_greater(magnitude, exponent - u32(1));  // infinite or NaN
  return from_bits((high & u32(0x80000000U)) | value | select(is_beyond, u32(0x7F800000U), u32(0)));
}

}  // namespace pyinit::PYINIT_NS
