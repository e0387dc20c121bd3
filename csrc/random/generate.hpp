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

// The counters of the Philox blocks of a draw, one a 64-bit lane: those of the blocks from `first` on. With words of 32
// bits each two chains have the even and the odd blocks.
template <class Scalar> struct Consecutive {
  uint64_t first;
  PYINIT_METHOD U64 chain(int c) const {
    if constexpr (sizeof(Scalar) == 8) {
      return u64(first + static_cast<uint64_t>(c * kLanes64)) + iota64();
    } else {
      return u64(first + static_cast<uint64_t>(c / 2 * kLanes32 + c % 2)) + shl<1>(iota64());
    }
  }
};

// Those of any blocks.
template <class Scalar> struct Listed {
  const uint64_t* blocks;
  PYINIT_METHOD U64 chain(int c) const {
    if constexpr (sizeof(Scalar) == 8) return load(blocks + c * kLanes64);
    alignas(64) uint64_t of_chain[kLanes64];
    for (int i = 0; i < kLanes64; ++i) of_chain[i] = blocks[c / 2 * kLanes32 + c % 2 + 2 * i];
    return load(of_chain);
  }
};

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
  template <class Counters> [[gnu::always_inline]] inline void draw(const Counters& at,
                                                                    U32 (&w)[kChains / 2][4]) const {
    U64 x[4][kChains];
    for (int c = 0; c < kChains; ++c) x[0][c] = at.chain(c);
    rounds(x);
    for (int g = 0; g < kChains / 2; ++g) {
      for (int j = 0; j < 4; ++j) w[g][j] = weave(x[j][2 * g], x[j][2 * g + 1]);
    }
  }
  // Lane i of w[g][j] is words 2j and 2j + 1 of block g kLanes64 + i, the first one low.
  template <class Counters> [[gnu::always_inline]] inline void draw(const Counters& at, U64 (&w)[kChains][2]) const {
    U64 x[4][kChains];
    for (int c = 0; c < kChains; ++c) x[0][c] = at.chain(c);
    rounds(x);
    for (int g = 0; g < kChains; ++g) {
      for (int j = 0; j < 2; ++j) w[g][j] = (x[2 * j][g] & u64(0xFFFFFFFFU)) | shl<32>(x[2 * j + 1][g]);
    }
  }

 private:
  // From the counters in x[0] to the words in x[0] .. x[3]. Only the low half of each lane counts; the high half holds
  // what a round leaves there.
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

// The elements of one draw, side by side.
template <class Scalar, class Kernel, class Counters, class T>
[[gnu::always_inline]] inline void put(const Words& words, const Kernel& kernel, const Counters& at, T* to) {
  using L = Lanes<Scalar>;
  typename L::U w[L::kGroups][L::kVectors];
  words.draw(at, w);
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
}

// Elements side by side, of one stream. That all of it is one loop, with the words beside it on the stack, is worth a
// sixth of the time with AVX2's few registers.
template <class Scalar, class Kernel, class T>
void write_run(const Stream& stream, const Kernel& made, uint64_t first_block, uint64_t first, int64_t count, T* out) {
  using L = Lanes<Scalar>;
  constexpr int kPerBlock = L::kVectors, kBlocks = L::kCount * L::kGroups, kDraw = kPerBlock * kBlocks;
  const Kernel kernel = made;  // which no store can change
  const Words words(stream);
  uint64_t block = first_block + first / kPerBlock;
  int64_t skip = static_cast<int64_t>(first % kPerBlock);
  T part[kDraw];  // for draws that begin before `first` or end after the last element
  while (count > 0) {
    const bool is_whole = skip == 0 && count >= kDraw;
    put<Scalar>(words, kernel, Consecutive<Scalar>{block}, is_whole ? out : part);
    const int64_t n = count < kDraw - skip ? count : kDraw - skip;
    if (!is_whole) std::memcpy(out, part + skip, static_cast<size_t>(n) * sizeof(T));
    out += n;
    count -= n;
    block += kBlocks;
    skip = 0;
  }
}

// A kernel's elements of type T, of one stream, row by row.
template <class Kernel, class Scalar, class T> class Elements {
  using L = Lanes<Scalar>;
  static constexpr int kPerBlock = L::kVectors;  // a block holds one element of each vector
  static constexpr int kBlocks = L::kCount * L::kGroups;
  static constexpr int kDraw = kPerBlock * kBlocks;
  static constexpr int kShort = 2 * kPerBlock;  // elements that are copied as one

 public:
  Elements(const Kernel& kernel, const Stream& stream, uint64_t first_block)
      : kernel_(kernel), stream_(stream), words_(stream), first_block_(first_block) {}

  void write(const Rows& rows, T* out) const {
    Place at{rows.first, rows.columns, 0};
    T* const end = out + rows.rows * rows.columns;
    while (out != end) {
      if (at.index % kPerBlock != 0 || at.left < kDraw) {
        out = write_ends(at, rows, out, end);
        continue;
      }
      const int64_t count = at.left / kDraw * kDraw;
      write_run<Scalar>(stream_, kernel_, first_block_, at.index, count, out);
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
    put<Scalar>(words_, kernel_, Listed<Scalar>{blocks}, values);
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
  const Stream stream_;
  const Words words_;
  const uint64_t first_block_;
};

template <template <class> class Kernel, class Params, class T>
void generate(const Params& params, const Stream& stream, const Rows& rows, void* out) {
  using Scalar = typename ScalarOf<T>::Type;
  uint64_t first_block = 0;
  if constexpr (requires { params.first_block; }) first_block = params.first_block;
  const Kernel<Scalar> kernel(params);
  if (rows.rows == 1) {
    return write_run<Scalar>(stream, kernel, first_block, rows.first, rows.columns, static_cast<T*>(out));
  }
  const Elements<Kernel<Scalar>, Scalar, T> elements(kernel, stream, first_block);
  elements.write(rows, static_cast<T*>(out));
}

#define PYINIT_PER_DTYPE(Kernel, Params)                                                                \
  {generate<Kernel, Params, Half>, generate<Kernel, Params, BFloat16>, generate<Kernel, Params, float>, \
   generate<Kernel, Params, double>}

}  // namespace pyinit::PYINIT_NS
