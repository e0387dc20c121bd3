// Sums for means and standard deviations. Compiled once per instruction set.
#include "random/moments.hpp"
#include "simd/vec.hpp"

namespace pyinit::PYINIT_NS {
namespace {

constexpr int kSums = 16;  // lanes of LaneSums

// The vectors of lanes v kLanes<T> ... of the elements from `p` on. 16-bit types lie in 32-bit words by twos, so there
// are two of them.
PYINIT_INLINE void load_values(const float* p, F32 (&x)[1]) { x[0] = load(p); }
PYINIT_INLINE void load_values(const double* p, F64 (&x)[1]) { x[0] = load(p); }

PYINIT_INLINE void load_values(const BFloat16* p, F32 (&x)[2]) {
  const U32 words = load(reinterpret_cast<const uint32_t*>(p));
  x[0] = from_bits(shl<16>(words));
  x[1] = from_bits(words & u32(0xFFFF0000U));
}
// From the float16 in the high half of each lane. Its exponent counts from -15, that of float32 from -127.
PYINIT_INLINE F32 from_half(U32 high) {
  const U32 exponent = u32(0x7C000000U), magnitude = high & u32(0x7FFFFFFFU);
  const U32 value = bits(from_bits(shr<3>(magnitude)) * f32(0x1p112F));
  const M32 is_beyond = signed_greater(magnitude, exponent - u32(1));  // infinite or NaN
  return from_bits((high & u32(0x80000000U)) | value | select(is_beyond, u32(0x7F800000U), u32(0)));
}
PYINIT_INLINE void load_values(const Half* p, F32 (&x)[2]) {
  const U32 words = load(reinterpret_cast<const uint32_t*>(p));
  x[0] = from_half(shl<16>(words));
  x[1] = from_half(words & u32(0xFFFF0000U));
}

// Products are not fused with sums: baseline is to have the same bits.
template <class Element> void sums(const void* values, int64_t count, LaneSums& out) {
  using T = std::conditional_t<std::is_same_v<Element, double>, double, float>;
  using V = Vec<T>;
  constexpr int kVectors = kSums / kLanes<T>, kParts = sizeof(T) / sizeof(Element);
  const Element* x = static_cast<const Element*>(values);
  V parts[kParts];
  load_values(x, parts);
  T lanes[kLanes<T>];
  store(lanes, parts[0]);
  const V first = vec(lanes[0]);
  V sum[kVectors], squares[kVectors], low[kVectors], high[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    sum[v] = squares[v] = vec(T{0});
    low[v] = high[v] = first;
  }
  for (const Element* const end = x + count; x < end; x += kSums * kParts) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      load_values(x + v * kLanes<T> * kParts, parts);
      for (const V& value : parts) {
        const V distance = value - first;
        sum[v] = sum[v] + distance;
        squares[v] = squares[v] + distance * distance;
        low[v] = min(value, low[v]);
        high[v] = max(value, high[v]);
      }
    }
  }
  out.first = static_cast<double>(lanes[0]);
  for (int v = 0; v < kVectors; ++v) {
    const auto save = [v, &lanes](V from, double(&to)[kSums]) {
      store(lanes, from);
      for (int i = 0; i < kLanes<T>; ++i) to[v * kLanes<T> + i] = static_cast<double>(lanes[i]);
    };
    save(sum[v], out.sum);
    save(squares[v], out.squares);
    save(low[v], out.min);
    save(high[v], out.max);
  }
}

}  // namespace

const MomentsKernels moments_kernels = {{sums<Half>, sums<BFloat16>, sums<float>, sums<double>}};

}  // namespace pyinit::PYINIT_NS
