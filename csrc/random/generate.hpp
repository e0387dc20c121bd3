// From words to memory: a kernel (random/values.hpp) on the blocks of a stream. Compiled once per instruction set.
#pragma once

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

// Where the counter of a draw's block i stands. With words of 32 bits each two chains have the even and the odd blocks.
template <class Scalar> constexpr int place_of(int i) {
  return sizeof(Scalar) == 8 ? i : (i / kLanes32 * 2 + i % 2) * kLanes64 + i % kLanes32 / 2;
}

// Those of the blocks from `first` on.
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
  static constexpr int kListed = 64;  // blocks that are listed at a time, a number of draws
  static constexpr int64_t kLongRow = 8 * kDraw;

 public:
  Elements(const Kernel& kernel, const Stream& stream, uint64_t first_block)
      : kernel_(kernel), words_(stream), first_block_(first_block) {}

  void write(const Rows& rows, T* out) const {
    if (rows.rows > 1 && rows.columns < kLongRow) return write_short(rows, out);
    for (int64_t r = 0; r < rows.rows; ++r) {
      write_run(rows.first + static_cast<uint64_t>(r * rows.step), rows.columns, out + r * rows.columns);
    }
  }

 private:
  // The elements of a draw's blocks, side by side.
  [[gnu::noinline]] void draw(const Counters& at, T* to) const {
    typename L::U w[L::kGroups][L::kVectors];
    words_.draw(at, w);
    PYINIT_UNROLL_GROUPS
    for (int g = 0; g < L::kGroups; ++g) {
      typename L::F x[L::kVectors];
      kernel_(w[g], x);
      if constexpr (L::kVectors == 4) {
        interleave(x[0], x[1], x[2], x[3]);
      } else {
        interleave(x[0], x[1]);
      }
      for (int j = 0; j < L::kVectors; ++j, to += L::kCount) store_as(to, x[j]);
    }
  }

  void write_run(uint64_t first, int64_t count, T* out) const {
    uint64_t block = first_block_ + first / kPerBlock;
    int64_t skip = static_cast<int64_t>(first % kPerBlock);
    T part[kDraw];  // for draws that begin before `first` or end after the last element
    while (count > 0) {
      const bool is_whole = skip == 0 && count >= kDraw;
      draw(consecutive<Scalar>(block), is_whole ? out : part);
      const int64_t n = count < kDraw - skip ? count : kDraw - skip;
      if (!is_whole) std::memcpy(out, part + skip, static_cast<size_t>(n) * sizeof(T));
      out += n;
      count -= n;
      block += kBlocks;
      skip = 0;
    }
  }

  // Rows that would leave much of a draw unused: the blocks of several go into one.
  void write_short(const Rows& rows, T* out) const {
    struct Run {
      int from, count;
    };
    alignas(64) uint64_t counters[kListed] = {};
    T values[kListed * kPerBlock];
    Run runs[kListed];
    uint64_t index = rows.first;
    int64_t left = rows.columns;  // of the row at hand
    for (int64_t row = 0; row < rows.rows;) {
      int blocks = 0, found = 0;
      while (blocks < kListed && row < rows.rows) {
        const int skip = static_cast<int>(index % kPerBlock), room = (kListed - blocks) * kPerBlock - skip;
        const int count = left < room ? static_cast<int>(left) : room;
        runs[found++] = {blocks * kPerBlock + skip, count};
        const uint64_t first = first_block_ + index / kPerBlock;
        const int end = blocks + (skip + count + kPerBlock - 1) / kPerBlock;
        for (uint64_t b = first; blocks < end; ++b, ++blocks) {
          counters[blocks / kBlocks * kBlocks + place_of<Scalar>(blocks % kBlocks)] = b;
        }
        index += static_cast<uint64_t>(count);
        left -= count;
        if (left == 0) {
          ++row;
          index = rows.first + static_cast<uint64_t>(row * rows.step);
          left = rows.columns;
        }
      }
      for (int b = 0; b < blocks; b += kBlocks) {
        Counters at;
        for (int c = 0; c < kChains; ++c) at.x[c] = load(counters + b + c * kLanes64);
        draw(at, values + b * kPerBlock);
      }
      for (int r = 0; r < found; ++r) {
        copy(values + runs[r].from, runs[r].count, out);
        out += runs[r].count;
      }
    }
  }

  static void copy(const T* from, int count, T* to) {
    for (; count >= kPerBlock; count -= kPerBlock, from += kPerBlock, to += kPerBlock) {
      std::memcpy(to, from, kPerBlock * sizeof(T));
    }
    for (; count > 0; --count) *to++ = *from++;
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
