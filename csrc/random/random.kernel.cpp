// Random variates from Philox words. Compiled once per instruction set.
#include "random/kernels.hpp"
#include "random/values.hpp"
#include "simd/math.hpp"
#include "simd/store.hpp"

namespace pyinit::PYINIT_NS {
namespace {

// ---- Words ---------------------------------------------------------------------------------------

// The words of Philox blocks, one counter a 64-bit lane. Round keys stay in memory.
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
      for (int j = 0; j < 2; ++j) w[g][j] = joined(x[2 * j][g], x[2 * j + 1][g]);
    }
  }

  // The further words of elements `first` + at[0], `first` + at[1], ...
  [[gnu::always_inline]] inline void draw_further(uint64_t first, const uint32_t* at, U32* w) const {
    U64 index[kChains], x[4][kChains];
    for (int g = 0; g < kChains / 2; ++g) {
      const U32 places = load(at + g * kLanes32);
      index[2 * g] = (even_lanes(places) & u64(0xFFFFFFFFU)) + u64(first);
      index[2 * g + 1] = (odd_lanes(places) & u64(0xFFFFFFFFU)) + u64(first);
    }
    for (int c = 0; c < kChains; ++c) x[0][c] = shr<2>(index[c]) | u64(kFurther);
    rounds(x);
    for (int c = 0; c < kChains; ++c) {
      const M64 is_odd = sign_bit(shl<63>(index[c])), is_high = sign_bit(shl<62>(index[c]));
      x[0][c] = select(is_high, select(is_odd, x[3][c], x[2][c]), select(is_odd, x[1][c], x[0][c]));
    }
    for (int g = 0; g < kChains / 2; ++g) w[g] = weave(x[0][2 * g], x[0][2 * g + 1]);
  }
  [[gnu::always_inline]] inline void draw_further(uint64_t first, const uint64_t* at, U64* w) const {
    U64 index[kChains], x[4][kChains];
    for (int c = 0; c < kChains; ++c) {
      index[c] = load(at + c * kLanes64) + u64(first);
      x[0][c] = shr<1>(index[c]) | u64(kFurther);
    }
    rounds(x);
    for (int c = 0; c < kChains; ++c) {
      const M64 is_odd = sign_bit(shl<63>(index[c]));
      w[c] = joined(select(is_odd, x[2][c], x[0][c]), select(is_odd, x[3][c], x[1][c]));
    }
  }

 private:
  PYINIT_METHOD static U64 joined(U64 low, U64 high) { return (low & u64(0xFFFFFFFFU)) | shl<32>(high); }

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

#if defined(PYINIT_NS_baseline)
// Emulated multiply-adds fill the machine as they are, and their code is long.
#define PYINIT_UNROLL_GROUPS _Pragma("GCC unroll 1")
#else
#define PYINIT_UNROLL_GROUPS _Pragma("GCC unroll 4")
#endif

// ---- From blocks to memory --------------------------------------------------------------------------------

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
    PYINIT_UNROLL_GROUPS
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

// ---- Normals, some of them drawn anew ---------------------------------------------------------------------

// Elements whose normals lie outside, drawn anew as soon as they fill vectors.
template <class T> class Outside {
  using Scalar = typename ScalarOf<T>::Type;
  using L = Lanes<Scalar>;

 public:
  Outside(const TruncNormalKernel<Scalar>& kernel, const Stream& stream, uint64_t first, T* out)
      : kernel_(kernel), words_(stream), first_(first), out_(out) {}

  // Elements `from`, `from` + 1, ... where bits are set.
  void add(uint64_t bits, int64_t from) {
    const int n = __builtin_popcountll(bits);
    Place* const to = at_ + count_;
    int i = 0;
    const auto take = [&](int several) {
      for (const int end = i + several; i < end; ++i) {
        to[i] = static_cast<Place>(from + __builtin_ctzll(bits | kTopBit<U64>));
        bits &= bits - 1;
      }
    };
    // Some more than there are: it takes less time than to guess wrongly how many there are.
    take(4);
    if (n > 4) take(4);
    while (i < n) take(1);
    count_ += n;
    while (count_ >= kTogether) redraw(kTogether);
  }
  // Those that are left.
  void finish() {
    if (count_ > 0) redraw(count_);
  }

 private:
  using Place = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  static constexpr int kDraws = 2;  // side by side
  static constexpr int kVectors = kDraws * L::kGroups, kTogether = L::kCount * kVectors;

  void redraw(int count) {
    typename L::U w[kVectors];
    typename L::F x[kVectors];
    T values[kTogether];
    for (int d = 0; d < kDraws; ++d) {
      words_.draw_further(first_, at_ + d * L::kGroups * L::kCount, w + d * L::kGroups);
    }
    kernel_(w, x);
    for (int g = 0; g < kVectors; ++g) store_as(values + g * L::kCount, x[g]);
    for (int i = 0; i < count; ++i) out_[at_[i]] = values[i];
    count_ -= count;
    for (int i = 0; i < count_; ++i) at_[i] = at_[kTogether + i];
  }

  const TruncNormalKernel<Scalar> kernel_;
  const Words words_;
  const uint64_t first_;
  T* const out_;
  int count_ = 0;
  Place at_[kTogether + 64 + 8] = {};
};

template <class T>
void generate_redrawn(const RedrawnNormal& params, const Stream& stream, uint64_t first, int64_t count,
                      void* destination) {
  using Scalar = typename ScalarOf<T>::Type;
  using L = Lanes<Scalar>;
  constexpr int64_t kTile = 1024, kWord = 64, kPlaces = int64_t{1} << 31;
  T* out = static_cast<T*>(destination);
  if (count > kPlaces) {
    generate_redrawn<T>(params, stream, first, kPlaces, out);
    return generate_redrawn<T>(params, stream, first + kPlaces, count - kPlaces, out + kPlaces);
  }
  const RedrawnNormalKernel<Scalar> kernel(params);
  Outside<T> outside(kernel.outside, stream, first, out);
  Scalar z[kTile];
  // A word of elements from z[i] on to `to`; bits say which are outside.
  const auto keep = [&](int64_t i, T* to) {
    uint64_t bits = 0;
    for (int64_t j = 0; j < kWord; j += L::kCount) {
      const typename L::F normals = load(z + i + j);
      bits |= uint64_t{mask_bits(less(normals, kernel.least)) | mask_bits(less(kernel.most, normals))} << j;
      store_as(to + j, kernel(normals));
    }
    return bits;
  };
  for (int64_t begin = 0; begin < count;) {
    // All tiles but the first one begin with a block.
    const int64_t whole = kTile - static_cast<int64_t>((first + static_cast<uint64_t>(begin)) % L::kVectors);
    const int64_t n = count - begin < whole ? count - begin : whole;
    generate<NormalKernel, Normal, Scalar>({0, 1}, stream, first + static_cast<uint64_t>(begin), n, z);
    for (int64_t i = 0; i < n; i += kWord) {
      const int64_t left = n - i;
      uint64_t bits;
      if (left >= kWord) {
        bits = keep(i, out + begin + i);
      } else {
        std::memset(z + n, 0, static_cast<size_t>(kWord - left) * sizeof(Scalar));
        T part[kWord];
        bits = keep(i, part);
        std::memcpy(out + begin + i, part, static_cast<size_t>(left) * sizeof(T));
      }
      if (bits != 0) outside.add(bits, begin + i);
    }
    begin += n;
  }
  outside.finish();
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
    {generate_redrawn<Half>, generate_redrawn<BFloat16>, generate_redrawn<float>, generate_redrawn<double>},
    PYINIT_PER_DTYPE(TruncNormalKernel, TruncNormal),
    PYINIT_PER_DTYPE(NormalTailKernel, NormalTail),
    PYINIT_PER_DTYPE(BernoulliKernel, Bernoulli),
    generate<RawWordsKernel, RawWords, float>,
    select_step,
    repeat,
};

}  // namespace pyinit::PYINIT_NS
