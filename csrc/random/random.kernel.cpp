// Random variates from Philox words. Compiled once per instruction set.
#include "random/generate.hpp"
#include "random/kernels.hpp"
#include "random/values.hpp"

namespace pyinit::PYINIT_NS {
namespace {

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
