// torch.func._random's numbers: the operations of torch's CPU code with the same roundings, in vectors. Compiled once
// per instruction set.
#include <bit>
#include <cmath>

#include "random/generate.hpp"
#include "random/libm_margins.hpp"
#include "random/torch_func_kernels.hpp"
#include "simd/accurate.hpp"

namespace pyinit::PYINIT_NS {
namespace {

// ---- The C library's functions in single precision ---------------------------------------------------------

// glibc's logf, sinf and cosf from 2.28 on (those of Arm's Optimized Routines) are formulas in double whose results are
// rounded to float. The formulas are followed here, but for the last bits of a double: whoever computes them, with
// fused operations or without, gets doubles that differ by far less than kDoubt units of the last place. Where so small
// a difference could decide how the double is rounded to float, the library itself is asked.
constexpr uint64_t kDoubt = 1 << 12, kRoundedOff = 1 << 29;
PYINIT_INLINE M64 may_round_otherwise(F64 x) {
  const U64 from_middle = (bits(x) + u64(kDoubt - kRoundedOff / 2)) & u64(kRoundedOff - 1);
  return signed_greater(u64(2 * kDoubt), from_middle);
}

// By c = 1 / inverse near it, for each of 16 parts of [0.7, 1.4): inverse, log c.
alignas(64) constexpr double kLogTable[16][4] = {
    {0x1.661ec79f8f3bep+0, -0x1.57bf7808caadep-2, 0, 0}, {0x1.571ed4aaf883dp+0, -0x1.2bef0a7c06ddbp-2, 0, 0},
    {0x1.49539f0f010bp+0, -0x1.01eae7f513a67p-2, 0, 0},  {0x1.3c995b0b80385p+0, -0x1.b31d8a68224e9p-3, 0, 0},
    {0x1.30d190c8864a5p+0, -0x1.6574f0ac07758p-3, 0, 0}, {0x1.25e227b0b8eap+0, -0x1.1aa2bc79c81p-3, 0, 0},
    {0x1.1bb4a4a1a343fp+0, -0x1.a4e76ce8c0e5ep-4, 0, 0}, {0x1.12358f08ae5bap+0, -0x1.1973c5a611cccp-4, 0, 0},
    {0x1.0953f419900a7p+0, -0x1.252f438e10c1ep-5, 0, 0}, {1, 0, 0, 0},
    {0x1.e608cfd9a47acp-1, 0x1.aa5aa5df25984p-5, 0, 0},  {0x1.ca4b31f026aap-1, 0x1.c5e53aa362eb4p-4, 0, 0},
    {0x1.b2036576afce6p-1, 0x1.526e57720db08p-3, 0, 0},  {0x1.9c2d163a1aa2dp-1, 0x1.bc2860d22477p-3, 0, 0},
    {0x1.886e6037841edp-1, 0x1.1058bc8a07ee1p-2, 0, 0},  {0x1.767dcf5534862p-1, 0x1.4043057b6ee09p-2, 0, 0}};

// Of a positive number.
PYINIT_INLINE F64 glibc_log(F64 x) {
  const uint64_t origin = 0x3FE6600000000000U;  // x = 2^e m with m in [0.699, 1.398)
  const U64 b = (bits(x) - u64(origin)) + u64(0x3FF0000000000000U);
  const F64 e = from_bits(shr<52>(b) | u64(0x4330000000000000U)) - f64(0x1p52 + 1023);
  const F64 m = from_bits((b & u64(0x000FFFFFFFFFFFFFU)) + u64(origin));
  uint64_t rows[kLanes64];
  store(rows, shr<48>(b) & u64(15));
  F64 inverse, log_c, unused, unused_too;
  load_rows(kLogTable, rows, inverse, log_c, unused, unused_too);
  const F64 r = multiply_add(m, inverse, f64(-1.0));
  const F64 near = multiply_add(e, f64(0x1.62e42fefa39efp-1), log_c), z = r * r;
  const F64 y = multiply_add(f64(0x1.5575b0be00b6ap-2), r, f64(-0x1.ffffef20a4123p-2));
  return multiply_add(multiply_add(f64(-0x1.00ea348b88334p-2), z, y), z, near + r);
}

struct RoundedSinCos {
  F64 sin, cos;
  M64 is_in_doubt;
};

// Of x in [0, 2 pi].
PYINIT_INLINE RoundedSinCos glibc_sincos(F64 x) {
  const F64 shifted = multiply_add(x, f64(0x1.45F306DC9C883p-1), f64(0x1.8p52));  // the nearest quarter of a turn
  const F64 r = multiply_subtract(shifted - f64(0x1.8p52), f64(0x1.921FB54442D18p0), x);
  const U64 quarter = bits(shifted);
  const F64 z = r * r, r3 = r * z, z2 = z * z;
  const F64 s1 = multiply_add(z, f64(-0x1.994eb3774cf24p-13), f64(0x1.1107605230bc4p-7));
  const F64 s = multiply_add(r3 * z, s1, multiply_add(r3, f64(-0x1.555545995a603p-3), r));
  const F64 c1 = multiply_add(z, f64(-0x1.ffffffd0c621cp-2), f64(1.0));
  const F64 c2 = multiply_add(z, f64(0x1.99343027bf8c3p-16), f64(-0x1.6c087e89a359dp-10));
  const F64 c = multiply_add(z2 * z, c2, multiply_add(z2, f64(0x1.55553e1068f19p-5), c1));
  const M64 is_odd = sign_bit(shl<63>(quarter));
  const F64 sin_sign = from_bits(shl<62>(quarter)), cos_sign = from_bits(shl<62>(quarter + u64(1)));
  const F64 sin = flip_sign(select(is_odd, c, s), sin_sign), cos = flip_sign(select(is_odd, s, c), cos_sign);
  // Near a zero of the sine or the cosine the rounding of r counts.
  const U64 doubt = select(less(z, f64(0x1p-16)), u64(~uint64_t{0}), u64(0)) |
                    select(may_round_otherwise(sin), u64(~uint64_t{0}), u64(0)) |
                    select(may_round_otherwise(cos), u64(~uint64_t{0}), u64(0));
  return {sin, cos, sign_bit(doubt)};
}

// The C library's functions of n numbers, a multiple of kLanes64 and at most 64.
void libm_log(const float* x, int n, bool is_by_libm, float* log_x) {
  uint64_t unsure = ~uint64_t{0} >> (64 - n);
  if (!is_by_libm) {
    double from[64], to[64];
    for (int i = 0; i < n; ++i) from[i] = static_cast<double>(x[i]);
    unsure = 0;
    for (int i = 0; i < n; i += kLanes64) {
      const F64 y = glibc_log(load(from + i));
      store(to + i, y);
      unsure |= uint64_t{mask_bits(may_round_otherwise(y))} << i;
    }
    for (int i = 0; i < n; ++i) log_x[i] = static_cast<float>(to[i]);
  }
  for (; unsure != 0; unsure &= unsure - 1) {
    const int i = __builtin_ctzll(unsure);
    log_x[i] = std::log(x[i]);
  }
}

void libm_sincos(const float* x, int n, bool is_by_libm, float* sin_x, float* cos_x) {
  uint64_t unsure = ~uint64_t{0} >> (64 - n);
  if (!is_by_libm) {
    double from[64], sines[64], cosines[64];
    for (int i = 0; i < n; ++i) from[i] = static_cast<double>(x[i]);
    unsure = 0;
    for (int i = 0; i < n; i += kLanes64) {
      const RoundedSinCos y = glibc_sincos(load(from + i));
      store(sines + i, y.sin);
      store(cosines + i, y.cos);
      unsure |= uint64_t{mask_bits(y.is_in_doubt)} << i;
    }
    for (int i = 0; i < n; ++i) sin_x[i] = static_cast<float>(sines[i]);
    for (int i = 0; i < n; ++i) cos_x[i] = static_cast<float>(cosines[i]);
  }
  for (; unsure != 0; unsure &= unsure - 1) {
    const int i = __builtin_ctzll(unsure);
    sin_x[i] = std::sin(x[i]);
    cos_x[i] = std::cos(x[i]);
  }
}

bool matches_libm(int64_t count) {
  constexpr int kTogether = 64;
  const auto same = [](const float* a, const float* b) { return std::memcmp(a, b, kTogether * sizeof(float)) == 0; };
  const auto in_steps = [count](float from, float to, auto&& check) {
    // As many numbers in each power of two as between any others.
    const uint32_t first = std::bit_cast<uint32_t>(from), last = std::bit_cast<uint32_t>(to);
    const uint32_t step = (last - first) / static_cast<uint32_t>(count) | 1U;
    float x[kTogether];
    for (uint32_t at = first; at <= last - kTogether * step; at += kTogether * step) {
      for (uint32_t i = 0; i < kTogether; ++i) x[i] = std::bit_cast<float>(at + i * step);
      if (!check(x)) return false;
    }
    return true;
  };
  return in_steps(0x1p-33F, 1.0F,
                  [&](const float* x) {
                    float ours[kTogether], theirs[kTogether];
                    libm_log(x, kTogether, false, ours);
                    libm_log(x, kTogether, true, theirs);
                    return same(ours, theirs);
                  }) &&
         in_steps(0x1p-10F, 6.2831855F, [&](const float* x) {
           float ours[2][kTogether], theirs[2][kTogether];
           libm_sincos(x, kTogether, false, ours[0], ours[1]);
           libm_sincos(x, kTogether, true, theirs[0], theirs[1]);
           return same(ours[0], theirs[0]) && same(ours[1], theirs[1]);
         });
}

// ---- Those in double --------------------------------------------------------------------------------------

// Vectors to twice the precision, and the library for what lies too near the middle between two doubles.
void libm_log(const double* x, int n, bool is_by_libm, double* log_x) {
  unsigned unsure = ~0U >> (32 - n);
  if (kHasFma && !is_by_libm) {
    unsure = 0;
    for (int i = 0; i < n; i += kLanes64) {
      uint64_t rows[kLanes64];
      const F64 at = load(x + i);
      store(rows, log_row(at));
      const Sum y = accurate_log(at, rows);
      store(log_x + i, y.high);
      unsure |= ((1U << kLanes64) - 1 - mask_bits(rounds_safely(y, f64(stretch(kLogMargin))))) << i;
    }
  }
  for (; unsure != 0; unsure &= unsure - 1) {
    const int i = __builtin_ctz(unsure);
    log_x[i] = std::log(x[i]);
  }
}

void libm_sincos(const double* x, int n, bool is_by_libm, double* sin_x, double* cos_x) {
  unsigned unsure_sin = ~0U >> (32 - n), unsure_cos = unsure_sin;
  if (kHasFma && !is_by_libm) {
    unsure_sin = unsure_cos = 0;
    for (int i = 0; i < n; i += kLanes64) {
      constexpr unsigned kAll = (1U << kLanes64) - 1;
      uint64_t rows[kLanes64];
      const F64 at = load(x + i);
      store(rows, sine_row(at));
      const SinCosSums y = accurate_sincos(at, rows);
      store(sin_x + i, y.sin.high);
      store(cos_x + i, y.cos.high);
      const unsigned near = mask_bits(y.is_near_zero);
      const F64 sin_stretch =
          select(less(at, f64(kFirstSin)), f64(stretch(kFirstSinMargin)), f64(stretch(kSinCosMargin)));
      unsure_sin |= ((kAll - mask_bits(rounds_safely(y.sin, sin_stretch))) | near) << i;
      unsure_cos |= ((kAll - mask_bits(rounds_safely(y.cos, f64(stretch(kSinCosMargin))))) | near) << i;
    }
  }
  for (; unsure_sin != 0; unsure_sin &= unsure_sin - 1) {
    const int i = __builtin_ctz(unsure_sin);
    sin_x[i] = std::sin(x[i]);
  }
  for (; unsure_cos != 0; unsure_cos &= unsure_cos - 1) {
    const int i = __builtin_ctz(unsure_cos);
    cos_x[i] = std::cos(x[i]);
  }
}

// ---- Distributions ----------------------------------------------------------------------------------------

template <class F> PYINIT_INLINE F scaled(F x, F factor, F term, bool is_fused) {
  return is_fused ? fma(x, factor, term) : x * factor + term;
}

PYINIT_INLINE F32 number(U32 w) { return signed_to_f32(w); }
PYINIT_INLINE F64 number(U64 w) { return to_f64(w); }
// torch's order of the two words of a double.
PYINIT_INLINE U32 in_torchs_order(U32 w) { return w; }
PYINIT_INLINE U64 in_torchs_order(U64 w) { return shl<32>(w) | shr<32>(w); }

template <class Scalar> struct TorchFuncUniformKernel {
  using F = typename Lanes<Scalar>::F;
  using U = typename Lanes<Scalar>::U;
  static constexpr int kVectors = Lanes<Scalar>::kVectors;
  F low, width, step;
  U mask;
  bool is_fused;
  explicit TorchFuncUniformKernel(const TorchFuncUniform& p)
      : low(constant<F>(p.low)),
        width(constant<F>(p.width)),
        step(constant<F>(p.step)),
        mask(word<U>(p.mask)),
        is_fused(p.is_fused) {}
  void operator()(const U (&w)[kVectors], F (&x)[kVectors]) const {
    for (int j = 0; j < kVectors; ++j) {
      x[j] = scaled(number(in_torchs_order(w[j]) & mask) * step, width, low, is_fused);
    }
  }
};

// (w + 1/2) 2^-32, rounded as w and the sum are.
PYINIT_INLINE F32 fraction(U32 w) {
  const F32 rounded = signed_to_f32(shr<16>(w)) * f32(0x1p16F) + signed_to_f32(w & u32(0xFFFFU));
  return rounded * f32(0x1p-32F) + f32(0x1p-33F);
}
// (w + 1/2) 2^-64, of which the low half of the word is the high one.
PYINIT_INLINE F64 fraction(U64 w) {
  const F64 high = to_f64(w & u64(0xFFFFFFFFU)), low = to_f64(shr<32>(w));
  return high * f64(0x1p-32) + (low * f64(0x1p-64) + f64(0x1p-65));
}

template <class Scalar> struct TorchFuncNormalKernel {
  using F = typename Lanes<Scalar>::F;
  using U = typename Lanes<Scalar>::U;
  static constexpr int kVectors = Lanes<Scalar>::kVectors;
  static constexpr int kLanes = Lanes<Scalar>::kCount;
  F mean, std;
  TorchFuncArithmetic arithmetic;
  explicit TorchFuncNormalKernel(const TorchFuncNormal& p)
      : mean(constant<F>(p.mean)), std(constant<F>(p.std)), arithmetic(p.arithmetic) {}
  [[gnu::noinline]] void operator()(const U (&w)[kVectors], F (&x)[kVectors]) const {
    constexpr int kPairs = kVectors / 2 * kLanes;
    Scalar u[kPairs], theta[kPairs], log_u[kPairs], sines[kPairs], cosines[kPairs];
    for (int j = 0; j < kVectors / 2; ++j) {
      store(u + j * kLanes, fraction(w[2 * j]));
      store(theta + j * kLanes, fraction(w[2 * j + 1]) * constant<F>(0x1.921FB54442D18p2));
    }
    libm_log(u, kPairs, arithmetic.is_by_libm, log_u);
    libm_sincos(theta, kPairs, arithmetic.is_by_libm, sines, cosines);
    for (int j = 0; j < kVectors / 2; ++j) {
      const F radius = sqrt(load(log_u + j * kLanes) * constant<F>(-2.0));
      x[2 * j] = scaled(radius * load(cosines + j * kLanes), std, mean, arithmetic.is_fused);
      x[2 * j + 1] = scaled(radius * load(sines + j * kLanes), std, mean, arithmetic.is_fused);
    }
  }
};

}  // namespace

const TorchFuncKernels torch_func_kernels = {
    PYINIT_PER_DTYPE(TorchFuncUniformKernel, TorchFuncUniform),
    PYINIT_PER_DTYPE(TorchFuncNormalKernel, TorchFuncNormal),
    matches_libm,
};

}  // namespace pyinit::PYINIT_NS
