// From words to memory: a kernel (random/values.hpp) on the blocks of a stream. Compiled once per instruction set.
#pragma once

#include <cstring>

#include "random/kernels.hpp"
#include "random/values.hpp"
#include "simd/math.hpp"
#include "simd/store.hpp"

namespace pyinit::PYINIT_NS {

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
  if constexpr (requires { params.first_block; }) block += params.first_block;
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

#define PYINIT_PER_DTYPE(Kernel, Params)                                                                \
  {generate<Kernel, Params, Half>, generate<Kernel, Params, BFloat16>, generate<Kernel, Params, float>, \
   generate<Kernel, Params, double>}

}  // namespace pyinit::PYINIT_NS
