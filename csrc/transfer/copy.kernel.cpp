// Copies that look at exponents on the way. Compiled once per instruction set.
#include "transfer/copy.hpp"
#include "simd/vec.hpp"

namespace pyinit::PYINIT_NS {
namespace {

constexpr uintptr_t kVectorBytes = kLanes32 * sizeof(uint32_t);

// All ones where the number that begins at the lane's top bit is infinite or NaN: its exponent is all ones.
PYINIT_INLINE U32 is_beyond(U32 x, uint32_t exponent) {
  return select(signed_greater(x & u32(exponent), u32(exponent - 1)), u32(~0U), u32(0));
}

PYINIT_INLINE U32 nonfinite(Half, U32 x) { return is_beyond(x, 0x7C000000U) | is_beyond(shl<16>(x), 0x7C000000U); }
PYINIT_INLINE U32 nonfinite(BFloat16, U32 x) { return is_beyond(x, 0x7F800000U) | is_beyond(shl<16>(x), 0x7F800000U); }
PYINIT_INLINE U32 nonfinite(float, U32 x) { return is_beyond(x, 0x7F800000U); }
PYINIT_INLINE U32 nonfinite(double, U32 x) {
  const U64 exponent = u64(0x7FF0000000000000U);
  return as_u32(select(signed_greater(as_u64(x) & exponent, exponent - u64(1)), u64(~0ULL), u64(0)));
}

template <bool past_caches> PYINIT_INLINE void put(uint32_t* to, U32 x) {
  if constexpr (past_caches) {
    stream(reinterpret_cast<float*>(to), from_bits(x));
  } else {
    store(to, x);
  }
}

PYINIT_INLINE bool any_set(U32 x) {
  uint32_t lanes[kLanes32], all = 0;
  store(lanes, x);
  for (int i = 0; i < kLanes32; ++i) all |= lanes[i];
  return all != 0;
}

// As many elements as are whole vectors, from where `to` is aligned on.
template <class T, bool past_caches> PYINIT_INLINE U32 copy_vectors(const uint32_t* from, uint32_t* to,
                                                                    int64_t vectors) {
  U32 bad = u32(0);
  for (int64_t i = 0; i < vectors; ++i) {
    const U32 x = load(from + i * kLanes32);
    bad = bad | nonfinite(T{}, x);
    put<past_caches>(to + i * kLanes32, x);
  }
  return bad;
}

// Fewer than a vector's elements.
template <class T> bool copy_some(const T* from, T* to, int64_t count) {
  uint32_t words[kLanes32] = {};
  std::memcpy(words, from, static_cast<size_t>(count) * sizeof(T));
  std::memcpy(to, words, static_cast<size_t>(count) * sizeof(T));
  return any_set(nonfinite(T{}, load(words)));
}

template <class T> bool copy(const void* source, void* target, int64_t count, bool past_caches) {
  constexpr int64_t kElements = static_cast<int64_t>(kVectorBytes / sizeof(T));
  const T* from = static_cast<const T*>(source);
  T* to = static_cast<T*>(target);
  const uintptr_t over = reinterpret_cast<uintptr_t>(to) % kVectorBytes;
  const int64_t before = static_cast<int64_t>((kVectorBytes - over) % kVectorBytes / sizeof(T));
  const int64_t head = before < count ? before : count;
  bool is_bad = copy_some(from, to, head);
  const int64_t vectors = (count - head) / kElements;
  const auto* words = reinterpret_cast<const uint32_t*>(from + head);
  auto* out = reinterpret_cast<uint32_t*>(to + head);
  const U32 bad =
      past_caches ? copy_vectors<T, true>(words, out, vectors) : copy_vectors<T, false>(words, out, vectors);
  if (past_caches) stream_fence();
  is_bad |= any_set(bad);
  const int64_t done = head + vectors * kElements;
  is_bad |= copy_some(from + done, to + done, count - done);
  return !is_bad;
}

}  // namespace

const CopyKernels copy_kernels = {{copy<Half>, copy<BFloat16>, copy<float>, copy<double>}};

}  // namespace pyinit::PYINIT_NS
