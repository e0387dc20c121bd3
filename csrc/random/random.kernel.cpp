// Random variates from Philox words. Compiled once per instruction set.
#include "random/generate.hpp"
#include "random/kernels.hpp"
#include "random/values.hpp"

namespace pyinit::PYINIT_NS {
namespace {

// ---- Normals, some of them drawn anew ---------------------------------------------------------------------

// By an element's place among those of its block, which its index ends with.
PYINIT_INLINE U32 chosen(const U32 (&w)[4], const uint64_t* index) {
  alignas(64) uint32_t low[kLanes32];
  for (int i = 0; i < kLanes32; ++i) low[i] = static_cast<uint32_t>(index[i]);
  const U32 at = load(low);
  const M32 is_odd = sign_bit(shl<31>(at)), is_high = sign_bit(shl<30>(at));
  return select(is_high, select(is_odd, w[3], w[2]), select(is_odd, w[1], w[0]));
}
PYINIT_INLINE U64 chosen(const U64 (&w)[2], const uint64_t* index) {
  return select(sign_bit(shl<63>(load(index))), w[1], w[0]);
}

// Elements whose normals lie outside, drawn anew as soon as they fill vectors.
template <class T> class Outside {
  using Scalar = typename ScalarOf<T>::Type;
  using L = Lanes<Scalar>;

 public:
  Outside(const TruncNormalKernel<Scalar>& kernel, const Stream& stream, const Rows& rows, T* out)
      : kernel_(kernel), words_(stream), rows_(rows), out_(out) {}

  // Elements `from`, `from` + 1, ... where bits are set.
  void add(uint64_t bits, int64_t from) {
    const int n = __builtin_popcountll(bits);
    uint32_t* const to = at_ + count_;
    int i = 0;
    const auto take = [&](int several) {
      for (const int end = i + several; i < end; ++i) {
        to[i] = static_cast<uint32_t>(from + __builtin_ctzll(bits | kTopBit<U64>));
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
  static constexpr int kDraws = 2;  // side by side
  static constexpr int kOfDraw = L::kCount * L::kGroups, kTogether = kDraws * kOfDraw;

  uint64_t index_of(uint32_t at) const {
    if (rows_.rows == 1) return rows_.first + at;
    const uint32_t columns = static_cast<uint32_t>(rows_.columns), row = at / columns;
    return rows_.first + row * static_cast<uint64_t>(rows_.step) + (at - row * columns);
  }

  void redraw(int count) {
    alignas(64) uint64_t index[kTogether], blocks[kTogether];
    for (int i = 0; i < kTogether; ++i) {
      index[i] = index_of(at_[i]);
      blocks[i] = index[i] / L::kVectors + kFurther;
    }
    typename L::U w[kDraws * L::kGroups];
    typename L::F x[kDraws * L::kGroups];
    for (int d = 0; d < kDraws; ++d) {
      typename L::U all[L::kGroups][L::kVectors];
      words_.draw(Listed<Scalar>{blocks + d * kOfDraw}, all);
      for (int g = 0; g < L::kGroups; ++g) {
        w[d * L::kGroups + g] = chosen(all[g], index + d * kOfDraw + g * L::kCount);
      }
    }
    kernel_(w, x);
    T values[kTogether];
    for (int g = 0; g < kDraws * L::kGroups; ++g) store_as(values + g * L::kCount, x[g]);
    for (int i = 0; i < count; ++i) out_[at_[i]] = values[i];
    count_ -= count;
    for (int i = 0; i < count_; ++i) at_[i] = at_[kTogether + i];
  }

  const TruncNormalKernel<Scalar> kernel_;
  const Words words_;
  const Rows rows_;
  T* const out_;
  int count_ = 0;
  uint32_t at_[kTogether + 64 + 8] = {};
};

// The rows of a tile: so many elements of a row, or so many rows.
template <int most, int per_block> PYINIT_INLINE Rows tile_of(const Rows& rows, int64_t row, int64_t column) {
  const uint64_t first = rows.first + static_cast<uint64_t>(row * rows.step + column);
  if (rows.columns > most) {
    // All but the first one of a row begin with a block.
    const int64_t whole = most - static_cast<int64_t>(first % per_block), left = rows.columns - column;
    return {first, left < whole ? left : whole};
  }
  const int64_t whole = most / rows.columns, left = rows.rows - row;
  return {first, rows.columns, left < whole ? left : whole, rows.step};
}

template <class T>
void generate_redrawn(const RedrawnNormal& params, const Stream& stream, const Rows& rows, void* destination) {
  using Scalar = typename ScalarOf<T>::Type;
  using L = Lanes<Scalar>;
  constexpr int kTile = 1024, kWord = 64;
  constexpr int64_t kPlaces = int64_t{1} << 31;
  T* const out = static_cast<T*>(destination);
  if (rows.rows == 1 && rows.columns > kPlaces) {
    generate_redrawn<T>(params, stream, {rows.first, kPlaces}, out);
    return generate_redrawn<T>(params, stream, {rows.first + kPlaces, rows.columns - kPlaces}, out + kPlaces);
  }
  const RedrawnNormalKernel<Scalar> kernel(params);
  Outside<T> outside(kernel.outside, stream, rows, out);
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
  const int64_t count = rows.rows * rows.columns;
  for (int64_t begin = 0; begin < count;) {
    const Rows tile = tile_of<kTile, L::kVectors>(rows, begin / rows.columns, begin % rows.columns);
    const int64_t n = tile.rows * tile.columns;
    generate<NormalKernel, Normal, Scalar>({0, 1}, stream, tile, z);
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
