// torch's normals in double: vectors where that gives the bits of the C library, which it calls for the
// others. Compiled once per instruction set.
#include <cmath>

#include "random/libm_margins.hpp"
#include "random/torch_kernels.hpp"
#include "random/torch_words.hpp"
#include "simd/accurate.hpp"

namespace pyinit::PYINIT_NS {
namespace {

constexpr int kTogether = 8;  // blocks: 64 pairs, as many as a mask of 64 bits can mark

template <bool is_fused>
void libm_normal_blocks_as(const Normal& p, const uint32_t* words, int64_t blocks, double* out) {
  const F64 mean = f64(p.mean), std = f64(p.std);
  for (; blocks > 0; blocks -= kTogether, words += 32 * kTogether, out += 16 * kTogether) {
    const int n = blocks < kTogether ? static_cast<int>(blocks) : kTogether;
    const auto for_each_vector = [n](auto&& body) {
      for (int block = 0; block < n; ++block) {
        for (int v = 0; v < 8; v += kLanes64) body(8 * block + v, 16 * block + v);
      }
    };
    double u1[8 * kTogether], theta[8 * kTogether], log_u1[8 * kTogether];
    uint64_t log_rows[8 * kTogether], sine_rows[8 * kTogether];
    uint64_t log_unsure = 0, sin_unsure = 0, cos_unsure = 0;
    const auto mark = [](uint64_t& unsure, int pair, unsigned sure) {
      unsure |= uint64_t{~sure & ((1U << kLanes64) - 1)} << pair;
    };
    // Short chains of dependence in each loop, so that many of them run at once.
    for_each_vector([&](int pair, int place) {
      F64 a, b;
      fraction(words + 2 * place, a);
      fraction(words + 2 * place + 16, b);
      const F64 x = f64(1.0) - a, angle = f64(0x1.921fb54442d18p2) * b;
      store(u1 + pair, x);
      store(theta + pair, angle);
      store(log_rows + pair, log_row(x));
      store(sine_rows + pair, sine_row(angle));
    });
    for_each_vector([&](int pair, int) {
      const Sum x = accurate_log(load(u1 + pair), log_rows + pair);
      store(log_u1 + pair, x.high);
      mark(log_unsure, pair, mask_bits(rounds_safely(x, f64(stretch(kLogMargin)))));
    });
    for_each_vector([&](int pair, int place) {
      const F64 angle = load(theta + pair);
      const SinCosSums x = accurate_sincos(angle, sine_rows + pair);
      store(out + place, x.cos.high);
      store(out + place + 8, x.sin.high);
      const unsigned is_near_zero = mask_bits(x.is_near_zero);
      mark(cos_unsure, pair, mask_bits(rounds_safely(x.cos, f64(stretch(kSinCosMargin)))) & ~is_near_zero);
      const F64 sin_stretch =
          select(less(angle, f64(kFirstSin)), f64(stretch(kFirstSinMargin)), f64(stretch(kSinCosMargin)));
      mark(sin_unsure, pair, mask_bits(rounds_safely(x.sin, sin_stretch)) & ~is_near_zero);
    });
    // Cosines and sines are where the elements will be.
    const auto place = [](int pair) { return pair + (pair & -8); };
    for (; log_unsure != 0; log_unsure &= log_unsure - 1) {
      const int pair = __builtin_ctzll(log_unsure);
      log_u1[pair] = std::log(u1[pair]);
    }
    for (; cos_unsure != 0; cos_unsure &= cos_unsure - 1) {
      const int pair = __builtin_ctzll(cos_unsure);
      out[place(pair)] = std::cos(theta[pair]);
    }
    for (; sin_unsure != 0; sin_unsure &= sin_unsure - 1) {
      const int pair = __builtin_ctzll(sin_unsure);
      out[place(pair) + 8] = std::sin(theta[pair]);
    }
    for_each_vector([&](int pair, int place_of_cos) {
      const F64 radius = sqrt(f64(-2.0) * load(log_u1 + pair));
      double* const both[] = {out + place_of_cos, out + place_of_cos + 8};
      for (double* x : both) {
        const F64 z = radius * load(x);
        if constexpr (is_fused) {
          store(x, fma(z, std, mean));
        } else {
          store(x, z * std + mean);
        }
      }
    });
  }
}

}  // namespace

void libm_normal_blocks(const Normal& p, bool is_fused, const uint32_t* words, int64_t blocks, double* out) {
  if constexpr (kHasFma) {
    (is_fused ? libm_normal_blocks_as<true> : libm_normal_blocks_as<false>)(p, words, blocks, out);
  }
}

}  // namespace pyinit::PYINIT_NS
