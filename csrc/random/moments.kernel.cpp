// Sums for statistics. Compiled once per instruction set.
#include "random/power_sums.hpp"
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

// Over all lanes, member by member: i and i + 8, then i and i + 4, ...
template <class Operation, class Lane, class V, int n> PYINIT_INLINE double total(const Lane (&lanes)[n],
                                                                                  V Lane::* of) {
  constexpr int kDoubles = kSums / kLanes64;
  F64 x[kDoubles];
  for (int v = 0; v < n; ++v) as_doubles(lanes[v].*of, x + v * (kDoubles / n));
  for (int half = kDoubles / 2; half > 0; half /= 2) {
    for (int v = 0; v < half; ++v) x[v] = Operation{}(x[v], x[v + half]);
  }
  double rest[kLanes64];
  store(rest, x[0]);
  for (int half = kLanes64 / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) rest[i] = Operation{}(rest[i], rest[i + half]);
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
  DistanceSums<V> of[kVectors];
  for (int v = 0; v < kVectors; ++v) of[v].begin(first);
  for (const Element* const end = x + count; x < end; x += kSums * kParts) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      load_values(x + v * kLanes<T> * kParts, parts);
      for (const V& value : parts) of[v].add(value, first);
    }
  }
  using Lane = DistanceSums<V>;
  out = {static_cast<double>(lanes[0]), total<Sum>(of, &Lane::sum), total<Sum>(of, &Lane::squares),
         total<Least>(of, &Lane::low), total<Greatest>(of, &Lane::high)};
}

template <class U> PYINIT_INLINE int64_t total_count(U counts) {
  std::conditional_t<std::is_same_v<U, U32>, uint32_t, uint64_t> lanes[kLanes32];
  store(lanes, counts);
  int64_t all = 0;
  for (int i = 0; i < (std::is_same_v<U, U32> ? kLanes32 : kLanes64); ++i) all += static_cast<int64_t>(lanes[i]);
  return all;
}

template <class Element, bool has_bounds>
void powers(const void* values, int64_t count, double centre, double scale, const Bounds& bounds, Powers& out) {
  using T = std::conditional_t<std::is_same_v<Element, double>, double, float>;
  using V = Vec<T>;
  constexpr int kVectors = kSums / kLanes<T>, kParts = sizeof(T) / sizeof(Element);
  const Element* x = static_cast<const Element*>(values);
  const V about = vec(static_cast<T>(centre)), by = vec(static_cast<T>(scale)), low = vec(static_cast<T>(bounds.low)),
          high = vec(static_cast<T>(bounds.high));
  PowerSums<V> of[kVectors];
  Counts<V, has_bounds> counts;
  for (int v = 0; v < kVectors; ++v) of[v].begin();
  counts.begin();
  for (const Element* const end = x + count; x < end; x += kSums * kParts) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      V parts[kParts];
      load_values(x + v * kLanes<T> * kParts, parts);
      // The block behind this one, so that its first pass need not wait.
      __builtin_prefetch(x + v * kLanes<T> * kParts + kMeasured);
      for (const V& value : parts) {
        of[v].add(value, about, by);
        counts.add(value, low, high);
      }
    }
  }
  using Lane = PowerSums<V>;
  out = {total<Sum>(of, &Lane::first),  total<Sum>(of, &Lane::second), total<Sum>(of, &Lane::third),
         total<Sum>(of, &Lane::fourth), total_count(counts.zeros),     total_count(counts.low),
         total_count(counts.high)};
}

template <class Element>
void powers(const void* values, int64_t count, double centre, double scale, const Bounds* bounds, Powers& out) {
  return bounds != nullptr ? powers<Element, true>(values, count, centre, scale, *bounds, out)
                           : powers<Element, false>(values, count, centre, scale, {}, out);
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
    DistanceSums<V> of;
    of.begin(first);
    for (int64_t i = 0; i < rows; ++i) of.add(load(x + offsets[i]), first);
    store_doubles<T>(out.first + c, first);
    store_doubles<T>(out.sum + c, of.sum);
    store_doubles<T>(out.squares + c, of.squares);
    store_doubles<T>(out.min + c, of.low);
    store_doubles<T>(out.max + c, of.high);
  }
}

template <class T, bool has_bounds>
void column_powers(const void* values, const int64_t* offsets, int64_t rows, const double* centres,
                   const double* scales, const Bounds& bounds, ColumnPowers& out) {
  using V = Vec<T>;
  const V low = vec(static_cast<T>(bounds.low)), high = vec(static_cast<T>(bounds.high));
  for (int c = 0; c < kColumns; c += kLanes<T>) {
    const T* const x = static_cast<const T*>(values) + c;
    T lanes[kLanes<T>];
    for (int i = 0; i < kLanes<T>; ++i) lanes[i] = static_cast<T>(centres[c + i]);
    const V about = load(lanes);
    for (int i = 0; i < kLanes<T>; ++i) lanes[i] = static_cast<T>(scales[c + i]);
    const V by = load(lanes);
    PowerSums<V> of;
    Counts<V, has_bounds> counts;
    of.begin();
    counts.begin();
    for (int64_t i = 0; i < rows; ++i) {
      const V value = load(x + offsets[i]);
      of.add(value, about, by);
      counts.add(value, low, high);
    }
    store_doubles<T>(out.first + c, of.first);
    store_doubles<T>(out.second + c, of.second);
    store_doubles<T>(out.third + c, of.third);
    store_doubles<T>(out.fourth + c, of.fourth);
    store_counts(out.zeros + c, counts.zeros);
    store_counts(out.low + c, counts.low);
    store_counts(out.high + c, counts.high);
  }
}

template <class T>
void column_powers(const void* values, const int64_t* offsets, int64_t rows, const double* centres,
                   const double* scales, const Bounds* bounds, ColumnPowers& out) {
  return bounds != nullptr ? column_powers<T, true>(values, offsets, rows, centres, scales, *bounds, out)
                           : column_powers<T, false>(values, offsets, rows, centres, scales, {}, out);
}

template <class T>
void add_samples(const void* values, const int64_t* offsets, int64_t samples, int64_t count, const double* first,
                 double* sum, double* squares) {
  constexpr int kVectors = kLanes<T> * sizeof(T) == 64 ? 1 : 2;  // whole lines, as far as there are registers
  constexpr int kParts = kVectors * kLanes<T> / kLanes64;
  const T* const x = static_cast<const T*>(values);
  int64_t i = 0;
  for (; i + kVectors * kLanes<T> <= count; i += kVectors * kLanes<T>) {
    F64 about[kParts], total[kParts], total_squares[kParts];
    for (int p = 0; p < kParts; ++p) {
      about[p] = load(first + i + p * kLanes64);
      total[p] = load(sum + i + p * kLanes64);
      total_squares[p] = load(squares + i + p * kLanes64);
    }
    for (int64_t s = 0; s < samples; ++s) {
      F64 parts[kParts];
      for (int v = 0; v < kVectors; ++v) {
        as_doubles(load(x + offsets[s] + i + v * kLanes<T>), parts + v * (kParts / kVectors));
      }
#pragma GCC unroll 8
      for (int p = 0; p < kParts; ++p) {
        const F64 distance = parts[p] - about[p];
        total[p] = total[p] + distance;
        total_squares[p] = total_squares[p] + distance * distance;
      }
    }
    for (int p = 0; p < kParts; ++p) {
      store(sum + i + p * kLanes64, total[p]);
      store(squares + i + p * kLanes64, total_squares[p]);
    }
  }
  for (int64_t s = 0; s < samples; ++s) {
    for (int64_t j = i; j < count; ++j) {
      const double distance = static_cast<double>(x[offsets[s] + j]) - first[j];
      sum[j] += distance;
      squares[j] += distance * distance;
    }
  }
}

void add_variances(const double* sum, const double* squares, int64_t count, double share, double* lanes) {
  constexpr int kVectors = kColumns / kLanes64;
  const F64 by = vec(share);
  F64 of[kVectors];
  for (int v = 0; v < kVectors; ++v) of[v] = load(lanes + v * kLanes64);
  int64_t i = 0;
  for (; i + kColumns <= count; i += kColumns) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const F64 s = load(sum + i + v * kLanes64);
      of[v] = of[v] + max(load(squares + i + v * kLanes64) - s * s * by, constant<F64>(0));
    }
  }
  for (int v = 0; v < kVectors; ++v) store(lanes + v * kLanes64, of[v]);
  for (int64_t c = 0; i < count; ++i, ++c) lanes[c] += std::max(0.0, squares[i] - sum[i] * sum[i] * share);
}

}  // namespace

const MomentsKernels moments_kernels = {{sums<Half>, sums<BFloat16>, sums<float>, sums<double>},
                                        {powers<Half>, powers<BFloat16>, powers<float>, powers<double>},
                                        {column_sums<float>, column_sums<double>},
                                        {column_powers<float>, column_powers<double>},
                                        {add_samples<float>, add_samples<double>},
                                        add_variances};

}  // namespace pyinit::PYINIT_NS
