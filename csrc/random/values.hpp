// Distributions: from vectors of words to vectors of values, element by element. The same on every instruction set, and
// on devices.
#pragma once

#include "random/distributions.hpp"
#include "simd/math.hpp"

namespace pyinit::PYINIT_NS {

// Vectors of blocks that go through the rounds side by side: a round waits for its multiplications, and
// the other chains fill the wait.
constexpr int kChains = 4;

template <class T> struct ScalarOf {
  using Type = float;
};
template <> struct ScalarOf<double> {
  using Type = double;
};

// What differs between float and double lanes.
template <class Scalar> struct Lanes;
template <> struct Lanes<float> {
  using F = F32;
  using U = U32;
  static constexpr int kCount = kLanes32;
  static constexpr int kVectors = 4;  // words of a block, one element each
  static constexpr int kGroups = kChains / 2;
  static constexpr double kStep = 0x1p-31;
};
template <> struct Lanes<double> {
  using F = F64;
  using U = U64;
  static constexpr int kCount = kLanes64;
  static constexpr int kVectors = 2;
  static constexpr int kGroups = kChains;
  static constexpr double kStep = 0x1p-53;
};

PYINIT_INLINE F32 fraction_steps(U32 w) { return signed_to_f32(shr<8>(w)); }  // 24 bits
PYINIT_INLINE F64 fraction_steps(U64 w) { return to_f64(shr<11>(w)); }        // 53 bits
PYINIT_INLINE F32 steps(U32 w) { return signed_to_f32(shr<1>(w)); }           // 31 bits
PYINIT_INLINE F64 steps(U64 w) { return to_f64(shr<11>(w)); }                 // 53 bits

template <class U> PYINIT_INLINE U word(uint64_t x) {
  if constexpr (std::is_same_v<U, U32>) {
    return u32(static_cast<uint32_t>(x));
  } else {
    return u64(x);
  }
}

template <class U> constexpr uint64_t kTopBit = 0;
template <> inline constexpr uint64_t kTopBit<U32> = 0x80000000U;
template <> inline constexpr uint64_t kTopBit<U64> = 0x8000000000000000U;

template <class Scalar> struct UniformKernel {
  using F = typename Lanes<Scalar>::F;
  using U = typename Lanes<Scalar>::U;
  static constexpr int kVectors = Lanes<Scalar>::kVectors;
  F low, half_width, top;
  UniformKernel() = default;
  PYINIT_METHOD explicit UniformKernel(const Uniform& p)
      : low(constant<F>(p.low)), half_width(constant<F>(p.half_width)), top(constant<F>(p.top)) {}
  PYINIT_METHOD void operator()(const U (&w)[kVectors], F (&x)[kVectors]) const {
    constexpr double kTwoSteps = std::is_same_v<Scalar, double> ? 0x1p-52 : 0x1p-23;
    for (int j = 0; j < kVectors; ++j) {
      x[j] = min(fma(fraction_steps(w[j]) * constant<F>(kTwoSteps), half_width, low), top);
    }
  }
};

// Box and Muller 1958: each pair of words makes a pair of normals, radius from the first word, angle
// from the second.
template <class Scalar> struct NormalKernel {
  using F = typename Lanes<Scalar>::F;
  using U = typename Lanes<Scalar>::U;
  static constexpr int kVectors = Lanes<Scalar>::kVectors;
  F mean, std;
  NormalKernel() = default;
  PYINIT_METHOD explicit NormalKernel(const Normal& p) : mean(constant<F>(p.mean)), std(constant<F>(p.std)) {}
  PYINIT_METHOD void operator()(const U (&w)[kVectors], F (&x)[kVectors]) const {
    standard(w, x);
    for (int j = 0; j < kVectors; ++j) x[j] = fma(x[j], std, mean);
  }
  // Of mean 0 and standard deviation 1.
  PYINIT_METHOD static void standard(const U (&w)[kVectors], F (&z)[kVectors]) {
    constexpr double kStep = Lanes<Scalar>::kStep;
    for (int j = 0; j < kVectors; j += 2) {
      const F u = fma(steps(w[j]), constant<F>(kStep), constant<F>(kStep / 2));
      const F radius = sqrt(log(u) * constant<F>(-2.0));
      const SinCos<F> angle = sincos_turn(w[j + 1]);
      z[j] = radius * angle.cos;
      z[j + 1] = radius * angle.sin;
    }
  }
};

template <class Scalar> struct TruncNormalKernel {
  using F = typename Lanes<Scalar>::F;
  using U = typename Lanes<Scalar>::U;
  static constexpr int kVectors = Lanes<Scalar>::kVectors;
  F low, high, unit, mean, scale, mass, double_mass, base_lower, base_upper, centre_lower, centre_upper;
  U flip, last_lower, top_bit;
  TruncNormalKernel() = default;
  PYINIT_METHOD explicit TruncNormalKernel(const TruncNormal& p)
      : low(constant<F>(p.low)),
        high(constant<F>(p.high)),
        unit(constant<F>(p.unit)),
        mean(constant<F>(p.mean)),
        scale(constant<F>(p.scale)),
        mass(constant<F>(p.mass)),
        double_mass(constant<F>(2 * p.mass)),
        base_lower(constant<F>(p.base_lower)),
        base_upper(constant<F>(p.base_upper)),
        centre_lower(constant<F>(p.centre_lower)),
        centre_upper(constant<F>(p.centre_upper)),
        flip(word<U>(p.flip)),
        last_lower(word<U>(p.last_lower ^ kTopBit<U>)),
        top_bit(word<U>(kTopBit<U>)) {}
  template <int n> PYINIT_METHOD void operator()(const U (&w)[n], F (&x)[n]) const {
    F q[n], v[n], z[n], signed_scale[n];
    for (int j = 0; j < n; ++j) {
      const U r = w[j] ^ flip;
      const auto is_upper = signed_greater(r ^ top_bit, last_lower);
      const F k = steps(select(is_upper, r ^ word<U>(~uint64_t{0}), r));
      q[j] = fma(k, mass, select(is_upper, base_upper, base_lower));
      v[j] = fma(k, double_mass, select(is_upper, centre_upper, centre_lower));
      signed_scale[j] = select(is_upper, negate(scale), scale);
    }
    normal_quantile(v, q, z);
    for (int j = 0; j < n; ++j) x[j] = max(min(fma(z[j], signed_scale[j], mean) * unit, high), low);
  }
};

// The further words of elements lie in the blocks whose counters are higher by this; those of elements' words are
// below.
constexpr uint64_t kFurther = uint64_t{1} << 63;

// What a standard normal becomes that is not outside. The others' elements are what `outside` makes of further words.
template <class Scalar> struct RedrawnNormalKernel {
  using F = typename Lanes<Scalar>::F;
  F least, most;
  TruncNormalKernel<Scalar> outside;
  RedrawnNormalKernel() = default;
  PYINIT_METHOD explicit RedrawnNormalKernel(const RedrawnNormal& p)
      : least(constant<F>(p.least)), most(constant<F>(p.most)), outside(p.outside) {}
  PYINIT_METHOD F operator()(F z) const {
    return max(min(fma(z, outside.scale, outside.mean), outside.high), outside.low);
  }
};

// Beyond a distance d: with Q the upper tail and s uniform, Q(d + delta) = Q(d) (1 - mass s). Since
// -log Q(x) = x^2/2 + log x - l(1/x^2) + const, with l the logarithm of the asymptotic series
// 1 - z + 3 z^2 - 15 z^3 + ..., delta solves
//   delta (d + delta/2) + log(1 + delta/d) - l(1/(d + delta)^2) + l(1/d^2) = -log(1 - mass s),
// here by Newton steps from the solution without the last three terms. Where 1 - mass s would cancel,
// it is counted from the far end: rest + mass (1 - s).
template <class Scalar> struct NormalTailKernel {
  using F = typename Lanes<Scalar>::F;
  using U = typename Lanes<Scalar>::U;
  static constexpr int kVectors = Lanes<Scalar>::kVectors;
  F low, high, unit, near_end, scale, mass, rest, distance, series_at_distance;
  U flip;
  NormalTailKernel() = default;
  PYINIT_METHOD explicit NormalTailKernel(const NormalTail& p)
      : low(constant<F>(p.low)),
        high(constant<F>(p.high)),
        unit(constant<F>(p.unit)),
        near_end(constant<F>(p.near_end)),
        scale(constant<F>(p.scale)),
        mass(constant<F>(p.mass)),
        rest(constant<F>(p.rest)),
        distance(constant<F>(p.distance)),
        series_at_distance(series(distance)),
        flip(word<U>(p.flip)) {}
  PYINIT_METHOD void operator()(const U (&w)[kVectors], F (&x)[kVectors]) const {
    const F one = constant<F>(1.0), half = constant<F>(0.5);
    for (int j = 0; j < kVectors; ++j) {
      const U from_far = w[j] ^ flip;
      const F lost = mass * (steps(from_far ^ word<U>(~uint64_t{0})) + half);
      const F left = fma(mass, steps(from_far) + half, rest);
      const auto is_near = less(lost, half);
      const F remaining = select(is_near, one - lost, left);
      const F rounding = select(is_near, (remaining - one) + lost, constant<F>(0.0));
      const F target = rounding / remaining - log(remaining);
      const F twice = target + target;
      F delta = twice / (sqrt(fma(distance, distance, twice)) + distance);
      for (int step = 0; step < 3; ++step) {
        const F at = distance + delta;
        const F gap = fma(delta, fma(delta, half, distance),
                          log(one + delta / distance) - (series(at) - series_at_distance) - target);
        delta = delta - gap / (at + one / at);
      }
      x[j] = max(min(fma(max(delta, constant<F>(0.0)), negate(scale), near_end) * unit, high), low);
    }
  }

 private:
  PYINIT_METHOD static F series(F x) {
    const F z = constant<F>(1.0) / (x * x);
    return z * polynomial(z, static_cast<Scalar>(-1.0), static_cast<Scalar>(5.0 / 2), static_cast<Scalar>(-37.0 / 3),
                          static_cast<Scalar>(353.0 / 4), static_cast<Scalar>(-4081.0 / 5),
                          static_cast<Scalar>(55205.0 / 6));
  }
};

template <class Scalar> struct BernoulliKernel {
  using F = typename Lanes<Scalar>::F;
  using U = typename Lanes<Scalar>::U;
  static constexpr int kVectors = Lanes<Scalar>::kVectors;
  U threshold, top_bit;
  BernoulliKernel() = default;
  PYINIT_METHOD explicit BernoulliKernel(const Bernoulli& p)
      : threshold(word<U>(p.threshold ^ kTopBit<U>)), top_bit(word<U>(kTopBit<U>)) {}
  PYINIT_METHOD void operator()(const U (&w)[kVectors], F (&x)[kVectors]) const {
    for (int j = 0; j < kVectors; ++j) {
      x[j] = select(signed_greater(threshold, w[j] ^ top_bit), constant<F>(1.0), constant<F>(0.0));
    }
  }
};

template <class Scalar> struct RawWordsKernel {
  PYINIT_METHOD explicit RawWordsKernel(const RawWords&) {}
  PYINIT_METHOD void operator()(const U32 (&w)[4], F32 (&x)[4]) const {
    for (int j = 0; j < 4; ++j) x[j] = from_bits(w[j]);
  }
};

}  // namespace pyinit::PYINIT_NS
