// Sums for statistics. Compiled once per instruction set.
#include "random/moments.hpp"
#include "simd/math.hpp"

namespace pyinit::PYINIT_NS {
namespace {

constexpr int kSums = 16;  // lanes

// The vectors of lanes v kLanes<T> ... of the elements from `p` on. 16-bit types lie in 32-bit words by twos, so there
// are two of them.
PYINIT_INLINE void load_values(const float* p, F32 (&x)[1]) { x[0] = load(p); }
PYINIT_INLINE void load_values(const double* p, F64 (&x)[1]) { x[0] = load(p); }

PYINIT_INLINE void load_values(const BFloat16* p, F32 (&x)[2]) {
  const U32 words = load(reinterpret_cast<const uint32_t*>(p));
  x[0] = from_bits(shl<16>(words));
  x[1] = from_bits(words & u32(0xFFFF0000U));
}
PYINIT_INLINE void load_values(const Half* p, F32 (&x)[2]) {
  const U32 words = load(reinterpret_cast<const uint32_t*>(p));
  x[0] = from_half(shl<16>(words));
  x[1] = from_half(words & u32(0xFFFF0000U));
}

PYINIT_INLINE void as_doubles(F32 x, F64* to) { widen(x, to[0], to[1]); }
PYINIT_INLINE void as_doubles(F64 x, F64* to) { to[0] = x; }

// The sum over all lanes: i + (i + 8), then i + (i + 4), ...
template <class V, int n> PYINIT_INLINE double total(const V (&lanes)[n]) {
  constexpr int kDoubles = kSums / kLanes64;
  F64 x[kDoubles];
  for (int v = 0; v < n; ++v) as_doubles(lanes[v], x + v * (kDoubles / n));
  for (int half = kDoubles / 2; half > 0; half /= 2) {
    for (int v = 0; v < half; ++v) x[v] = x[v] + x[v + half];
  }
  double rest[kLanes64];
  store(rest, x[0]);
  for (int half = kLanes64 / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) rest[i] += rest[i + half];
  }
  return rest[0];
}

template <class Element> void sums(const void* values, int64_t count, Sums& out) {
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
        squares[v] = multiply_add(distance, distance, squares[v]);
        low[v] = min(value, low[v]);
        high[v] = max(value, high[v]);
      }
    }
  }
  out.first = static_cast<double>(lanes[0]);
  out.sum = total(sum);
  out.squares = total(squares);
  for (int v = 1; v < kVectors; ++v) {
    low[0] = min(low[0], low[v]);
    high[0] = max(high[0], high[v]);
  }
  T highest[kLanes<T>];
  store(lanes, low[0]);
  store(highest, high[0]);
  for (int i = 1; i < kLanes<T>; ++i) {
    lanes[0] = lanes[i] < lanes[0] ? lanes[i] : lanes[0];
    highest[0] = highest[i] > highest[0] ? highest[i] : highest[0];
  }
  out.min = static_cast<double>(lanes[0]);
  out.max = static_cast<double>(highest[0]);
}

// Counts in lanes as wide as the values.
PYINIT_INLINE U32 counted(M32 m, U32 counts) { return counts + select(m, u32(1), u32(0)); }
PYINIT_INLINE U64 counted(M64 m, U64 counts) { return counts + select(m, u64(1), u64(0)); }
PYINIT_INLINE U32 no_counts(F32) { return u32(0); }
PYINIT_INLINE U64 no_counts(F64) { return u64(0); }

template <class U> PYINIT_INLINE int64_t total_count(U counts) {
  std::conditional_t<std::is_same_v<U, U32>, uint32_t, uint64_t> lanes[kLanes32];
  store(lanes, counts);
  int64_t all = 0;
  for (int i = 0; i < (std::is_same_v<U, U32> ? kLanes32 : kLanes64); ++i) all += static_cast<int64_t>(lanes[i]);
  return all;
}

template <class Element>
void powers(const void* values, int64_t count, double centre, double scale, const Bounds& bounds, Powers& out) {
  using T = std::conditional_t<std::is_same_v<Element, double>, double, float>;
  using V = Vec<T>;
  constexpr int kVectors = kSums / kLanes<T>, kParts = sizeof(T) / sizeof(Element);
  const Element* x = static_cast<const Element*>(values);
  const V about = vec(static_cast<T>(centre)), by = vec(static_cast<T>(scale)), zero = vec(T{0}),
          low_bound = vec(static_cast<T>(bounds.low)), high_bound = vec(static_cast<T>(bounds.high));
  V first[kVectors], second[kVectors], third[kVectors], fourth[kVectors];
  auto zeros = no_counts(zero), low = zeros, high = zeros;
  for (int v = 0; v < kVectors; ++v) first[v] = second[v] = third[v] = fourth[v] = zero;
  for (const Element* const end = x + count; x < end; x += kSums * kParts) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      V parts[kParts];
      load_values(x + v * kLanes<T> * kParts, parts);
      for (const V& value : parts) {
        const V z = (value - about) * by, square = z * z;
        first[v] = first[v] + z;
        second[v] = second[v] + square;
        third[v] = multiply_add(square, z, third[v]);
        fourth[v] = multiply_add(square, square, fourth[v]);
        zeros = counted(equal(value, zero), zeros);
        low = counted(less_equal(value, low_bound), low);
        high = counted(less_equal(high_bound, value), high);
      }
    }
  }
  out = {total(first),       total(second),    total(third),     total(fourth),
         total_count(zeros), total_count(low), total_count(high)};
}

template <class T> PYINIT_INLINE void store_doubles(double* to, Vec<T> x) {
  constexpr int kParts = kLanes<T> / kLanes64;
  F64 parts[kParts];
  as_doubles(x, parts);
  for (int i = 0; i < kParts; ++i) store(to + i * kLanes64, parts[i]);
}

template <class U> PYINIT_INLINE void store_counts(int64_t* to, U counts) {
  constexpr bool kIsWide = std::is_same_v<U, U64>;
  std::conditional_t<kIsWide, uint64_t, uint32_t> lanes[kLanes32];
  store(lanes, counts);
  for (int i = 0; i < (kIsWide ? kLanes64 : kLanes32); ++i) to[i] = static_cast<int64_t>(lanes[i]);
}

template <class T> void column_sums(const void* values, const int64_t* offsets, int64_t rows, ColumnSums& out) {
  using V = Vec<T>;
  for (int c = 0; c < kColumns; c += kLanes<T>) {
    const T* const x = static_cast<const T*>(values) + c;
    const V first = load(x + offsets[0]);
    V sum = vec(T{0}), squares = sum, low = first, high = first;
    for (int64_t i = 0; i < rows; ++i) {
      const V value = load(x + offsets[i]), distance = value - first;
      sum = sum + distance;
      squares = multiply_add(distance, distance, squares);
      low = min(value, low);
      high = max(value, high);
    }
    store_doubles<T>(out.first + c, first);
    store_doubles<T>(out.sum + c, sum);
    store_doubles<T>(out.squares + c, squares);
    store_doubles<T>(out.min + c, low);
    store_doubles<T>(out.max + c, high);
  }
}

template <class T>
void column_powers(const void* values, const int64_t* offsets, int64_t rows, const double* centres,
                   const double* scales, const Bounds& bounds, ColumnPowers& out) {
  using V = Vec<T>;
  const V zero = vec(T{0}), low_bound = vec(static_cast<T>(bounds.low)), high_bound = vec(static_cast<T>(bounds.high));
  for (int c = 0; c < kColumns; c += kLanes<T>) {
    const T* const x = static_cast<const T*>(values) + c;
    T lanes[kLanes<T>];
    for (int i = 0; i < kLanes<T>; ++i) lanes[i] = static_cast<T>(centres[c + i]);
    const V about = load(lanes);
    for (int i = 0; i < kLanes<T>; ++i) lanes[i] = static_cast<T>(scales[c + i]);
    const V by = load(lanes);
    V first = zero, second = zero, third = zero, fourth = zero;
    auto zeros = no_counts(zero), low = zeros, high = zeros;
    for (int64_t i = 0; i < rows; ++i) {
      const V value = load(x + offsets[i]), z = (value - about) * by, square = z * z;
      first = first + z;
      second = second + square;
      third = multiply_add(square, z, third);
      fourth = multiply_add(square, square, fourth);
      zeros = counted(equal(value, zero), zeros);
      low = counted(less_equal(value, low_bound), low);
      high = counted(less_equal(high_bound, value), high);
    }
    store_doubles<T>(out.first + c, first);
    store_doubles<T>(out.second + c, second);
    store_doubles<T>(out.third + c, third);
    store_doubles<T>(out.fourth + c, fourth);
    store_counts(out.zeros + c, zeros);
    store_counts(out.low + c, low);
    store_counts(out.high + c, high);
  }
}

template <class T>
void add_distances(const void* values, int64_t count, const double* first, double* sum, double* squares) {
  constexpr int kParts = kLanes<T> / kLanes64;
  const T* const x = static_cast<const T*>(values);
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) {
    F64 parts[kParts];
    as_doubles(load(x + i), parts);
    for (int p = 0; p < kParts; ++p) {
      const int64_t at = i + p * kLanes64;
      const F64 distance = parts[p] - load(first + at);
      store(sum + at, load(sum + at) + distance);
      store(squares + at, load(squares + at) + distance * distance);
    }
  }
  for (; i < count; ++i) {
    const double distance = static_cast<double>(x[i]) - first[i];
    sum[i] += distance;
    squares[i] += distance * distance;
  }
}

}  // namespace

const MomentsKernels moments_kernels = {{sums<Half>, sums<BFloat16>, sums<float>, sums<double>},
                                        {powers<Half>, powers<BFloat16>, powers<float>, powers<double>},
                                        {column_sums<float>, column_sums<double>},
                                        {column_powers<float>, column_powers<double>},
                                        {add_distances<float>, add_distances<double>}};

}  // namespace pyinit::PYINIT_NS
