// torch's own numbers: the same operations with the same roundings, in vectors. Compiled once per
// instruction set.
#include "random/torch_kernels.hpp"
#include "random/torch_words.hpp"
#include "simd/math.hpp"
#include "simd/store.hpp"

namespace pyinit::PYINIT_NS {
namespace {

// ---- Words -----------------------------------------------------------------------------------------------

void refresh(uint32_t* words, int64_t count) {
  constexpr int kDistance = 397, kBlock = 624;
  const U32 low_bits = u32(0x7FFFFFFFU), matrix = u32(0x9908B0DFU), zero = u32(0);
  for (int64_t i = 0; i < count; i += kLanes32) {
    const U32 x = load(words + i), next = load(words + i + 1);
    const U32 joined = x ^ ((x ^ next) & low_bits);  // the top bit of x, the rest of next
    const U32 twist = select(sign_bit(shl<31>(next)), matrix, zero);
    store(words + i + kBlock, (load(words + i + kDistance) ^ twist) ^ shr<1>(joined));
  }
}

// make(from, to) for `count` elements in steps of kStep, each from kWords inputs. What is left at the end goes by
// way of buffers of a whole step.
template <int kStep, int kWords = 1, class In, class Out, class Make>
PYINIT_INLINE void in_steps(const In* from, int64_t count, Out* to, Make&& make) {
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) make(from + i * kWords, to + i);
  if (i == count) return;
  In part[kStep * kWords] = {};
  Out made[kStep];
  std::memcpy(part, from + i * kWords, static_cast<size_t>((count - i) * kWords) * sizeof(In));
  make(part, made);
  std::memcpy(static_cast<void*>(to + i), made, static_cast<size_t>(count - i) * sizeof(Out));
}

void temper(const uint32_t* words, int64_t count, uint32_t* out) {
  in_steps<kLanes32>(words, count, out, [](const uint32_t* from, uint32_t* to) { store(to, tempered(from)); });
}

// ---- Uniform ---------------------------------------------------------------------------------------------

template <class T> struct LanesOf {
  using F = F32;
  static constexpr int kCount = kLanes32;
};
template <> struct LanesOf<double> {
  using F = F64;
  static constexpr int kCount = kLanes64;
};

template <class T, bool is_fused>
void uniform_as(const TorchUniform& p, const uint32_t* words, int64_t count, T* out) {
  using L = LanesOf<T>;
  using F = typename L::F;
  constexpr int kWords = sizeof(T) == 8 ? 2 : 1;
  const F low = constant<F>(p.low), width = constant<F>(p.width);
  const F first_high = constant<F>(p.first_high);
  [[maybe_unused]] const F last_high = constant<F>(p.last_high);  // the same but for 16-bit types
  const F instead = constant<F>(p.instead);
  in_steps<L::kCount, kWords>(words, count, out, [&](const uint32_t* from, T* to) {
    F x;
    fraction(from, x);
    if constexpr (is_fused) {
      x = fma(x, width, low);
    } else {
      x = x * width + low;
    }
    if constexpr (sizeof(T) == 2) {
      store_as(to, select(less(x, first_high), x, select(less(last_high, x), x, instead)));
    } else {
      store_as(to, select(equal(x, first_high), instead, x));
    }
  });
}

template <class T> void uniform(const TorchUniform& p, const uint32_t* words, int64_t count, void* out) {
  (p.is_fused ? uniform_as<T, true> : uniform_as<T, false>)(p, words, count, static_cast<T*>(out));
}

// ---- Normal ----------------------------------------------------------------------------------------------

// The logarithm and the sine and cosine of Cephes (Moshier 1989) in single precision, each operation
// rounded where torch's AVX2 code rounds it; exact ones may differ. The logarithm is of k 2^-24, for k in
// [1, 2^24].
PYINIT_INLINE F32 cephes_log(U32 k) {
  // k = 2^(e + 24) (1 + m), with 1 + m in [sqrt(1/2), sqrt(2)).
  const uint32_t origin = 0x3F3504F3U;
  const U32 b = bits(signed_to_f32(k)) - u32(origin + (24U << 23));
  const F32 e = signed_to_f32(sar<23>(b));
  const F32 m = from_bits((b & u32(0x007FFFFFU)) + u32(origin)) - f32(1.0F);
  const F32 z = m * m;
  F32 y = f32(7.0376836292E-2F);
  y = fma(y, m, f32(-1.1514610310E-1F));
  y = fma(y, m, f32(1.1676998740E-1F));
  y = fma(y, m, f32(-1.2420140846E-1F));
  y = fma(y, m, f32(1.4249322787E-1F));
  y = fma(y, m, f32(-1.6668057665E-1F));
  y = fma(y, m, f32(2.0000714765E-1F));
  y = fma(y, m, f32(-2.4999993993E-1F));
  y = fma(y, m, f32(3.3333331174E-1F));
  y = y * m;
  y = fma(y, z, e * f32(-2.12194440E-4F));
  y = fnma(z, f32(0.5F), y);
  return fma(e, f32(0.693359375F), m + y);
}

// Of x in [0, 2 pi].
PYINIT_INLINE SinCos<F32> cephes_sincos(F32 x) {
  const U32 j = (truncate(x * f32(1.27323954473516F)) + u32(1)) & u32(~1U);  // the octant, made even
  const F32 octants = signed_to_f32(j);
  x = fma(octants, f32(-0.78515625F), x);
  x = fma(octants, f32(-2.4187564849853515625E-4F), x);
  x = fma(octants, f32(-3.77489497744594108E-8F), x);
  const F32 z = x * x;
  F32 c = fma(f32(2.443315711809948E-5F), z, f32(-1.388731625493765E-3F));
  c = fma(c, z, f32(4.166664568298827E-2F));
  c = c * z;
  c = fma(c, z, z * f32(-0.5F)) + f32(1.0F);
  F32 s = fma(f32(-1.9515295891E-4F), z, f32(8.3321608736E-3F));
  s = fma(s, z, f32(-1.6666654611E-1F));
  s = s * z;
  s = fma(s, x, x);
  const M32 is_swapped = sign_bit(shl<30>(j));
  const F32 sin_sign = from_bits(shl<29>(j)), cos_sign = from_bits(shl<29>(j + u32(2)));
  return {flip_sign(select(is_swapped, c, s), sin_sign), flip_sign(select(is_swapped, s, c), cos_sign)};
}

// Vectors of words (or elements) at p and q, which hold the first and the second halves of blocks. With
// lanes for two blocks, p and q come as whole blocks and their halves change places.
constexpr int kBlocks = kLanes32 > 8 ? kLanes32 / 8 : 1;
constexpr int kDistance = kLanes32 > 8 ? kLanes32 : 8;
template <class F> PYINIT_INLINE void pair_halves(F& a, F& b) {
  if constexpr (kBlocks == 2) exchange_halves(a, b);
}

void normal_blocks(const Normal& p, const uint32_t* words, int64_t blocks, float* out) {
  const F32 mean = constant<F32>(p.mean), std = constant<F32>(p.std);
  in_steps<16 * kBlocks>(words, 16 * blocks, out, [&](const uint32_t* from, float* to) {
    for (int v = 0; v < kDistance; v += kLanes32) {
      U32 a = tempered(from + v) & u32(0xFFFFFFU), b = tempered(from + v + kDistance) & u32(0xFFFFFFU);
      pair_halves(a, b);
      const F32 radius = sqrt(cephes_log(u32(1U << 24) - a) * f32(-2.0F));
      const SinCos<F32> angle = cephes_sincos(signed_to_f32(b) * f32(0x1.921FB6p-22F));  // 2 pi 2^-24
      F32 x = fma(radius * angle.cos, std, mean), y = fma(radius * angle.sin, std, mean);
      pair_halves(x, y);
      store(to + v, x);
      store(to + v + kDistance, y);
    }
  });
}

// ---- Bounds ----------------------------------------------------------------------------------------------

template <class T> unsigned outside_bits(const T* x, T low, T high) {
  using L = LanesOf<T>;
  using F = typename L::F;
  const F first = constant<F>(low), last = constant<F>(high);
  unsigned bits = 0;
  for (int j = 0; j < 16; j += L::kCount) {
    const F at = load(x + j);
    bits |= (mask_bits(less(at, first)) | mask_bits(less(last, at))) << j;
  }
  return bits;
}

// 16-bit floats by their bit patterns: as signed numbers these order the positive ones; the others count
// down from there.
PYINIT_INLINE int order(uint16_t x) {
  const auto bits = static_cast<int16_t>(x);
  return bits ^ ((bits >> 15) & 0x7FFF);
}

template <class T>
int64_t mark_outside(const void* elements, int64_t blocks, double low, double high, uint16_t* marks) {
  const T* x = static_cast<const T*>(elements);
  int64_t marked = 0;
  const auto mark = [&](auto&& outside) {
    for (int64_t i = 0; i < blocks; ++i) {
      const unsigned bits = outside(x + 16 * i);
      marks[i] = static_cast<uint16_t>(bits);
      marked += bits != 0;
    }
  };
  if constexpr (sizeof(T) == 2) {
    // A zero bound is the zero farther out.
    const float bounds[kLanes32] = {low == 0 ? -0.0F : static_cast<float>(low),
                                    high == 0 ? 0.0F : static_cast<float>(high)};
    T rounded[kLanes32];
    store_as(rounded, load(bounds));
    const int first = order(rounded[0].bits), last = order(rounded[1].bits);
    mark([&](const T* block) {
      unsigned bits = 0;
      for (unsigned j = 0; j < 16; ++j) {
        const auto number = order(block[j].bits);
        bits |= (static_cast<unsigned>(number < first) | static_cast<unsigned>(number > last)) << j;
      }
      return bits;
    });
  } else {
    mark([&](const T* block) { return outside_bits(block, static_cast<T>(low), static_cast<T>(high)); });
  }
  return marked;
}

template <class T> void narrow(const float* x, int64_t count, void* out) {
  in_steps<kLanes32>(x, count, static_cast<T*>(out), [](const float* from, T* to) { store_as(to, load(from)); });
}

}  // namespace

const TorchKernels torch_kernels = {
    refresh,
    temper,
    {uniform<Half>, uniform<BFloat16>, uniform<float>, uniform<double>},
    normal_blocks,
    kHasFma ? libm_normal_blocks : nullptr,
    {mark_outside<Half>, mark_outside<BFloat16>, mark_outside<float>, mark_outside<double>},
    {narrow<Half>, narrow<BFloat16>, nullptr, nullptr},
};

}  // namespace pyinit::PYINIT_NS
