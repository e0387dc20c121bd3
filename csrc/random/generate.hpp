// From words to memory: a kernel (random/values.hpp) on the blocks of a stream. Compiled once per instruction set.
#pragma once

#include <algorithm>
#include <cstring>

#include "random/kernels.hpp"
#include "random/values.hpp"
#include "simd/math.hpp"
#include "simd/store.hpp"

namespace pyinit::PYINIT_NS {

// ---- Words ---------------------------------------------------------------------------------------

// The Philox blocks of a draw, one counter a 64-bit lane.
struct Counters {
  U64 x[kChains];
};

// Those of the blocks from `first` on. With words of 32 bits each two chains have the even and the odd blocks.
template <class Scalar> PYINIT_INLINE Counters consecutive(uint64_t first) {
  Counters at;
  for (int c = 0; c < kChains; ++c) {
    if constexpr (sizeof(Scalar) == 8) {
      at.x[c] = u64(first + static_cast<uint64_t>(c * kLanes64)) + iota64();
    } else {
      at.x[c] = u64(first + static_cast<uint64_t>(c / 2 * kLanes32 + c % 2)) + shl<1>(iota64());
    }
  }
  return at;
}

// Those of any blocks.
template <class Scalar> PYINIT_INLINE Counters listed(const uint64_t* blocks) {
  Counters at;
  for (int c = 0; c < kChains; ++c) {
    if constexpr (sizeof(Scalar) == 8) {
      at.x[c] = load(blocks + c * kLanes64);
    } else {
      alignas(64) uint64_t of_chain[kLanes64];
      for (int i = 0; i < kLanes64; ++i) of_chain[i] = blocks[c / 2 * kLanes32 + c % 2 + 2 * i];
      at.x[c] = load(of_chain);
    }
  }
  return at;
}

// The words of Philox blocks. Round keys stay in memory.
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

  // Lane i of w[g][j] is word j of block g kLanes32 + i.
  [[gnu::always_inline]] inline void draw(const Counters& at, U32 (&w)[kChains / 2][4]) const {
    U64 x[4][kChains];
    rounds(at, x);
    for (int g = 0; g < kChains / 2; ++g) {
      for (int j = 0; j < 4; ++j) w[g][j] = weave(x[j][2 * g], x[j][2 * g + 1]);
    }
  }
  // Lane i of w[g][j] is words 2j and 2j + 1 of block g kLanes64 + i, the first one low.
  [[gnu::always_inline]] inline void draw(const Counters& at, U64 (&w)[kChains][2]) const {
    U64 x[4][kChains];
    rounds(at, x);
    for (int g = 0; g < kChains; ++g) {
      for (int j = 0; j < 2; ++j) w[g][j] = (x[2 * j][g] & u64(0xFFFFFFFFU)) | shl<32>(x[2 * j + 1][g]);
    }
  }

 private:
  // From the counters to the words in x[0] .. x[3]. Only the low half of each lane counts; the high half holds what a
  // round leaves there.
  [[gnu::always_inline]] inline void rounds(const Counters& at, U64 (&x)[4][kChains]) const {
    const U64 m0 = u64(philox::kMultiplier0), m1 = u64(philox::kMultiplier1);
    for (int c = 0; c < kChains; ++c) {
      x[0][c] = at.x[c];
      x[1][c] = shr<32>(at.x[c]);
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

// A kernel's elements of type T, of one stream.
template <class Kernel, class Scalar, class T> class Elements {
  using L = Lanes<Scalar>;
  static constexpr int kPerBlock = L::kVectors;  // a block holds one element of each vector
  static constexpr int kBlocks = L::kCount * L::kGroups;
  static constexpr int kDraw = kPerBlock * kBlocks;
  static constexpr int kShort = 2 * kPerBlock;  // elements that are copied as one

 public:
  Elements(const Kernel& kernel, const Stream& stream, uint64_t first_block)
      : kernel_(kernel), words_(stream), first_block_(first_block) {}

  void write(const Rows& rows, T* out) const {
    Place at{rows.first, rows.columns, 0};
    T* const end = out + rows.rows * rows.columns;
    while (out != end) {
      if (at.index % kPerBlock != 0 || at.left < kDraw) {
        out = write_ends(at, rows, out, end);
        continue;
      }
      const int64_t draws = at.left / kDraw, count = draws * kDraw;
      draw(consecutive<Scalar>(first_block_ + at.index / kPerBlock), draws, out);
      out += count;
      at.advance(count, rows);
    }
  }

 private:
  // Where a walk along rows is.
  struct Place {
    uint64_t index;
    int64_t left, row;  // elements that the row has from here on, and its number
    PYINIT_METHOD void advance(int64_t count, const Rows& rows) {
      index += static_cast<uint64_t>(count);
      left -= count;
      if (left == 0) {
        ++row;
        index = rows.first + static_cast<uint64_t>(row * rows.step);
        left = rows.columns;
      }
    }
  };

  // The elements of so many draws, side by side: of these blocks, and of those as far on again each time.
  [[gnu::noinline]] void draw(const Counters& first, int64_t draws, T* to) const {
    const Kernel kernel = kernel_;  // which no store can change
    for (Counters at = first; draws > 0; --draws) {
      typename L::U w[L::kGroups][L::kVectors];
      words_.draw(at, w);
      PYINIT_UNROLL_GROUPS
      for (int g = 0; g < L::kGroups; ++g) {
        typename L::F x[L::kVectors];
        kernel(w[g], x);
        if constexpr (L::kVectors == 4) {
          interleave(x[0], x[1], x[2], x[3]);
        } else {
          interleave(x[0], x[1]);
        }
        for (int j = 0; j < L::kVectors; ++j, to += L::kCount) store_as(to, x[j]);
      }
      for (U64& x : at.x) x = x + u64(kBlocks);
    }
  }

  // Makes one draw of blocks of which not all elements are asked for, such as those at the ends of rows: of several
  // rows, if they are short. Returns where the elements behind go.
  T* write_ends(Place& at, const Rows& rows, T* out, const T* end) const {
    struct Run {
      int from, count;
    };
    alignas(64) uint64_t blocks[kBlocks + kLanes64] = {};
    T values[kDraw + kShort];
    Run runs[kBlocks];
    int n = 0, found = 0;
    for (int64_t room = end - out; n < kBlocks && room > 0; ++found) {
      const int skip = static_cast<int>(at.index % kPerBlock);
      const int count = static_cast<int>(std::min<int64_t>(at.left, (kBlocks - n) * kPerBlock - skip));
      const int more = (skip + count + kPerBlock - 1) / kPerBlock;
      const uint64_t first = first_block_ + at.index / kPerBlock;
      // Whole vectors: the next run's blocks go over the rest.
      for (int b = 0; b < more; b += kLanes64) {
        store(blocks + n + b, u64(first + static_cast<uint64_t>(b)) + iota64());
      }
      runs[found] = {n * kPerBlock + skip, count};
      n += more;
      room -= count;
      at.advance(count, rows);
    }
    draw(listed<Scalar>(blocks), 1, values);
    for (int r = 0; r < found; ++r) {
      const auto [from, count] = runs[r];
      if (count <= kShort && end - out >= kShort) {
        std::memcpy(out, values + from, kShort * sizeof(T));  // the next run goes over the rest
      } else {
        std::memcpy(out, values + from, static_cast<size_t>(count) * sizeof(T));
      }
      out += count;
    }
    return out;
  }

  const Kernel kernel_;
  const Words words_;
  const uint64_t first_block_;
};

template <template <class> class Kernel, class Params, class T>
void generate(const Params& params, const Stream& stream, const Rows& rows, void* out) {
  using Scalar = typename ScalarOf<T>::Type;
  uint64_t first_block = 0;
  if constexpr (requires { params.first_block; }) first_block = params.first_block;
  const Elements<Kernel<Scalar>, Scalar, T> elements(Kernel<Scalar>(params), stream, first_block);
  elements.write(rows, static_cast<T*>(out));
}

#define PYINIT_PER_DTYPE(Kernel, Params)                                                                \
  {generate<Kernel, Params, Half>, generate<Kernel, Params, BFloat16>, generate<Kernel, Params, float>, \
   generate<Kernel, Params, double>}

}  // namespace pyinit::PYINIT_NS
