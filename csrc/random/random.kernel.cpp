// Random variates from Philox words. Compiled once per instruction set.
#include "random/kernels.hpp"
#include "simd/math.hpp"
#include "simd/store.hpp"

namespace pyinit::PYINIT_NS {
namespace {

// ---- Words ---------------------------------------------------------------------------------------

// Vectors of blocks that go through the rounds side by side: a round waits for its multiplications, and
// the other chains fill the wait.
constexpr int kChains = 4;

// The words of consecutive Philox blocks, one counter a 64-bit lane. Round keys stay in memory.
class Words {
 public:
  explicit Words(const Stream& s) : c2_(u64(s.id & 0xFFFFFFFFU)), c3_(u64(s.id >> 32)) {
    uint32_t k0 = static_cast<uint32_t>(s.key), k1 = static_cast<uint32_t>(s.key >> 32);
    for (int r = 0; r < philox::kRounds; ++r) {
      keys_[r][0] = u64(k0);
      keys_[r][1] = u64(k1);
      k0 += philox::kWeyl0;
      k1 += philox::kWeyl1;
    }
  }

  // Lane i of w[g][j] is word j of block `first` + g kLanes32 + i.
  [[gnu::always_inline]] inline void draw(uint64_t first, U32 (&w)[kChains / 2][4]) const {
    U64 x[4][kChains];
    for (int c = 0; c < kChains; ++c) {
      x[0][c] = u64(first + static_cast<uint64_t>(c / 2 * kLanes32 + c % 2)) + shl<1>(iota64());
    }
    rounds(x);
    for (int g = 0; g < kChains / 2; ++g) {
      for (int j = 0; j < 4; ++j) w[g][j] = weave(x[j][2 * g], x[j][2 * g + 1]);
    }
  }
  // Lane i of w[g][j] is words 2j and 2j + 1 of block `first` + g kLanes64 + i, the first one low.
  [[gnu::always_inline]] inline void draw(uint64_t first, U64 (&w)[kChains][2]) const {
    U64 x[4][kChains];
    for (int c = 0; c < kChains; ++c) x[0][c] = u64(first + static_cast<uint64_t>(c * kLanes64)) + iota64();
    rounds(x);
    for (int g = 0; g < kChains; ++g) {
      for (int j = 0; j < 2; ++j) w[g][j] = (x[2 * j][g] & u64(0xFFFFFFFFU)) | shl<32>(x[2 * j + 1][g]);
    }
  }

 private:
  // From the counters in x[0] to the words in x[0] .. x[3]. Only the low half of each lane counts; the
  // high half holds what a round leaves there.
  [[gnu::always_inline]] inline void rounds(U64 (&x)[4][kChains]) const {
    const U64 m0 = u64(philox::kMultiplier0), m1 = u64(philox::kMultiplier1);
    for (int c = 0; c < kChains; ++c) {
      x[1][c] = shr<32>(x[0][c]);
      x[2][c] = c2_;
      x[3][c] = c3_;
    }
#pragma GCC unroll 10
    for (int r = 0; r < philox::kRounds; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kChains; ++c) {
        const U64 p0 = mul_low(x[0][c], m0), p1 = mul_low(x[2][c], m1);
        x[0][c] = xor3(shr<32>(p1), x[1][c], keys_[r][0]);
        x[2][c] = xor3(shr<32>(p0), x[3][c], keys_[r][1]);
        x[1][c] = p1;
        x[3][c] = p0;
      }
    }
  }

  U64 c2_, c3_;
  U64 keys_[philox::kRounds][2];
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
template <> constexpr uint64_t kTopBit<U32> = 0x80000000U;
template <> constexpr uint64_t kTopBit<U64> = 0x8000000000000000U;

// ---- Distributions: from vectors of words to vectors of values, element by element ---------------------

template <class Scalar> struct UniformKernel {
  using F = typename Lanes<Scalar>::F;
  using U = typename Lanes<Scalar>::U;
  static constexpr int kVectors = Lanes<Scalar>::kVectors;
  F low, scale, top;
  explicit UniformKernel(const Uniform& p)
      : low(constant<F>(p.low)), scale(constant<F>(p.scale)), top(constant<F>(p.top)) {}
  [[gnu::always_inline]] void operator()(const U (&w)[kVectors], F (&x)[kVectors]) const {
    for (int j = 0; j < kVectors; ++j) x[j] = min(fma(fraction_steps(w[j]), scale, low), top);
  }
};

// Box and Muller 1958: each pair of words makes a pair of normals, radius from the first word, angle
// from the second.
template <class Scalar> struct NormalKernel {
  using F = typename Lanes<Scalar>::F;
  using U = typename Lanes<Scalar>::U;
  static constexpr int kVectors = Lanes<Scalar>::kVectors;
  F mean, std;
  explicit NormalKernel(const Normal& p) : mean(constant<F>(p.mean)), std(constant<F>(p.std)) {}
  [[gnu::always_inline]] void operator()(const U (&w)[kVectors], F (&x)[kVectors]) const {
    constexpr double kStep = Lanes<Scalar>::kStep;
    for (int j = 0; j < kVectors; j += 2) {
      const F u = fma(steps(w[j]), constant<F>(kStep), constant<F>(kStep / 2));
      const F radius = sqrt(log(u) * constant<F>(-2.0));
      const SinCos<F> angle = sincos_turn(w[j + 1]);
      x[j] = fma(radius * angle.cos, std, mean);
      x[j + 1] = fma(radius * angle.sin, std, mean);
    }
  }
};

template <class Scalar> struct TruncNormalKernel {
  using F = typename Lanes<Scalar>::F;
  using U = typename Lanes<Scalar>::U;
  static constexpr int kVectors = Lanes<Scalar>::kVectors;
  F low, high, mean, scale, mass, double_mass, base_lower, base_upper, centre_lower, centre_upper;
  U flip, last_lower, top_bit;
  explicit TruncNormalKernel(const TruncNormal& p)
      : low(constant<F>(p.low)),
        high(constant<F>(p.high)),
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
  [[gnu::always_inline]] void operator()(const U (&w)[kVectors], F (&x)[kVectors]) const {
    F q[kVectors], v[kVectors], z[kVectors], signed_scale[kVectors];
    for (int j = 0; j < kVectors; ++j) {
      const U r = w[j] ^ flip;
      const auto is_upper = signed_greater(r ^ top_bit, last_lower);
      const F k = steps(select(is_upper, r ^ word<U>(~uint64_t{0}), r));
      q[j] = fma(k, mass, select(is_upper, base_upper, base_lower));
      v[j] = fma(k, double_mass, select(is_upper, centre_upper, centre_lower));
      signed_scale[j] = select(is_upper, negate(scale), scale);
    }
    normal_quantile(v, q, z);
    for (int j = 0; j < kVectors; ++j) x[j] = max(min(fma(z[j], signed_scale[j], mean), high), low);
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
  F low, high, near_end, scale, mass, rest, distance, series_at_distance;
  U flip;
  explicit NormalTailKernel(const NormalTail& p)
      : low(constant<F>(p.low)),
        high(constant<F>(p.high)),
        near_end(constant<F>(p.near_end)),
        scale(constant<F>(p.scale)),
        mass(constant<F>(p.mass)),
        rest(constant<F>(p.rest)),
        distance(constant<F>(p.distance)),
        series_at_distance(series(distance)),
        flip(word<U>(p.flip)) {}
  [[gnu::always_inline]] void operator()(const U (&w)[kVectors], F (&x)[kVectors]) const {
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
      x[j] = max(min(fma(max(delta, constant<F>(0.0)), negate(scale), near_end), high), low);
    }
  }

 private:
  [[gnu::always_inline]] static F series(F x) {
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
  explicit BernoulliKernel(const Bernoulli& p)
      : threshold(word<U>(p.threshold ^ kTopBit<U>)), top_bit(word<U>(kTopBit<U>)) {}
  [[gnu::always_inline]] void operator()(const U (&w)[kVectors], F (&x)[kVectors]) const {
    for (int j = 0; j < kVectors; ++j) {
      x[j] = select(signed_greater(threshold, w[j] ^ top_bit), constant<F>(1.0), constant<F>(0.0));
    }
  }
};

template <class Scalar> struct RawWordsKernel {
  explicit RawWordsKernel(const RawWords&) {}
  [[gnu::always_inline]] void operator()(const U32 (&w)[4], F32 (&x)[4]) const {
    for (int j = 0; j < 4; ++j) x[j] = from_bits(w[j]);
  }
};

// ---- From blocks to memory --------------------------------------------------------------------------------

template <class T> struct ScalarOf {
  using Type = float;
};
template <> struct ScalarOf<double> {
  using Type = double;
};

template <template <class> class Kernel, class Params, class T>
void generate(const Params& params, const Stream& stream, uint64_t first, int64_t count, void* destination) {
  using Scalar = typename ScalarOf<T>::Type;
  using L = Lanes<Scalar>;
  using F = typename L::F;
  constexpr int kBlockElements = L::kVectors;                  // a block holds one element of each vector
  constexpr int kDraw = L::kVectors * L::kCount * L::kGroups;  // elements of one draw
  const Kernel<Scalar> kernel(params);
  const Words words(stream);
  T* out = static_cast<T*>(destination);

  uint64_t block = first / kBlockElements;
  int64_t skip = static_cast<int64_t>(first % kBlockElements);
  T part[kDraw];  // for draws that begin before `first` or end after the last element
  while (count > 0) {
    const bool is_whole = skip == 0 && count >= kDraw;
    T* to = is_whole ? out : part;
    typename L::U w[L::kGroups][L::kVectors];
    words.draw(block, w);
#pragma GCC unroll 4
    for (int g = 0; g < L::kGroups; ++g) {
      F x[L::kVectors];
      kernel(w[g], x);
      if constexpr (L::kVectors == 4) {
        interleave(x[0], x[1], x[2], x[3]);
      } else {
        interleave(x[0], x[1]);
      }
      for (int j = 0; j < L::kVectors; ++j, to += L::kCount) store_as(to, x[j]);
    }
    const int64_t n = count < kDraw - skip ? count : kDraw - skip;
    if (!is_whole) std::memcpy(out, part + skip, static_cast<size_t>(n) * sizeof(T));
    out += n;
    count -= n;
    block += static_cast<uint64_t>(L::kCount * L::kGroups);
    skip = 0;
  }
}

void select_step(const uint32_t* words, uint32_t left, uint32_t* remaining, uint32_t* chosen, int64_t count) {
  const U64 n = u64(left);
  const U32 ones = u32(~0U), zeros = u32(0);
  for (int64_t j = 0; j < count; j += kLanes32) {
    const U32 w = load(words + j), r = load(remaining + j);
    // floor(w left / 2^32) < remaining; both are below 2^31.
    const U32 scaled = weave(shr<32>(mul_low(even_lanes(w), n)), shr<32>(mul_low(odd_lanes(w), n)));
    const U32 is_chosen = select(signed_greater(r, scaled), ones, zeros);
    store(chosen + j, is_chosen);
    store(remaining + j, r + is_chosen);
  }
}

void repeat(uint64_t pattern, void* out, int64_t count) {
  auto* to = static_cast<uint32_t*>(out);
  const U32 x = as_u32(u64(pattern));
  int64_t i = 0;
  for (; i + kLanes64 <= count; i += kLanes64) store(to + 2 * i, x);
  for (; i < count; ++i) std::memcpy(to + 2 * i, &pattern, sizeof pattern);
}

#define PYINIT_PER_DTYPE(Kernel, Params)                                                                \
  {generate<Kernel, Params, Half>, generate<Kernel, Params, BFloat16>, generate<Kernel, Params, float>, \
   generate<Kernel, Params, double>}

}  // namespace

const RandomKernels random_kernels = {
    PYINIT_PER_DTYPE(UniformKernel, Uniform),
    PYINIT_PER_DTYPE(NormalKernel, Normal),
    PYINIT_PER_DTYPE(TruncNormalKernel, TruncNormal),
    PYINIT_PER_DTYPE(NormalTailKernel, NormalTail),
    PYINIT_PER_DTYPE(BernoulliKernel, Bernoulli),
    generate<RawWordsKernel, RawWords, float>,
    select_step,
    repeat,
};

}  // namespace pyinit::PYINIT_NS
